package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// maxNamed is how many secrets Dependents names.
const maxNamed = 10

// String returns one line: what holds the key.
func (d Dependents) String() string {
	var parts []string
	if d.Secrets > 0 {
		parts = append(parts, plural(d.Secrets, "secret"))
	}
	if d.DeletedSecrets > 0 {
		parts = append(parts, plural(d.DeletedSecrets, "deleted, restorable secret"))
	}
	if d.Versions > 0 {
		parts = append(parts, fmt.Sprintf("%s (labelled %d, pending %d, unlabelled %d, of deleted secrets %d)",
			plural(d.Versions, "version"), d.Labelled, d.Pending, d.Unlabelled, d.OfDeleted))
	}
	if d.Default {
		parts = append(parts, "the default key setting")
	}
	for _, j := range d.Jobs {
		parts = append(parts, "unfinished rotation job "+j)
	}
	if len(parts) == 0 {
		return "no dependents"
	}
	line := "needed by " + strings.Join(parts, ", ")
	if len(d.Names) > 0 {
		line += ": " + strings.Join(d.Names, ", ")
		if int64(len(d.Names)) < d.Secrets+d.DeletedSecrets {
			line += ", …"
		}
	}
	return line
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// dependents counts what needs k, from the wraps themselves; or, when version
// is not 0, what needs that version of it.
func dependents(ctx context.Context, q querier, k *masterKey, version int64) (Dependents, error) {
	var d Dependents
	err := q.QueryRowContext(ctx, `
		WITH needed AS (
			SELECT
				COALESCE(s.deleted_at, 0) <> 0 AS deleted,
				EXISTS (SELECT 1 FROM reseal_labels AS l WHERE l.secret_version = v.id AND l.label <> 'pending') AS labelled,
				EXISTS (SELECT 1 FROM reseal_labels AS l WHERE l.secret_version = v.id AND l.label = 'pending') AS pending
			FROM reseal_data_keys AS d
			LEFT JOIN reseal_secret_versions AS v ON v.id = d.id
			LEFT JOIN reseal_secrets AS s ON s.id = v.secret
			WHERE CASE ?2
				WHEN 0 THEN d.master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key = ?1)
				ELSE d.master_key_version = ?2
			END
		)
		SELECT
			count(*),
			COALESCE(sum(labelled), 0),
			COALESCE(sum(pending AND NOT labelled), 0),
			COALESCE(sum(NOT pending AND NOT labelled), 0),
			COALESCE(sum(deleted), 0)
		FROM needed`, k.row, version).Scan(&d.Versions, &d.Labelled, &d.Pending, &d.Unlabelled, &d.OfDeleted)
	if err != nil {
		return d, err
	}
	if err := d.countSecrets(ctx, q, k, version); err != nil {
		return d, err
	}
	if version == 0 {
		if err := d.countSettings(ctx, q, k); err != nil {
			return d, err
		}
	}
	return d, d.listBackups(ctx, q, k, version)
}

// secretsNeeding selects the secrets that need a key: by a wrap, or by being
// configured with it.
const secretsNeeding = `
	SELECT DISTINCT v.secret
	FROM reseal_data_keys AS d
	JOIN reseal_secret_versions AS v ON v.id = d.id
	WHERE CASE ?2
		WHEN 0 THEN d.master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key = ?1)
		ELSE d.master_key_version = ?2
	END
	UNION
	SELECT id FROM reseal_secrets WHERE master_key = ?1 AND ?2 = 0`

func (d *Dependents) countSecrets(ctx context.Context, q querier, k *masterKey, version int64) error {
	err := q.QueryRowContext(ctx, `
		SELECT
			COALESCE(sum(COALESCE(deleted_at, 0) = 0), 0),
			COALESCE(sum(COALESCE(deleted_at, 0) <> 0), 0),
			COALESCE(sum(master_key = ?1), 0)
		FROM reseal_secrets
		WHERE id IN (`+secretsNeeding+`)`, k.row, version).Scan(&d.Secrets, &d.DeletedSecrets, &d.Configured)
	if err != nil {
		return err
	}
	d.Names, err = texts(ctx, q, fmt.Sprintf(`
		SELECT name
		FROM reseal_secrets
		WHERE id IN (`+secretsNeeding+`)
		ORDER BY name
		LIMIT %d`, maxNamed), k.row, version)
	return err
}

func (d *Dependents) countSettings(ctx context.Context, q querier, k *masterKey) error {
	err := q.QueryRowContext(ctx, `
		SELECT EXISTS (SELECT 1 FROM reseal_state WHERE default_key = ?)`, k.row).Scan(&d.Default)
	if err != nil {
		return err
	}
	jobs, err := texts(ctx, q, `
		SELECT job_id
		FROM reseal_rotation_jobs
		WHERE state IN ('running', 'paused') AND (from_key = ?1 OR to_key = ?1)
		ORDER BY id`, k.row)
	for _, j := range jobs {
		d.Jobs = append(d.Jobs, hex.EncodeToString([]byte(j)))
	}
	return err
}

func (d *Dependents) listBackups(ctx context.Context, q querier, k *masterKey, version int64) (err error) {
	d.Backups, err = texts(ctx, q, `
		SELECT b.path
		FROM reseal_backups AS b
		WHERE EXISTS (
			SELECT 1
			FROM reseal_backup_keys AS bk
			JOIN reseal_master_key_versions AS kv ON kv.id = bk.master_key_version
			WHERE bk.backup = b.id AND kv.master_key = ?1 AND ?2 IN (0, kv.id)
		)
		ORDER BY b.id`, k.row, version)
	return err
}

func texts(ctx context.Context, q querier, query string, args ...any) ([]string, error) {
	return column[string](ctx, q, query, args...)
}

func numbers(ctx context.Context, q querier, query string, args ...any) ([]int64, error) {
	return column[int64](ctx, q, query, args...)
}

// column returns the one column of a query's rows.
func column[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Keys returns all master keys by name, destroyed ones too, with what depends
// on each. If one is missing from an unsealed store, the error is ErrDamaged,
// beside those that are there.
func (s *Store) Keys(ctx context.Context) ([]KeyInfo, error) {
	var out []KeyInfo
	err := s.snapshot(ctx, func(q querier) error {
		keys, err := loadAllKeys(ctx, q)
		if err != nil {
			return err
		}
		for _, k := range keys {
			info, err := s.keyInfo(ctx, q, k)
			if err != nil {
				return err
			}
			out = append(out, info)
		}
		return s.checkKeyNames(ctx, q)
	})
	return out, err
}

// Key returns one master key with what depends on it.
func (s *Store) Key(ctx context.Context, name string) (KeyInfo, error) {
	var info KeyInfo
	err := s.snapshot(ctx, func(q querier) error {
		k, err := loadKeyByName(ctx, q, name)
		if errors.Is(err, ErrNotFound) {
			return firstError(s.checkKeyNames(ctx, q), err)
		}
		if err != nil {
			return err
		}
		info, err = s.keyInfo(ctx, q, k)
		return err
	})
	return info, err
}

func (s *Store) keyInfo(ctx context.Context, q querier, k *masterKey) (KeyInfo, error) {
	info := KeyInfo{
		Name:           k.name,
		State:          k.state,
		PrimaryVersion: k.primary,
		CreatedAt:      fromMillis(k.createdAt),
		DeletionAt:     fromMillis(k.deletionAt),
	}
	if s.keys != nil {
		if err := s.keys.checkKey(k); err != nil {
			return info, err
		}
		info.Authenticated = true
	}
	d, err := dependents(ctx, q, k, 0)
	if err != nil {
		return info, err
	}
	info.Dependents, info.Default = d, d.Default
	counts, err := dataKeyCounts(ctx, q, k.row)
	for _, v := range k.versions {
		info.Versions = append(info.Versions, KeyVersionInfo{
			Version:   v.number,
			State:     k.versionState(v),
			DataKeys:  counts[v.row],
			CreatedAt: fromMillis(v.createdAt),
		})
	}
	return info, err
}

// dataKeyCounts returns how many data keys each version of a master key wraps,
// by the version's row.
func dataKeyCounts(ctx context.Context, q querier, key int64) (map[int64]int64, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT master_key_version, count(*)
		FROM reseal_data_keys
		WHERE master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key = ?)
		GROUP BY master_key_version`, key)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := map[int64]int64{}
	for rows.Next() {
		var row, n int64
		if err := rows.Scan(&row, &n); err != nil {
			return nil, err
		}
		counts[row] = n
	}
	return counts, rows.Err()
}
