package store

import (
	"context"
	"database/sql"
	"encoding/json"
)

// What a receipt says about old wraps in the file. A retired wrap leaves its
// page with the new one, but stays in the write-ahead log until the log is
// emptied into the file.
const (
	residueEmptied   = "write-ahead log emptied; not scanned"
	residueScrubbed  = "file rebuilt and write-ahead log emptied; not scanned"
	residueBusy      = "a reader kept the write-ahead log from being emptied; not scanned"
	residueNotProven = "not proven: the file is the host's"
)

// Settled is what was done to take retired wraps off the disk.
type Settled struct {
	Checkpointed bool   // the write-ahead log was emptied into the file
	Busy         bool   // it could not be: somebody was reading
	Scrubbed     bool   // the file was rebuilt without its free pages
	Residue      string // what is therefore known of old wraps in the file
}

// Settle empties the write-ahead log into the file, where the retired wraps are
// overwritten. With scrub it first rebuilds the whole file (VACUUM), which
// takes as much free disk again and holds the write lock all that time. A
// host's log is left to the host, and its file too without scrub.
func (s *Store) Settle(ctx context.Context, scrub bool) (Settled, error) {
	if !s.own && !scrub {
		return Settled{Residue: residueNotProven}, nil
	}
	out := Settled{Scrubbed: scrub}
	if scrub {
		if err := s.rebuild(ctx); err != nil {
			return out, err
		}
	}
	var err error
	out.Checkpointed, err = s.truncateLog(ctx)
	out.Busy = s.own && err == nil && !out.Checkpointed
	switch {
	case !s.own:
		out.Residue = residueNotProven
	case out.Busy:
		out.Residue = residueBusy
	case scrub:
		out.Residue = residueScrubbed
	default:
		out.Residue = residueEmptied
	}
	return out, err
}

// rebuild writes the whole file anew, without its free pages.
func (s *Store) rebuild(ctx context.Context) error {
	return s.onWriter(ctx, func(_ querier, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "VACUUM")
		return err
	})
}

// Finish completes the job, in a transaction in which nothing is left to move,
// with its receipt; false says that something is left. A job is never complete
// because a loop came to its end.
func (r *Rotation) Finish(ctx context.Context, back ReadBack, disk Settled) (done bool, err error) {
	var job *jobRow
	err = r.s.write(ctx, func(t *tx) error {
		j, err := r.hold(t)
		if err != nil {
			return err
		}
		if j.Remaining, err = r.scope.remaining(t.ctx, t.q); err != nil || j.Remaining > 0 {
			return err
		}
		rc := r.receipt(t, j, back, disk)
		text, err := json.Marshal(rc)
		if err != nil {
			return err
		}
		r.audit(t, "rotate-complete", map[string]any{
			"to_version": j.ToVersion, "moved": rc.Moved, "checked": rc.Checked, "failures": rc.Failures,
			"digest": rc.Digest, "checkpointed": rc.Checkpointed, "scrubbed": rc.Scrubbed,
		})
		job, done = j, true
		job.State, job.Receipt, job.Verified, job.FinishedAt = JobComplete, &rc, rc.Verified, rc.FinishedAt
		job.Total = j.Done
		return t.execOne(`
			UPDATE reseal_rotation_jobs
			SET state = 'complete', total = ?, lease_owner = '', lease_until = 0, updated_at = ?, finished_at = ?, receipt = ?
			WHERE id = ?`, j.Done, t.now, t.now, string(text), j.row)
	})
	if err != nil || !done {
		return false, err
	}
	r.committed(job)
	return true, nil
}

func (r *Rotation) receipt(t *tx, j *jobRow, back ReadBack, disk Settled) Receipt {
	return Receipt{
		Job:          j.ID,
		Mode:         j.Mode,
		From:         j.From,
		To:           j.To,
		ToVersion:    j.ToVersion,
		Prefix:       j.Prefix,
		Moved:        j.Done,
		Remaining:    j.Remaining,
		Checked:      back.Checked,
		Failures:     back.Failed,
		Verified:     back.Failed == 0,
		Digest:       back.Digest,
		Checkpointed: disk.Checkpointed,
		Scrubbed:     disk.Scrubbed,
		Residue:      disk.Residue,
		StartedAt:    j.StartedAt,
		FinishedAt:   t.time(),
	}
}
