package store

import (
	"database/sql"
)

// MaxBatchBytes is after how many bytes of sealed values a batch ends, however
// few data keys it has: it bounds memory, and how long the write lock is held.
const MaxBatchBytes = 2 << 20

// selectReencrypt selects the next data keys of a version rotation, with the
// sealed values of those that are made before ?5.
const selectReencrypt = `
	SELECT d.id, d.master_key_version, d.wrapped, v.version_id, v.number, s.secret_id, s.name, CASE WHEN d.made_at < ?5 THEN v.sealed END
	FROM reseal_data_keys AS d
	LEFT JOIN reseal_secret_versions AS v ON v.id = d.id
	LEFT JOIN reseal_secrets AS s ON s.id = v.secret
	WHERE d.id > ?2 AND d.master_key_version IN (` + oldVersions + `) AND (?4 = '' OR substr(s.name, 1, length(?4)) = ?4)
	ORDER BY d.id
	LIMIT ?3`

// scanValues reads rows of selectReencrypt and makes new envelopes, until there
// are enough of them.
func (b *batch) scanValues(m *mover, rows *sql.Rows) (failed []failedRow, err error) {
	defer rows.Close()
	var wrapped, versionID, secretID, name, sealed sql.RawBytes
	var number sql.NullInt64
	for rows.Next() {
		var row batchRow
		if err := rows.Scan(&row.id, &row.source, &wrapped, &versionID, &number, &secretID, &name, &sealed); err != nil {
			return nil, err
		}
		b.read++
		b.last = row.id
		if sealed == nil {
			err = b.add(m, row, wrapped, versionID)
		} else {
			p := place{name: string(name), number: uint64(number.Int64)}
			copy(p.versionID[:], versionID)
			copy(p.secretID[:], secretID)
			err = b.addValue(m, row, p, sealed, wrapped)
		}
		if cannotRead(err) {
			return nil, err
		}
		if err != nil {
			failed = append(failed, failedRow{row, err})
		}
		if len(b.values) >= MaxBatchBytes {
			b.full = true
			return failed, nil
		}
	}
	return failed, rows.Err()
}

// addValue reencrypts one value.
func (b *batch) addValue(m *mover, row batchRow, p place, sealed, wrapped []byte) error {
	if p.name == "" {
		return damaged("its secret is missing")
	}
	values, wraps, err := m.reencrypt(b.values, b.new, m.source(row.source), p, sealed, wrapped)
	if err != nil {
		return err
	}
	row.value = values[len(b.values):]
	b.values, b.new = values, wraps
	b.old = append(b.old, wrapped...)
	b.rows = append(b.rows, row)
	return nil
}

// updateRangeMade is updateRange for data keys that were made now.
const updateRangeMade = `
	UPDATE reseal_data_keys
	SET wrapped = substr(?1, (id - ?2) * 108 + 1, 108), master_key_version = ?3, made_at = ?7
	WHERE id BETWEEN ?2 AND ?4 AND master_key_version = ?5 AND wrapped = substr(?6, (id - ?2) * 108 + 1, 108)`

// writeValues puts the new sealed values in place of the old ones, after their
// data keys.
func (b *batch) writeValues(m *mover) (n int, err error) {
	for _, r := range b.rows {
		if r.value == nil {
			continue
		}
		if err := m.t.execOne(updateSealed, r.value, r.id); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
