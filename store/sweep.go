package store

import (
	"context"
	"errors"
)

// SweepReport says what a Sweep did, or would do.
type SweepReport struct {
	DryRun        bool
	Purged        []string // secrets
	DestroyedKeys []string // master keys
	// Orphans is how many data keys were removed whose secret version or
	// secret is gone, so that nothing can be opened with them.
	Orphans int64
	Skipped []SweepSkip
	// Residue says that what was removed is still in the database's log,
	// because a reader kept it from being emptied or the file is a host's. That
	// it is false proves nothing about unused parts of pages, where SQLite may
	// have left copies of rows that it moved: Settle with scrub clears those.
	Residue bool
}

// SweepSkip is something past its date that was left alone.
type SweepSkip struct {
	Kind   string // "secret" or "key"
	Name   string
	Reason string
}

// Sweep acts on dates, which nothing else does: it purges the secrets and
// destroys the master keys whose windows have ended, each in a transaction of
// its own in which everything is checked and counted anew. Secrets go first,
// so that their keys become free; a key that still has dependents is skipped
// and reported. It also removes data keys that damage left without a secret
// version. A dry run changes nothing and reports the same.
func (s *Store) Sweep(ctx context.Context, dryRun bool) (SweepReport, error) {
	sw := &sweep{s: s, ctx: ctx, report: SweepReport{DryRun: dryRun}}
	if err := sw.look(); err != nil {
		return sw.report, err
	}
	sw.each = func(fn func(*tx) error) error { return s.write(ctx, fn) }
	sw.list = func(fn func(querier) error) error { return s.snapshot(ctx, fn) }
	if !dryRun {
		err := sw.run()
		if len(sw.report.Purged)+len(sw.report.DestroyedKeys) > 0 || sw.report.Orphans > 0 {
			sw.report.Residue = !s.retired(ctx, "what was swept")
		}
		if len(sw.report.DestroyedKeys) > 0 {
			s.forgetDestroyed(ctx)
		}
		return sw.report, err
	}
	// One transaction that is rolled back, so that what a purge frees counts.
	err := s.write(ctx, func(t *tx) error {
		sw.each = func(fn func(*tx) error) error { return fn(t) }
		sw.list = func(fn func(querier) error) error { return fn(t.q) }
		return errors.Join(sw.run(), errDryRun)
	})
	if err != nil && errors.Is(err, errDryRun) {
		err = sw.err
	}
	return sw.report, err
}

var errDryRun = errors.New("dry run")

// sweep is one run.
type sweep struct {
	s      *Store
	ctx    context.Context
	each   func(func(*tx) error) error     // runs a step in its transaction
	list   func(func(querier) error) error // runs what only reads
	report SweepReport
	err    error
	orphan bool // there is something to do for orphans
}

func (sw *sweep) run() error {
	for _, step := range []func() error{sw.secrets, sw.orphans, sw.keys} {
		if sw.err = step(); sw.err != nil {
			break
		}
	}
	return sw.err
}

// due returns the names that query gives, which must take the time.
func (sw *sweep) due(query string) (names []string, err error) {
	err = sw.list(func(q querier) error { names, err = texts(sw.ctx, q, query, sw.s.now()); return err })
	return names, err
}

func (sw *sweep) secrets() error {
	names, err := sw.due(`
		SELECT name
		FROM reseal_secrets
		WHERE purge_at <= ?
		ORDER BY name`)
	if err != nil {
		return err
	}
	return sw.all("secret", names, &sw.report.Purged, func(t *tx, name string) error {
		_, err := t.purge(name, false)
		return err
	})
}

func (sw *sweep) keys() error {
	names, err := sw.due(`
		SELECT name
		FROM reseal_master_keys
		WHERE state = 'pending deletion' AND deletion_at <= ?
		ORDER BY name`)
	if err != nil {
		return err
	}
	return sw.all("key", names, &sw.report.DestroyedKeys, (*tx).destroyKey)
}

// all runs fn for each name and sorts the names into done and skipped.
func (sw *sweep) all(kind string, names []string, done *[]string, fn func(*tx, string) error) error {
	for _, name := range names {
		if err := sw.ctx.Err(); err != nil {
			return err
		}
		err := sw.prove(kind, name)
		if err == nil {
			err = sw.each(func(t *tx) error { return fn(t, name) })
		}
		switch {
		case err == nil:
			*done = append(*done, name)
		case skippable(err):
			sw.report.Skipped = append(sw.report.Skipped, SweepSkip{Kind: kind, Name: name, Reason: reasonOf(err)})
		case !errors.Is(err, ErrNotDue) && !errors.Is(err, ErrNotFound):
			return err // those two: restored, cancelled or purged meanwhile
		}
	}
	return nil
}

// prove proves of a master key that no data key needs it, whatever its row says.
func (sw *sweep) prove(kind, name string) error {
	if kind != "key" {
		return nil
	}
	return sw.list(func(q querier) error { return sw.s.refuseNeeded(sw.ctx, q, name, 0) })
}

func skippable(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrDependents) || errors.Is(err, ErrRootRotating)
}

// reasonOf is an error's reason without the name of what it is about.
func reasonOf(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e.Detail == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + ": " + e.Detail
}

// destroyKey destroys the material of a master key whose date has passed.
func (t *tx) destroyKey(name string) error {
	if err := t.stable(); err != nil {
		return err
	}
	k, err := t.keyByName(name)
	if err != nil {
		return err
	}
	if k.state != PendingDeletion || t.now < k.deletionAt {
		return &Error{Op: "destroy", Key: name, KeyState: k.state, DeletionAt: fromMillis(k.deletionAt), Err: ErrNotDue}
	}
	if err := t.refuseDependents("destroy", k, 0); err != nil {
		return err
	}
	var marks []string
	for _, v := range k.versions {
		if v.destroyedAt != 0 {
			continue
		}
		of, err := t.destroyMaterial(k, v)
		if err != nil {
			return err
		}
		marks = append(marks, of...)
	}
	return t.setStateWith(k, Destroyed, 0, "key-destroy", map[string]any{detailWraps: marks})
}

// look finds out whether there are orphans, which takes a scan, before the
// write lock is taken.
func (sw *sweep) look() error {
	if err := sw.s.needUnsealed(); err != nil {
		return err
	}
	return sw.s.snapshot(sw.ctx, func(q querier) error {
		return q.QueryRowContext(sw.ctx, `
			SELECT EXISTS `+orphanVersions+` OR EXISTS (
				SELECT 1
				FROM reseal_data_keys AS d
				WHERE NOT EXISTS (SELECT 1 FROM reseal_secret_versions AS v WHERE v.id = d.id))`).Scan(&sw.orphan)
	})
}

// orphans removes data keys that damage left without a secret version, and
// versions whose secret's row is gone: the contexts of their envelopes name ids
// that are lost, so that nothing can open them, and they would hold a master
// key for ever.
func (sw *sweep) orphans() error {
	if !sw.orphan {
		return nil
	}
	return sw.each(func(t *tx) error {
		n, err := t.dropOrphans()
		sw.report.Orphans = n
		return err
	})
}

// orphanVersions are versions of no secret to which no secret's label points.
const orphanVersions = `(
	SELECT v.id
	FROM reseal_secret_versions AS v
	WHERE NOT EXISTS (SELECT 1 FROM reseal_secrets AS s WHERE s.id = v.secret)
	AND NOT EXISTS (SELECT 1 FROM reseal_labels AS l JOIN reseal_secrets AS s ON s.id = l.secret WHERE l.secret_version = v.id))`

func (t *tx) dropOrphans() (n int64, err error) {
	const orphanKeys = `
		SELECT count(*)
		FROM reseal_data_keys AS d
		WHERE NOT EXISTS (SELECT 1 FROM reseal_secret_versions AS v WHERE v.id = d.id) OR d.id IN ` + orphanVersions
	if err := t.queryRow(orphanKeys).Scan(&n); err != nil {
		return 0, err
	}
	for _, statement := range []string{
		`DELETE FROM reseal_labels WHERE secret_version IN ` + orphanVersions,
		`DELETE FROM reseal_data_keys WHERE id IN ` + orphanVersions,
		`DELETE FROM reseal_secret_versions WHERE id IN ` + orphanVersions,
		`DELETE FROM reseal_data_keys AS d WHERE NOT EXISTS (SELECT 1 FROM reseal_secret_versions AS v WHERE v.id = d.id)`,
	} {
		if _, err := t.exec(statement); err != nil {
			return 0, err
		}
	}
	t.audit(event{action: "sweep-orphans", detail: map[string]any{"data_keys": n}})
	return n, nil
}
