package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Prune removes a secret's unlabelled versions but the keep newest of them, and
// returns how many it removed. Labelled versions are never pruned.
//
// Errors: ErrNotFound, ErrDeleted, ErrDamaged.
func (s *Store) Prune(ctx context.Context, name string, keep int) (versions int, err error) {
	err = s.write(ctx, func(t *tx) error { versions, err = t.prune(name, keep); return err })
	if err == nil && versions > 0 {
		s.retired(ctx, "pruned versions")
	}
	return versions, err
}

// PruneTx is Prune in the caller's transaction.
func (s *Store) PruneTx(ctx context.Context, caller *sql.Tx, name string, keep int) (versions int, err error) {
	err = s.join(ctx, caller, func(t *tx) error { versions, err = t.prune(name, keep); return err })
	return versions, err
}

// PruneAll prunes every secret that is not deleted, each in a transaction of
// its own, and returns how many versions it removed. A damaged secret does not
// stop it: the errors of all of them are joined in the one it returns.
func (s *Store) PruneAll(ctx context.Context, keep int) (versions int64, err error) {
	if err := firstError(s.needUnsealed(), checkKeep(keep)); err != nil {
		return 0, err
	}
	var errs []error
	for after := ""; ; {
		names, err := s.prunable(ctx, keep, after)
		if err != nil {
			return versions, errors.Join(append(errs, err)...)
		}
		if len(names) == 0 {
			break
		}
		after = names[len(names)-1]
		for _, name := range names {
			n, err := s.pruneOne(ctx, name, keep)
			versions += int64(n)
			switch {
			case errors.Is(err, ErrDamaged):
				errs = append(errs, err)
			case err != nil:
				return versions, errors.Join(append(errs, err)...)
			}
		}
	}
	if versions > 0 {
		s.retired(ctx, "pruned versions")
	}
	return versions, errors.Join(errs...)
}

// pruneOne prunes a secret of a list; one that was deleted meanwhile has
// nothing to prune.
func (s *Store) pruneOne(ctx context.Context, name string, keep int) (n int, err error) {
	err = s.write(ctx, func(t *tx) error { n, err = t.prune(name, keep); return err })
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDeleted) {
		return 0, nil
	}
	return n, err
}

// prunable returns the next names of secrets with more unlabelled versions than
// are kept.
func (s *Store) prunable(ctx context.Context, keep int, after string) (names []string, err error) {
	err = s.snapshot(ctx, func(q querier) error {
		names, err = texts(ctx, q, `
			SELECT s.name
			FROM reseal_secrets AS s
			WHERE s.name > CAST(?1 AS TEXT) AND s.master_key IS NOT NULL AND COALESCE(s.deleted_at, 0) = 0 AND (
				SELECT count(*)
				FROM reseal_secret_versions AS v
				WHERE v.secret = s.id AND NOT EXISTS (SELECT 1 FROM reseal_labels AS l WHERE l.secret_version = v.id)
			) > ?2
			ORDER BY s.name
			LIMIT 256`, after, keep)
		return err
	})
	return names, err
}

func checkKeep(keep int) error {
	if keep < 0 {
		return invalid("%d versions to keep: 0 or more", keep)
	}
	return nil
}

func (t *tx) prune(name string, keep int) (int, error) {
	if err := firstError(CheckName(name), checkKeep(keep)); err != nil {
		return 0, err
	}
	sec, err := t.liveSecret("prune", name)
	if err != nil {
		return 0, err
	}
	versions, err := t.allVersions("prune", sec)
	if err != nil {
		return 0, err
	}
	var numbers []uint64
	for _, d := range unlabelled(sec, versions, keep) {
		if err := t.removeVersion(d); err != nil {
			return 0, err
		}
		numbers = append(numbers, d.number)
	}
	if len(numbers) == 0 {
		return 0, nil
	}
	sec.versionCount -= int64(len(numbers))
	t.audit(event{action: "prune", secret: name, key: sec.keyName, detail: map[string]any{"keep": keep, "versions": numbers}})
	return len(numbers), t.saveSecret(sec)
}

// unlabelled returns the unlabelled ones of versions but the keep newest.
func unlabelled(sec *secret, versions []dataKey, keep int) []dataKey {
	labelled := map[int64]bool{}
	for _, l := range sec.labels {
		labelled[l.version] = true
	}
	var out []dataKey
	for _, d := range versions {
		if !labelled[d.row] {
			out = append(out, d)
		}
	}
	return out[:max(0, len(out)-keep)]
}

// allVersions reads all versions of a checked secret, by number, and refuses
// when there are more or fewer than its record says.
func (t *tx) allVersions(op string, sec *secret) ([]dataKey, error) {
	versions, err := loadDataKeys(t.ctx, t.q, sec.row)
	if err == nil && int64(len(versions)) != sec.versionCount {
		err = miscounted(op, sec, len(versions))
	}
	return versions, err
}

func miscounted(op string, sec *secret, found int) error {
	return &Error{Op: op, Secret: sec.name, ConfiguredKey: sec.keyName, Err: ErrDamaged,
		Detail: fmt.Sprintf("%s expected, %d found", plural(sec.versionCount, "version"), found),
		Remedy: "reseal explain " + sec.name}
}

// removeVersion deletes a secret version that has no label, with its data key
// if it has one.
func (t *tx) removeVersion(d dataKey) error {
	if _, err := t.exec(`DELETE FROM reseal_data_keys WHERE id = ?`, d.row); err != nil {
		return err
	}
	if err := t.rows.change(t.s.keys, versionRows, -1, d.versionID[:]); err != nil {
		return err
	}
	return t.execOne(`DELETE FROM reseal_secret_versions WHERE id = ?`, d.row)
}
