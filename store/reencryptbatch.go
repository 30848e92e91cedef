package store

import (
	"crypto/rand"
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

// scanValues takes a row of selectReencrypt.
func (b *batch) scanValues(m *mover, rows *sql.Rows) error {
	var row foundRow
	var wrapped, versionID, secretID, name, sealed sql.RawBytes
	var number sql.NullInt64
	err := rows.Scan(&row.id, &row.source, &wrapped, &versionID, &number, &secretID, &name, &sealed)
	if err != nil {
		return err
	}
	row.name, row.number = string(name), uint64(number.Int64)
	copy(row.versionID[:], versionID)
	copy(row.secretID[:], secretID)
	switch {
	case len(versionID) != len(row.versionID):
		err = damaged("its secret version is missing")
	case row.name == "" && sealed != nil:
		err = damaged("its secret is missing")
	}
	return b.found.add(m, row, wrapped, sealed, err)
}

// updateRangeMade is updateRange for data keys that were made now.
const updateRangeMade = `
	UPDATE reseal_data_keys
	SET wrapped = substr(?1, (id - ?2) * 108 + 1, 108), master_key_version = ?3, made_at = ?7
	WHERE id BETWEEN ?2 AND ?4 AND master_key_version = ?5 AND wrapped = substr(?6, (id - ?2) * 108 + 1, 108)`

// updateValues replaces the sealed values of a range of rows, each as long as its
// old one, by those that lie in ?1, ?3 bytes from one row to the next. Behind each
// come the random bytes of ?5: a row that is not in the batch, or whose value has
// another length by now, does not have them there. A longer value than there is
// room for would be looked for behind the value of another row.
const updateValues = `
	UPDATE reseal_secret_versions
	SET sealed = substr(?1, (id - ?2) * ?3 + 1, length(sealed))
	WHERE id BETWEEN ?2 AND ?4 AND length(sealed) <= ?3 - 16 AND substr(?1, (id - ?2) * ?3 + length(sealed) + 1, 16) = ?5`

// rangeBytes is how many bytes of values one statement takes, if it has more than
// one: the next ones are in the processor's caches then.
const rangeBytes = 64 << 10

// writeValues puts the new sealed values in place of the old ones, after their
// data keys.
func (b *batch) writeValues(m *mover) (n int, err error) {
	w := valueWriter{m: m}
	rand.Read(w.mark[:]) // never fails, crypto/rand
	for _, r := range b.rows {
		if r.value == nil {
			continue
		}
		if !w.fits(r) {
			if err := w.write(); err != nil {
				return n, err
			}
		}
		w.rows, w.longest = append(w.rows, r), max(w.longest, len(r.value))
		n++
	}
	return n, w.write()
}

// valueWriter packs values into range statements, in a buffer that it reuses.
type valueWriter struct {
	m       *mover
	mark    [16]byte
	rows    []batchRow
	longest int
	buf     []byte
}

// fits reports whether a row can go into one statement with those before it.
func (w *valueWriter) fits(r batchRow) bool {
	if len(w.rows) == 0 {
		return true
	}
	span := r.id - w.rows[0].id + 1
	return span <= maxSpan && int(span)*(max(w.longest, len(r.value))+len(w.mark)) <= rangeBytes
}

// write writes the rows that are there in one statement.
func (w *valueWriter) write() error {
	if len(w.rows) == 0 {
		return nil
	}
	first, last := w.rows[0].id, w.rows[len(w.rows)-1].id
	each := w.longest + len(w.mark)
	w.buf = zeros(w.buf, int(last-first+1)*each)
	for _, r := range w.rows {
		at := w.buf[int(r.id-first)*each:]
		copy(at[copy(at, r.value):], w.mark[:])
	}
	err := w.m.t.execAll(len(w.rows), updateValues, w.buf, first, each, last, w.mark[:])
	w.rows, w.longest = w.rows[:0], 0
	return err
}
