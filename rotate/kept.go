package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/reseal/reseal/store"
)

// warnOfKept tells which data keys a reencryption left because they were under
// the target's newest version already: a rotation moves what is elsewhere.
func (r *run) warnOfKept(ctx context.Context) {
	if r.o.Mode != Reencrypt || r.report.State != store.JobComplete {
		return
	}
	before := r.o.MadeBefore
	if before.IsZero() {
		before = r.job.Job().StartedAt // zero if there was nothing to do
	}
	kept, err := r.s.DataKeysMadeBefore(ctx, r.report.To, r.report.Prefix, before)
	if err != nil || kept == 0 {
		return
	}
	what, were := "1 data key", "was"
	if kept > 1 {
		what, were = fmt.Sprintf("%d data keys", kept), "were"
	}
	if !before.IsZero() {
		what += " made before " + before.UTC().Format(time.RFC3339)
	}
	r.report.Warnings = append(r.report.Warnings, fmt.Sprintf(
		"%s %s under key %q already and %[2]s not replaced: reseal key rotate %[3]s, then reseal rotate run --key %[3]s --mode reencrypt",
		what, were, r.report.To))
}
