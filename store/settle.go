package store

import (
	"context"
	"database/sql"
)

// Settled is what was done to take what was retired off the disk, and what is
// left of it.
type Settled struct {
	Checkpointed bool // the write-ahead log was emptied into the file
	Busy         bool // it could not be: somebody was reading
	Scrubbed     bool // the file was rebuilt without its free pages
	Residue      Residue
}

// Settle empties the write-ahead log into the file, where what was retired is
// overwritten, and scans the files for what is left of it. With scrub it first
// rebuilds the whole file (VACUUM), which takes as much disk again as the file is
// large and about twice as much memory, and holds the write lock all that time. A host's log is left
// to the host, and its file too without scrub; it is not scanned.
func (s *Store) Settle(ctx context.Context, scrub bool) (Settled, error) {
	out, err := s.settle(ctx, scrub)
	if err == nil {
		out.Residue, err = s.scanResidue(ctx, nil, out.Checkpointed)
	}
	return out, err
}

func (s *Store) settle(ctx context.Context, scrub bool) (Settled, error) {
	out := Settled{Scrubbed: scrub}
	if scrub {
		if err := s.rebuild(ctx); err != nil {
			return out, err
		}
	}
	var err error
	out.Checkpointed, err = s.truncateLog(ctx)
	out.Busy = s.own && err == nil && !out.Checkpointed
	return out, err
}

// rebuild writes the whole file anew, without its free pages.
func (s *Store) rebuild(ctx context.Context) error {
	return s.onWriter(ctx, func(_ querier, conn *sql.Conn) error {
		return s.untilFree(ctx, func() error { _, err := conn.ExecContext(ctx, "VACUUM"); return err })
	})
}

// Settle is Store.Settle at the end of a rotation. With scrub the scan is for
// everything that was ever retired, else for a random sample of the wraps that
// this Rotation did; if it did none, because another process moved everything,
// also for all. That a scan fails does not fail the rotation: the result says so.
func (r *Rotation) Settle(ctx context.Context, scrub bool) (Settled, error) {
	out, err := r.s.settle(ctx, scrub)
	if err != nil {
		return out, err
	}
	sample := &r.sample
	if scrub || len(sample.wraps) == 0 {
		sample = nil
	}
	out.Residue, err = r.s.scanResidue(ctx, sample, out.Checkpointed)
	if err != nil {
		out.Residue = Residue{Method: ResidueNone, Detail: err.Error(), Files: []ResidueFile{}}
	}
	if out.Residue.Method == ResidueAll {
		out.Residue.LookedFor = r.job.Done
	}
	return out, ctx.Err()
}
