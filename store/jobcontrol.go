package store

import (
	"context"
)

// PauseJob pauses an open rotation job: the process that runs it stops after
// its batch and waits, keeping the from-key for the job. The id may be cut
// short to six digits or more.
func (s *Store) PauseJob(ctx context.Context, id string) error {
	return s.steerJob(ctx, id, "pause", JobPaused)
}

// ResumeJob lets a paused rotation job go on. If the process that ran it is
// gone, running the same rotation again does.
func (s *Store) ResumeJob(ctx context.Context, id string) error {
	return s.steerJob(ctx, id, "resume", JobRunning)
}

// CancelJob ends an open rotation job where it is. Every secret stays whole
// under the key that it is under now; running the same rotation again moves the
// rest.
func (s *Store) CancelJob(ctx context.Context, id string) error {
	return s.steerJob(ctx, id, "cancel", JobCancelled)
}

func (s *Store) steerJob(ctx context.Context, id, verb string, to JobState) error {
	return s.write(ctx, func(t *tx) error {
		j, err := loadJob(t.ctx, t.q, id)
		if err != nil {
			return err
		}
		if !j.State.Open() {
			return errNotOpen(j, verb)
		}
		if j.State == to {
			return nil
		}
		var finished int64
		if !to.Open() {
			finished = t.now
		}
		t.audit(event{action: "rotate-" + verb, key: j.To, detail: map[string]any{
			"job": j.ID, "from_key": j.From, "to_key": j.To, "done": j.Done,
		}})
		return t.execOne(`
			UPDATE reseal_rotation_jobs
			SET state = ?, finished_at = ?, updated_at = ?
			WHERE id = ?`, to, orNull(finished), t.now, j.row)
	})
}
