package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
)

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
		rc, text, err := r.receipt(t, j, back, disk)
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

// receipt returns the receipt with its MAC, and its text for the job's row.
func (r *Rotation) receipt(t *tx, j *jobRow, back ReadBack, disk Settled) (Receipt, []byte, error) {
	rc := Receipt{
		StoreID:      t.s.keys.storeID.String(),
		Job:          j.ID,
		Mode:         j.Mode,
		From:         j.From,
		To:           j.To,
		ToVersion:    j.ToVersion,
		Prefix:       j.Prefix,
		MadeBefore:   j.MadeBefore,
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
	mac, err := t.s.keys.receiptMAC(&rc)
	if err != nil {
		return rc, nil, err
	}
	rc.MAC = hex.EncodeToString(mac)
	text, err := json.Marshal(rc)
	return rc, text, err
}
