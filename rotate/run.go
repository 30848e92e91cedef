package rotate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reseal/reseal/store"
)

// ErrIncomplete is returned by Run when some secrets were left where they are;
// Report.Failures says which and why. Running it again after that is mended
// finishes the job.
var ErrIncomplete = errors.New("rotation is incomplete")

// Run starts a rotation, or goes on with the open one that is the same, and
// stays with it to its end. A second run finds nothing to do.
//
// The report is good whatever the error. When ctx is cancelled the batch is
// finished and the error wraps ctx's. Other errors: ErrIncomplete;
// store.ErrDamaged when a version did not open when it was read back;
// store.ErrJobRunning; store.ErrJobCancelled when somebody cancelled it
// meanwhile; store.ErrKeyUnavailable; store.ErrNotFound; store.ErrInvalid.
func Run(ctx context.Context, s *store.Store, o Options) (Report, error) {
	if err := o.fill(); err != nil {
		return Report{Mode: o.Mode, From: o.From, To: o.To}, err
	}
	if o.OlderThan > 0 {
		return runOlder(ctx, s, o)
	}
	return runOne(ctx, s, o)
}

// run is one run of one job.
type run struct {
	ctx    context.Context
	s      *store.Store
	o      Options
	job    *store.Rotation
	report Report
	began  time.Time
	paused time.Duration // of the time since, by somebody else
	rows   atomic.Int64  // of the next batch
	pace   pacer
	unkeep func() // ends the goroutine that keeps the lease
}

func runOne(ctx context.Context, s *store.Store, o Options) (Report, error) {
	spec := o.spec()
	r := &run{ctx: ctx, s: s, o: o, began: time.Now(), pace: pacer{rate: o.Rate}}
	r.rows.Store(int64(min(o.Batch, firstRows)))
	r.report = Report{Mode: o.Mode, From: spec.From, To: spec.To, Prefix: spec.Prefix, State: store.JobIncomplete}
	job, err := s.StartRotation(ctx, spec)
	if err != nil {
		return r.report, fmt.Errorf("rotate: %w", err)
	}
	r.take(job)
	if err = r.work(); err != nil {
		err = fmt.Errorf("rotate: %w", err)
	}
	return r.close(err)
}

// take makes job the run's, and keeps its lease meanwhile.
func (r *run) take(job *store.Rotation) {
	ctx, stop := context.WithCancel(context.WithoutCancel(r.ctx))
	r.job = job
	r.o.MadeBefore, r.o.TouchedBy = job.Job().MadeBefore, 0 // what it is, once for all
	r.report.MadeBefore = r.o.MadeBefore
	var keeper sync.WaitGroup
	keeper.Go(func() { job.Keep(ctx) })
	r.unkeep = func() { stop(); keeper.Wait() }
}

// close gives the lease back and fills the report.
func (r *run) close(err error) (Report, error) {
	r.unkeep()
	free := context.WithoutCancel(r.ctx)
	j, rep := r.job.Job(), &r.report
	if j.State != store.JobComplete {
		if rerr := r.job.Release(free); err == nil {
			err = rerr
		}
		if _, rerr := r.job.Remaining(free); rerr == nil {
			j = r.job.Job()
		}
		j.State = store.JobIncomplete
	}
	if errors.Is(err, store.ErrJobCancelled) {
		j.State = store.JobCancelled
	}
	rep.Job, rep.State, rep.Receipt, rep.ToVersion = j.ID, j.State, j.Receipt, j.ToVersion
	rep.Total, rep.Done, rep.Remaining = j.Total, j.Done, j.Remaining
	rep.Elapsed = time.Since(r.began)
	r.warn(free)
	return *rep, err
}

// work moves everything, reads it back and completes the job.
func (r *run) work() error {
	for {
		if r.job.Idle() {
			again, err := r.lookOnly()
			if again && err == nil {
				continue
			}
			return err
		}
		if err := r.pass(); err != nil {
			return err
		}
		left, err := r.job.Remaining(r.ctx)
		if err != nil {
			return err
		}
		if left > 0 {
			continue
		}
		done, err := r.conclude()
		if err != nil {
			return err
		}
		if done {
			return r.judge()
		}
	}
}

// lookOnly reads back what was found to be under the target already. If
// somebody put a secret back meanwhile there is a job to start after all.
func (r *run) lookOnly() (again bool, err error) {
	back, err := r.readBack()
	if err != nil {
		return false, err
	}
	if back.Left > 0 {
		job, err := r.s.StartRotation(r.ctx, r.o.spec())
		if err == nil {
			r.unkeep()
			r.take(job)
		}
		return true, err
	}
	r.took(back)
	return false, r.judge()
}

// judge makes an error of what the read-back found.
func (r *run) judge() error {
	if r.report.Verified {
		return nil
	}
	f := r.report.Failures[0]
	return fmt.Errorf("%w: %d of %d versions that were read back, the first secret %q version %d: %s",
		store.ErrDamaged, r.report.Failed, r.report.Checked, f.Secret, f.Version, f.Error)
}

// conclude is the end: read back, off the disk, count zero, receipt.
func (r *run) conclude() (done bool, err error) {
	back, err := r.readBack()
	if err != nil || back.Left > 0 {
		// Somebody put a secret back under the old key meanwhile: once more.
		return false, err
	}
	r.progress(Settling)
	disk, err := r.job.Settle(r.ctx, r.o.Scrub)
	if err != nil {
		return false, err
	}
	r.report.CheckpointBusy = disk.Busy
	done, err = r.job.Finish(r.ctx, back, disk)
	if done {
		r.took(back)
	}
	return done, err
}

func (r *run) readBack() (store.ReadBack, error) {
	return r.s.ReadBackRotation(r.ctx, r.o.spec(), func(looked int64) {
		if r.o.Progress != nil {
			p := r.state(Checking)
			p.Done = looked
			r.o.Progress(p)
		}
	})
}

func (r *run) took(back store.ReadBack) {
	r.report.Checked, r.report.Verified = back.Checked, back.Failed == 0
	r.report.Failures, r.report.Failed = back.Failures, back.Failed
}

// warn tells what a rotation does not do.
func (r *run) warn(ctx context.Context) {
	from, to := r.report.From, r.report.To
	r.warnOfKept(ctx)
	if from == to {
		return
	}
	if k, err := r.s.Key(ctx, from); err == nil && k.Default {
		r.report.Warnings = append(r.report.Warnings,
			fmt.Sprintf("new secrets still go under %q: reseal key set-default %s", from, to))
	}
}

func (r *run) state(phase Phase) Progress {
	j := r.job.Job()
	p := Progress{
		Job:       j.ID,
		Mode:      r.o.Mode,
		From:      r.report.From,
		To:        r.report.To,
		Phase:     phase,
		State:     j.State,
		Total:     j.Total,
		Done:      j.Done,
		Remaining: j.Remaining,
		Failed:    r.report.Failed,
		Elapsed:   time.Since(r.began),
		Rate:      r.report.Rate,
	}
	if phase == Paused {
		p.State = store.JobPaused
	}
	if p.Rate > 0 {
		p.Left = time.Duration(float64(j.Remaining) / p.Rate * float64(time.Second))
	}
	return p
}

func (r *run) progress(phase Phase) {
	if r.o.Progress != nil {
		r.o.Progress(r.state(phase))
	}
}
