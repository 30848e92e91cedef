package rotate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reseal/reseal/store"
)

// maxFailures is how many failures a report tells one by one.
const maxFailures = 1000

// pass goes once through everything that is left. What failed in it has failed
// for good if the pass moved nothing: another would only fail again.
func (r *run) pass() error {
	r.report.Failures, r.report.Failed = nil, 0
	before := r.report.Moved
	steps := r.secrets
	if r.job.ByVersion() {
		steps = r.dataKeys
	}
	if err := steps(); err != nil {
		return err
	}
	if r.report.Moved > before {
		return nil
	}
	left, err := r.job.Remaining(r.ctx)
	if err != nil || left == 0 {
		return err
	}
	if r.report.Failed == 0 {
		r.report.Failed = left
		r.report.Failures = []store.Failure{{
			Key:    r.report.From,
			Error:  fmt.Sprintf("%d data keys under it belong to no secret", left),
			Remedy: "reseal verify",
		}}
	}
	return ErrIncomplete
}

// secrets moves whole secrets, each batch whole in its transaction.
func (r *run) secrets() error {
	var after int64
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		b, err := r.job.Step(r.ctx, after, r.pace.rows(int(r.rows.Load())), r.o.BatchTime)
		if errors.Is(err, store.ErrJobPaused) {
			err = r.wait()
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		r.account(b)
		if b.End {
			return nil
		}
		after = b.Last
		r.rest(b)
	}
}

// dataKeys moves data keys by themselves: batches are prepared before the write
// lock is taken, so that it is held only to write.
func (r *run) dataKeys() error {
	ctx, stop := context.WithCancel(r.ctx)
	ahead := r.prepare(ctx)
	defer func() {
		stop()
		for p := range ahead {
			<-p.rewrapped
		}
	}()
	for p := range ahead {
		if err := errors.Join(<-p.rewrapped, r.ctx.Err()); err != nil {
			return err
		}
		b, err := r.job.Apply(r.ctx, p.batch)
		for errors.Is(err, store.ErrJobPaused) {
			if err = r.wait(); err == nil {
				b, err = r.job.Apply(r.ctx, p.batch)
			}
		}
		if err != nil {
			return err
		}
		r.account(b)
		close(p.written)
		r.rest(b)
	}
	return r.ctx.Err()
}

// preparation is a batch on its way.
type preparation struct {
	batch     *store.Prepared
	rewrapped chan error    // gives one error, or nil, when it is prepared
	written   chan struct{} // is closed when it is written
}

// prepare prepares batch after batch in a goroutine: the fast gear several at a
// time, the gentle one between two that are written, for it leaves a core to the
// host. If it prepared while it writes, who reads on a machine of two cores would
// wait for one of them, which Go takes from a goroutine only after 10 ms.
//
// It closes the channel at the end of the pass, after an error, and when ctx is
// cancelled.
func (r *run) prepare(ctx context.Context) <-chan preparation {
	room := 0
	if r.o.Fast {
		room = batchesAhead
	}
	out := make(chan preparation, room)
	go func() {
		defer close(out)
		var after int64
		for end := false; !end && ctx.Err() == nil; {
			p, err := r.job.Read(ctx, after, r.pace.rows(int(r.rows.Load())))
			next := preparation{batch: p, rewrapped: make(chan error, 1), written: make(chan struct{})}
			if end = err != nil; end {
				next.rewrapped <- err
			} else {
				after, end = p.Last(), p.End()
				go func() { next.rewrapped <- r.job.Rewrap(ctx, p) }()
			}
			select {
			case out <- next:
			case <-ctx.Done():
				<-next.rewrapped
				return
			}
			if !r.o.Fast && !end {
				select {
				case <-next.written:
				case <-ctx.Done():
				}
			}
		}
	}()
	return out
}

// batchesAhead is how many batches wait for the one that is written, in the fast
// gear: enough to have work for all cores while a commit waits for the disk.
const batchesAhead = 2

// account adds a batch to the report and sizes the next one.
func (r *run) account(b store.Batch) {
	rep := &r.report
	rep.Moved += int64(b.Moved)
	rep.Replaced += int64(b.Replaced)
	rep.Failed += int64(len(b.Failures))
	room := maxFailures - len(rep.Failures)
	rep.Failures = append(rep.Failures, b.Failures[:min(room, len(b.Failures))]...)
	rep.Batches++
	rep.LongestLock = max(rep.LongestLock, b.Held)
	if t := (time.Since(r.began) - r.paused).Seconds(); t > 0 {
		rep.Rate = float64(rep.Moved) / t
	}
	r.resize(b)
	r.progress(Moving)
}

// firstRows is how many data keys the first batch takes, when it is not known yet
// what fits BatchTime.
const firstRows = 500

// leastRows is how many data keys a batch takes at least, if there are so many: on
// a disk whose commits alone take BatchTime, smaller ones would not be faster.
const leastRows = 64

// resize makes the next batch such that it takes BatchTime, at most twice as
// large as this one.
func (r *run) resize(b store.Batch) {
	rows := float64(b.Moved + len(b.Failures))
	if b.Held <= 0 || rows == 0 {
		return
	}
	fits := rows * float64(r.o.BatchTime) / float64(b.Held)
	next := min(fits, 2*float64(r.rows.Load()), float64(r.o.Batch))
	r.rows.Store(int64(max(float64(min(leastRows, r.o.Batch)), next)))
}

// rest lets other writers in after a batch, and keeps to the rate.
func (r *run) rest(b store.Batch) {
	pause := r.o.Pause
	if pause == 0 && !r.o.Fast {
		pause = max(DefaultPause, b.Held/4)
	}
	pause = max(pause, r.pace.took(b.Moved+len(b.Failures), time.Now()))
	if pause <= 0 {
		return
	}
	select {
	case <-r.ctx.Done():
	case <-time.After(pause):
	}
}

// wait stays with a paused job until it is resumed.
func (r *run) wait() error {
	r.progress(Paused)
	began := time.Now()
	err := r.job.Wait(r.ctx)
	r.paused += time.Since(began)
	return err
}
