package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/reseal/reseal/crypto"
)

// RotationSpec says what a rotation moves. Package rotate is the door to it.
type RotationSpec struct {
	Mode   string // ModeRewrap, or "" for it, or ModeReencrypt
	From   string // the master key to leave; it may be disabled, pending deletion or altered
	To     string // the enabled master key to go to; From again for its newest version
	Prefix string // only secrets whose names begin with it

	// MadeBefore and TouchedBy limit ModeReencrypt to data keys that were made
	// before a time, to the millisecond, or that the version of From with this
	// number may have wrapped: those made before the next version was there. The
	// others are rewrapped. Zero is no limit; at most one is given.
	MadeBefore time.Time
	TouchedBy  uint64
}

func (o *RotationSpec) check() error {
	if o.Mode == "" {
		o.Mode = ModeRewrap
	}
	limited := !o.MadeBefore.IsZero() || o.TouchedBy != 0
	switch {
	case o.Mode != ModeRewrap && o.Mode != ModeReencrypt:
		return invalid("rotation mode %q: there are %q and %q", o.Mode, ModeRewrap, ModeReencrypt)
	case limited && o.Mode != ModeReencrypt:
		return invalid("a limit by the date of data keys goes with mode %q", ModeReencrypt)
	case !o.MadeBefore.IsZero() && o.TouchedBy != 0:
		return invalid("either data keys made before a time, or those that a key version touched")
	case !o.MadeBefore.IsZero() && o.MadeBefore.UnixMilli() <= 0:
		return invalid("data keys made before %s: a time after 1970", o.MadeBefore.Format(time.RFC3339))
	case len(o.Prefix) > 256 || !plainText(o.Prefix):
		return invalid("prefix: at most 256 characters of a secret's name")
	}
	return firstError(checkKeyName(o.From), checkKeyName(o.To))
}

// resolve reads the two keys: the target checked, the other as it is, because
// leaving a key whose record was altered is the way out.
func (o *RotationSpec) resolve(t *tx) (from, to *masterKey, err error) {
	if to, err = t.keyByName(o.To); err != nil {
		return nil, nil, err
	}
	if o.From == o.To {
		return to, to, o.limit(t, to)
	}
	if from, err = loadKeyByName(t.ctx, t.q, o.From); err != nil {
		return nil, nil, err
	}
	return from, to, o.limit(t, from)
}

// Rotation is a rotation job under this process's lease, or the certainty that
// there is nothing to do. Read, Rewrap and Keep may run beside its other methods,
// of which one goroutine uses one at a time.
type Rotation struct {
	s     *Store
	spec  RotationSpec
	owner string
	id    crypto.ID
	scope scope
	job   Job
	// sample is of the wraps that this Rotation retired.
	sample retiredSample
	// whole is the row of the master key version that wrapped the last batch, if
	// no id was missing in it: the next may be like that. It is 0 otherwise.
	whole atomic.Int64
	spare chan *batch // written ones, for their room
	log   logGate
}

// StartRotation starts a rotation job, or takes up the open one that is the
// same. While a job is open, no other can leave its from-key, and a new secret
// that names the from-key is created under the target.
//
// Errors: ErrJobRunning, with the command of the job that is in the way;
// ErrKeyUnavailable for a target that is not enabled; ErrNotFound, ErrInvalid.
func (s *Store) StartRotation(ctx context.Context, spec RotationSpec) (*Rotation, error) {
	if err := firstError(s.needUnsealed(), spec.check()); err != nil {
		return nil, err
	}
	r := &Rotation{s: s, spec: spec, owner: newOwner(), spare: make(chan *batch, 4)}
	open, total, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if !open && total == 0 {
		r.job = Job{Mode: spec.Mode, From: spec.From, To: spec.To, Prefix: spec.Prefix, MadeBefore: r.spec.MadeBefore, State: JobComplete}
		return r, nil
	}
	err = s.write(ctx, func(t *tx) error { return r.start(t, total) })
	return r, err
}

// look counts the work before the write lock is taken.
func (r *Rotation) look(ctx context.Context) (open bool, total int64, err error) {
	err = r.s.snapshot(ctx, func(q querier) error {
		t := r.s.newTx(ctx, q)
		from, to, err := r.spec.resolve(t)
		if err != nil {
			return err
		}
		if _, _, err := t.wrapper(to); err != nil {
			return err
		}
		r.scope = scope{from: from.row, to: to.row, prefix: r.spec.Prefix, replaced: replacedBy(r.spec.Mode, r.spec.MadeBefore)}
		jobs, err := loadJobs(ctx, q, whereOpen+` AND j.from_key = ?`, from.row)
		if err != nil {
			return err
		}
		open = len(jobs) > 0
		total, err = r.scope.remaining(ctx, q)
		return err
	})
	return open, total, err
}

func (r *Rotation) start(t *tx, total int64) error {
	from, to, err := r.spec.resolve(t)
	if err != nil {
		return err
	}
	r.scope.replaced = replacedBy(r.spec.Mode, r.spec.MadeBefore) // the key may have a newer version by now
	kv, _, err := t.wrapper(to)
	if err != nil {
		return err
	}
	jobs, err := loadJobs(t.ctx, t.q, whereOpen)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.fromRow == from.row {
			return r.takeUp(t, j, total)
		}
	}
	if err := r.refuseCrossing(jobs); err != nil {
		return err
	}
	r.id = crypto.NewID()
	res, err := t.exec(`
		INSERT INTO reseal_rotation_jobs (job_id, mode, from_key, to_key, to_version, prefix, made_before, state, total, done, lease_owner, lease_until, started_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?, 0, ?, ?, ?, ?)`,
		r.id[:], r.spec.Mode, from.row, to.row, kv.number, r.spec.Prefix, r.scope.replaced.before, total, r.owner, t.now+leaseTime.Milliseconds(), t.now, t.now)
	if err != nil {
		return err
	}
	row, err := res.LastInsertId()
	if err := firstError(err, t.rows.change(t.s.keys, jobRows, 1, r.id[:])); err != nil {
		return err
	}
	r.audit(t, "rotate-start", map[string]any{"to_version": kv.number, "total": total})
	return r.reload(t, row, total)
}

// refuseCrossing refuses a job whose target another open job empties, or whose
// source another fills: they would move the same secrets in a circle.
func (r *Rotation) refuseCrossing(jobs []*jobRow) error {
	if r.scope.version() {
		return nil
	}
	for _, j := range jobs {
		if !j.scope().version() && (j.fromRow == r.scope.to || j.toRow == r.scope.from) {
			return inTheWay(j, "another job moves secrets from \""+j.From+"\" to \""+j.To+"\"")
		}
	}
	return nil
}

func inTheWay(j *jobRow, detail string) error {
	return &Error{Op: "rotate", Key: j.From, Err: ErrJobRunning, Detail: detail, Remedy: j.Command()}
}

// refuseTakeUp refuses an open job that is another, or is not free.
func (r *Rotation) refuseTakeUp(j *jobRow, now int64) error {
	switch {
	case j.scope() != r.scope:
		return inTheWay(j, "job "+j.ID+" is open and is another")
	case !j.leaseFree(now):
		return &Error{Op: "rotate", Key: j.From, Err: ErrJobRunning, Detail: describeOwner(j.leaseOwner) + " is at work on it", Remedy: "reseal rotate status"}
	}
	return nil
}

// takeUp goes on with an open job, if it is the same and free.
func (r *Rotation) takeUp(t *tx, j *jobRow, total int64) error {
	if err := r.refuseTakeUp(j, t.now); err != nil {
		return err
	}
	r.id = j.id
	if err := t.execOne(`
		UPDATE reseal_rotation_jobs
		SET state = 'running', lease_owner = ?, lease_until = ?, total = ?, updated_at = ?
		WHERE id = ?`, r.owner, t.now+leaseTime.Milliseconds(), j.Done+total, t.now, j.row); err != nil {
		return err
	}
	r.audit(t, "rotate-resume", map[string]any{"remaining": total})
	return r.reload(t, j.row, total)
}

func (r *Rotation) audit(t *tx, action string, detail map[string]any) {
	detail["job"], detail["from_key"], detail["to_key"] = r.id.String(), r.spec.From, r.spec.To
	detail["mode"], detail["prefix"] = r.spec.Mode, r.spec.Prefix
	if !r.spec.MadeBefore.IsZero() {
		detail["made_before"] = r.spec.MadeBefore
	}
	t.audit(event{action: action, key: r.spec.To, detail: detail})
}

func (r *Rotation) reload(t *tx, row, remaining int64) error {
	jobs, err := loadJobs(t.ctx, t.q, ` WHERE j.id = ?`, row)
	if err != nil || len(jobs) != 1 {
		return errors.Join(err, ErrNotFound)
	}
	r.job = jobs[0].Job
	r.job.Remaining = remaining
	return nil
}

// Job returns the job as it was after the last call. Remaining is then the
// total less what is done, and exact after Remaining.
func (r *Rotation) Job() Job { return r.job }

// Idle reports that there was nothing to do, and so no job was made.
func (r *Rotation) Idle() bool { return r.job.ID == "" }

// ByVersion reports whether the rotation goes from older versions of one master
// key to its newest. Only then can Read be used.
func (r *Rotation) ByVersion() bool { return r.scope.version() }

// Remaining counts what is still to move.
func (r *Rotation) Remaining(ctx context.Context) (n int64, err error) {
	err = r.s.snapshot(ctx, func(q querier) error { n, err = r.scope.remaining(ctx, q); return err })
	if err == nil {
		r.job.Remaining, r.job.Total = n, r.job.Done+n
	}
	return n, err
}

// hold reads the job's row at the start of a batch and refuses to go on if the
// job was paused, cancelled, taken over, or altered by other means.
func (r *Rotation) hold(t *tx) (*jobRow, error) {
	jobs, err := loadJobs(t.ctx, t.q, ` WHERE j.job_id = ?`, r.id[:])
	if err != nil {
		return nil, err
	}
	if len(jobs) != 1 {
		return nil, damaged("rotation job %s is missing", r.id)
	}
	j := jobs[0]
	switch {
	case j.State == JobCancelled:
		return nil, &Error{Op: "rotate", Key: j.From, Err: ErrJobCancelled, Detail: "job " + j.ID, Remedy: "reseal rotate status"}
	case j.leaseOwner != r.owner:
		return nil, &Error{Op: "rotate", Key: j.From, Err: ErrJobRunning, Detail: "job " + j.ID + " was taken over", Remedy: "reseal rotate status"}
	case j.State == JobPaused:
		return nil, &Error{Op: "rotate", Key: j.From, Err: ErrJobPaused, Detail: "job " + j.ID, Remedy: "reseal rotate resume " + j.ID}
	case j.scope() != r.scope:
		return nil, damaged("rotation job %s was altered", r.id)
	}
	return j, nil
}

// save writes the job's row after a batch and renews its lease.
func (r *Rotation) save(t *tx, j *jobRow) error {
	j.Total = max(j.Total, j.Done)
	return t.execOne(`
		UPDATE reseal_rotation_jobs
		SET total = ?, done = ?, to_version = ?, lease_until = ?, updated_at = ?
		WHERE id = ? AND lease_owner = ?`,
		j.Total, j.Done, j.ToVersion, t.now+leaseTime.Milliseconds(), t.now, j.row, r.owner)
}

func (r *Rotation) committed(j *jobRow) {
	r.job = j.Job
	r.job.Remaining = j.Total - j.Done
}

// Release gives the lease back, so that another process can go on at once. The
// job stays open.
func (r *Rotation) Release(ctx context.Context) error {
	if r.Idle() {
		return nil
	}
	return r.s.write(ctx, func(t *tx) error {
		_, err := t.exec(`
			UPDATE reseal_rotation_jobs
			SET lease_owner = '', lease_until = 0
			WHERE job_id = ? AND lease_owner = ?`, r.id[:], r.owner)
		return err
	})
}

// Wait returns when a paused job is running again. It looks at the job's row
// twice a second.
func (r *Rotation) Wait(ctx context.Context) error {
	for {
		err := r.s.snapshot(ctx, func(q querier) error { _, err := r.hold(r.s.newTx(ctx, q)); return err })
		if !errors.Is(err, ErrJobPaused) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Keep keeps the job's lease until ctx is cancelled, however long a wait, a
// read-back or a rebuilt file takes. It may run beside the other methods. If
// the lease is lost all the same, the next batch says so.
func (r *Rotation) Keep(ctx context.Context) { r.keep(ctx, leaseTime/3) }

func (r *Rotation) keep(ctx context.Context, every time.Duration) {
	if r.id == (crypto.ID{}) {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.renew(ctx) // if it is busy, again after a while
		}
	}
}

func (r *Rotation) renew(ctx context.Context) error {
	return r.s.write(ctx, func(t *tx) error {
		_, err := t.exec(`
			UPDATE reseal_rotation_jobs
			SET lease_until = ?
			WHERE job_id = ? AND lease_owner = ?`, t.now+leaseTime.Milliseconds(), r.id[:], r.owner)
		return err
	})
}
