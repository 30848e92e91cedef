package store

import (
	"context"
	"fmt"
)

// absent returns the error of a name that was not found. Before it says that
// there is no such secret it looks for the name in the table itself, whose index
// may be damaged, and compares how many secrets there are with how many there
// should be: a secret that was lost is damage and not an answer. That reads
// every secret's row, some 0.1 microseconds each.
func (s *Store) absent(ctx context.Context, q querier, name string) error {
	if s.keys == nil {
		return noSecret(name)
	}
	for range 10 {
		before, err := loadState(ctx, q)
		if err != nil {
			return err
		}
		var rows int64
		var there bool
		if err := q.QueryRowContext(ctx, `
			SELECT count(*), COALESCE(max(name = ?), 0)
			FROM reseal_secrets NOT INDEXED`, name).Scan(&rows, &there); err != nil {
			return err
		}
		after, err := loadState(ctx, q)
		if err != nil {
			return err
		}
		if before.generation == after.generation {
			return s.keys.judgeAbsence(&after, name, rows, there)
		}
	}
	return noSecret(name) // many are being written just now
}

func (r *keyring) judgeAbsence(st *state, name string, rows int64, there bool) error {
	if err := r.checkState(st); err != nil {
		return err
	}
	set, err := r.loadRows(st)
	if err != nil {
		return err
	}
	detail := ""
	switch {
	case set.counts[secretRows] != rows:
		detail = fmt.Sprintf("the secret is not there, and of %s %d are", plural(set.counts[secretRows], "secret"), rows)
	case there:
		detail = "the secret is there, and the index of names does not have it"
	default:
		return noSecret(name)
	}
	return &Error{Op: "find", Secret: name, Err: ErrDamaged, Detail: detail, Remedy: "reseal verify --deep"}
}

// checkNames refuses when the index of names does not lead to every secret, or
// there are fewer or more than there should be. It is for a snapshot.
func (s *Store) checkNames(ctx context.Context, q querier) error {
	return s.checkIndexed(ctx, q, secretRows, "reseal_secrets")
}

// checkKeyNames does the same for master keys.
func (s *Store) checkKeyNames(ctx context.Context, q querier) error {
	return s.checkIndexed(ctx, q, keyRows, "reseal_master_keys")
}

func (s *Store) checkIndexed(ctx context.Context, q querier, kind rowKind, table string) error {
	if s.keys == nil {
		return nil
	}
	st, err := loadState(ctx, q)
	if err != nil {
		return err
	}
	set, err := s.keys.loadRows(&st)
	if err != nil {
		return err
	}
	var found int64
	if err := q.QueryRowContext(ctx, `
		SELECT count(*)
		FROM `+table+` AS s NOT INDEXED
		WHERE EXISTS (SELECT 1 FROM `+table+` AS n WHERE n.name = s.name AND n.id = s.id)`).Scan(&found); err != nil {
		return err
	}
	if want := set.counts[kind]; found != want {
		return &Error{Op: "list", Err: ErrDamaged, Detail: fmt.Sprintf("%s found, and there should be %d", plural(found, kind.String()), want), Remedy: "reseal verify --deep"}
	}
	return nil
}
