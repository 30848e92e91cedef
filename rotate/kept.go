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
	made := ""
	if !before.IsZero() {
		made = " (made before " + before.UTC().Format(time.RFC3339) + ")"
	}
	r.report.Warnings = append(r.report.Warnings, fmt.Sprintf(
		"%s under key %q already and not replaced%s: reseal key rotate %[2]s, then reseal rotate run --key %[2]s --mode reencrypt",
		dataKeys(kept), r.report.To, made))
}

// dataKeys says that so many data keys were somewhere.
func dataKeys(n int64) string {
	if n == 1 {
		return "1 data key was"
	}
	return fmt.Sprintf("%d data keys were", n)
}
