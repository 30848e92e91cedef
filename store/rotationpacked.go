package store

import (
	"database/sql"
	"runtime"
	"strconv"
	"strings"

	"github.com/reseal/reseal/crypto"
)

// selectPacked makes one row of all rows of a batch, whose order is that of the
// ids: reading row by row takes about as long as rewrapping. The master key
// version is that of the last row.
func selectPacked(batch string) string {
	return `
		SELECT
			count(*),
			COALESCE(max(id), 0),
			COALESCE(master_key_version, 0),
			COALESCE(group_concat(id), ''),
			CAST(COALESCE(group_concat(wrapped || version_id, ''), '') AS BLOB)
		FROM (` + batch + `)`
}

// packedSize is the length of a row's part of the packed bytes.
const packedSize = crypto.WrappedSize + len(crypto.ID{})

// readPacked reads a batch as one row. It reports whether that went smoothly:
// several master key versions, lengths that are wrong and a secret version that
// is missing are for those who read row by row. In that case nothing of the batch
// was kept.
func (b *batch) readPacked(m *mover, query string, args []any) (bool, error) {
	rows, err := m.t.q.QueryContext(m.t.ctx, selectPacked(query), args...)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var n int
	var source, last int64
	var list string
	var packed sql.RawBytes
	rows.Next()
	if err := firstError(rows.Err(), rows.Scan(&n, &last, &source, &list, &packed)); err != nil {
		return false, err
	}
	if n == 0 {
		return true, nil
	}
	if len(packed) != n*packedSize {
		return false, nil
	}
	b.rows = make([]batchRow, 0, n)
	for digits := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return false, err
		}
		b.rows = append(b.rows, batchRow{id: id, source: source})
	}
	b.unpack(m, packed)
	b.read, b.last = n, last
	return true, nil
}

// unpack copies wraps and ids out of packed rows, and reads what rewrap needs
// besides.
func (b *batch) unpack(m *mover, packed []byte) {
	m.source(b.rows[0].source)
	n := len(packed) / packedSize
	b.old, b.ids = make([]byte, 0, n*crypto.WrappedSize), make([]byte, 0, n*len(crypto.ID{}))
	for ; len(packed) > 0; packed = packed[packedSize:] {
		b.old = append(b.old, packed[:crypto.WrappedSize]...)
		b.ids = append(b.ids, packed[crypto.WrappedSize:packedSize]...)
	}
}

// selectRange is selectPacked for a range of ids in which none is missing: two
// tables read side by side, and no list of ids, take two thirds of the time.
const selectRange = `
	SELECT
		count(*),
		CAST(COALESCE(group_concat(d.wrapped || v.version_id, ''), '') AS BLOB)
	FROM reseal_data_keys AS d
	JOIN reseal_secret_versions AS v ON v.id = d.id
	WHERE d.id BETWEEN ?1 AND ?2 AND d.master_key_version = ?3`

// readRange reads the next limit ids, if all of them are likely to be there and
// under the version of those before. It reports whether they were.
func (r *Rotation) readRange(m *mover, b *batch, limit int) (bool, error) {
	source := r.whole.Load()
	if source == 0 || source == m.kv.row || r.scope.prefix != "" {
		return false, nil
	}
	first, last := b.after+1, b.after+int64(limit)
	rows, err := m.t.q.QueryContext(m.t.ctx, selectRange, first, last, source)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var n int
	var packed sql.RawBytes
	rows.Next()
	if err := firstError(rows.Err(), rows.Scan(&n, &packed)); err != nil || n != limit || len(packed) != n*packedSize {
		return false, err
	}
	b.rows = make([]batchRow, 0, n)
	for id := first; id <= last; id++ {
		b.rows = append(b.rows, batchRow{id: id, source: source})
	}
	b.unpack(m, packed)
	b.read, b.last = n, last
	return true, nil
}

// remember remembers whether a batch is like those that readRange can read.
func (r *Rotation) remember(b *batch) {
	whole := int64(0)
	if n := len(b.rows); n > 0 && b.last-b.rows[0].id == int64(n-1) {
		whole = b.rows[0].source
	}
	r.whole.Store(whole)
}

// rewrapShare is after how many rows whoever waits for the core gets it: a writer,
// who holds the lock, above all. Go alone would let him wait for up to 10 ms.
const rewrapShare = 32

// rewrap makes the new envelopes that are still to be made, and reports whether
// all of the old ones opened.
func (b *batch) rewrap(m *mover) bool {
	if len(b.ids) == 0 {
		return len(b.make(m)) == 0
	}
	from := m.sources[b.rows[0].source]
	if from.err != nil {
		return false
	}
	keys, err := crypto.NewMover(from.material, m.wrapper)
	if err != nil {
		return false
	}
	defer keys.Close()
	const size = crypto.WrappedSize
	b.new = make([]byte, 0, len(b.old))
	for i := range b.rows {
		var id crypto.ID
		copy(id[:], b.ids[i*len(id):])
		if b.new, err = m.rewrapWith(keys, b.new, from, id, b.old[i*size:][:size]); err != nil {
			return false
		}
		if i%rewrapShare == rewrapShare-1 {
			runtime.Gosched()
		}
	}
	return len(b.new) == len(b.old)
}
