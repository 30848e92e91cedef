package store

import (
	"strconv"
	"strings"
	"sync"

	"github.com/reseal/reseal/crypto"
)

// selectPacked makes one row of all rows of a batch, whose order is that of the
// ids: reading row by row takes about as long as rewrapping.
func selectPacked(batch string) string {
	return `
		SELECT
			count(*),
			COALESCE(min(master_key_version), 0),
			COALESCE(max(master_key_version), 0),
			COALESCE(max(id), 0),
			COALESCE(group_concat(id), ''),
			CAST(COALESCE(group_concat(wrapped || version_id, ''), '') AS BLOB)
		FROM (` + batch + `)`
}

// packedSize is the length of a row's part of the packed bytes.
const packedSize = crypto.WrappedSize + len(crypto.ID{})

// readPacked reads a batch as one row and rewraps it. It reports whether that
// went smoothly: several master key versions, lengths that are wrong, a secret
// version that is missing and a wrap that does not open are for those who read
// row by row. In that case nothing of the batch was kept.
func (b *batch) readPacked(m *mover, query string, args []any, workers int) (bool, error) {
	var n int
	var least, source, last int64
	var list string
	var packed []byte
	if err := m.t.q.QueryRowContext(m.t.ctx, selectPacked(query), args...).Scan(&n, &least, &source, &last, &list, &packed); err != nil {
		return false, err
	}
	if n == 0 {
		return true, nil
	}
	if least != source || len(packed) != n*packedSize {
		return false, nil
	}
	ids := strings.Split(list, ",")
	rows := make([]batchRow, n)
	for i := range rows {
		id, err := strconv.ParseInt(ids[i], 10, 64)
		if err != nil {
			return false, err
		}
		rows[i] = batchRow{id: id, source: source}
	}
	wraps, ok := m.rewrapPacked(m.source(source), packed, n, workers)
	if !ok {
		return false, nil
	}
	for i := range n {
		b.old = append(b.old, packed[i*packedSize:][:crypto.WrappedSize]...)
	}
	b.rows, b.new, b.read, b.last = rows, wraps, n, last
	return true, nil
}

// rewrapPacked makes the new wraps of n packed rows, each worker those of a part,
// and reports whether all of them opened.
func (m *mover) rewrapPacked(from *source, packed []byte, n, workers int) ([]byte, bool) {
	out := make([]byte, n*crypto.WrappedSize)
	part := func(first, end int) bool {
		for i := first; i < end; i++ {
			row := packed[i*packedSize:][:packedSize]
			var id crypto.ID
			copy(id[:], row[crypto.WrappedSize:])
			at := out[i*crypto.WrappedSize : i*crypto.WrappedSize : (i+1)*crypto.WrappedSize]
			wrap, err := m.rewrap(at, from, id, row[:crypto.WrappedSize])
			if err != nil || len(wrap) != crypto.WrappedSize {
				return false
			}
			copy(at[:crypto.WrappedSize], wrap) // where it is, unless it was made elsewhere
		}
		return true
	}
	ok := make([]bool, workers)
	var all sync.WaitGroup
	for w := range workers - 1 {
		all.Go(func() { ok[w] = part(n*w/workers, n*(w+1)/workers) })
	}
	ok[workers-1] = part(n*(workers-1)/workers, n)
	all.Wait()
	for _, o := range ok {
		if !o {
			return nil, false
		}
	}
	return out, true
}
