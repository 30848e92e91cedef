package rotate

import (
	"context"

	"github.com/reseal/reseal/store"
)

// Status returns all rotation jobs, oldest first. It works on a sealed store.
func Status(ctx context.Context, s *store.Store) ([]store.Job, error) { return s.Jobs(ctx) }

// Pause stops a job after its batch, whichever process runs it; that process
// waits.
func Pause(ctx context.Context, s *store.Store, jobID string) error { return s.PauseJob(ctx, jobID) }

// Resume lets a paused job go on. If the process that ran it is gone, Run with
// the same options goes on.
func Resume(ctx context.Context, s *store.Store, jobID string) error { return s.ResumeJob(ctx, jobID) }

// Cancel ends a job where it is: every secret stays whole under the key that it
// is under.
func Cancel(ctx context.Context, s *store.Store, jobID string) error { return s.CancelJob(ctx, jobID) }

// Verification is what Verify found.
type Verification struct {
	Mode      Mode
	From, To  string
	Prefix    string
	OK        bool
	Remaining int64  // data keys still under what should have been left
	Checked   int64  // versions opened under the target
	Digest    string // of what was checked, as in a receipt
	Failures  []store.Failure
	Failed    int64 // Failures has the first 1,000
}

// Verify checks what a rotation with these options should have reached: nothing
// is left under the old key, and every version that belongs under the target
// opens there and is configured so. It changes nothing. The error is about the
// check itself; what it finds is in the Verification.
func Verify(ctx context.Context, s *store.Store, o Options) (Verification, error) {
	if err := o.fill(); err != nil {
		return Verification{}, err
	}
	spec := o.spec()
	v := Verification{Mode: o.Mode, From: spec.From, To: spec.To, Prefix: spec.Prefix}
	var err error
	if v.Remaining, err = s.RotationRemaining(ctx, spec); err != nil {
		return v, err
	}
	back, err := s.ReadBackRotation(ctx, spec, func(looked int64) {
		if o.Progress != nil {
			o.Progress(Progress{Mode: o.Mode, From: v.From, To: v.To, Phase: Checking, Done: looked})
		}
	})
	v.Checked, v.Digest, v.Failures, v.Failed = back.Checked, back.Digest, back.Failures, back.Failed+back.Left
	v.OK = err == nil && v.Remaining == 0 && v.Failed == 0
	return v, err
}

// VerifyReceipt checks that a receipt is what this store wrote when a job was
// completed, and whether what it says is true now: Remaining is what is under
// the key, or its versions, that were left then. It changes nothing.
//
// Errors: store.ErrDamaged for a receipt of another store, one that was altered
// or forged, and one whose job's row is missing or says otherwise.
func VerifyReceipt(ctx context.Context, s *store.Store, rc store.Receipt, progress func(Progress)) (Verification, error) {
	v := Verification{Mode: Mode(rc.Mode), From: rc.From, To: rc.To, Prefix: rc.Prefix}
	back, err := s.VerifyReceipt(ctx, rc, func(looked int64) {
		if progress != nil {
			progress(Progress{Job: rc.Job, Mode: v.Mode, From: v.From, To: v.To, Phase: Checking, Done: looked})
		}
	})
	v.Remaining, v.Failed = back.Left, back.Failed+back.Left
	v.Checked, v.Digest, v.Failures = back.Checked, back.Digest, back.Failures
	v.OK = err == nil && v.Failed == 0
	return v, err
}
