package store

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

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

// readPacked reads a batch as one row and rewraps it. It reports whether that
// went smoothly: several master key versions, lengths that are wrong, a secret
// version that is missing and a wrap that does not open are for those who read
// row by row. In that case nothing of the batch was kept.
func (b *batch) readPacked(m *mover, query string, args []any, workers int) (bool, error) {
	var n int
	var source, last int64
	var list string
	var packed []byte
	if err := m.t.q.QueryRowContext(m.t.ctx, selectPacked(query), args...).Scan(&n, &last, &source, &list, &packed); err != nil {
		return false, err
	}
	if n == 0 {
		return true, nil
	}
	if len(packed) != n*packedSize {
		return false, nil
	}
	rows := make([]batchRow, 0, n)
	for digits := range strings.SplitSeq(list, ",") {
		id, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return false, err
		}
		rows = append(rows, batchRow{id: id, source: source})
	}
	wraps, ok := m.rewrapPacked(m.source(source), packed, n, workers)
	if !ok {
		return false, nil
	}
	old := make([]byte, 0, n*crypto.WrappedSize)
	for i := range n {
		old = append(old, packed[i*packedSize:][:crypto.WrappedSize]...)
	}
	b.rows, b.old, b.new, b.read, b.last = rows, old, wraps, n, last
	return true, nil
}

// packedShare is how many rows a worker takes at once.
const packedShare = 64

// rewrapPacked makes the new wraps of n packed rows, which the workers share,
// and reports whether all of them opened.
func (m *mover) rewrapPacked(from *source, packed []byte, n, workers int) ([]byte, bool) {
	if from.err != nil {
		return nil, false
	}
	out := make([]byte, n*crypto.WrappedSize)
	var taken atomic.Int64
	var failed atomic.Bool
	work := func() {
		keys, err := crypto.NewMover(from.material, m.wrapper)
		if err != nil {
			failed.Store(true)
			return
		}
		defer keys.Close()
		for !failed.Load() {
			end := int(taken.Add(packedShare))
			if end-packedShare >= n {
				return
			}
			for i := end - packedShare; i < min(end, n); i++ {
				at := out[i*crypto.WrappedSize : i*crypto.WrappedSize : (i+1)*crypto.WrappedSize]
				row := packed[i*packedSize:][:packedSize]
				var id crypto.ID
				copy(id[:], row[crypto.WrappedSize:])
				wrap, err := m.rewrapWith(keys, at, from, id, row[:crypto.WrappedSize])
				if err != nil || len(wrap) != crypto.WrappedSize {
					failed.Store(true)
					return
				}
				copy(at[:crypto.WrappedSize], wrap) // where it is, unless it was made elsewhere
			}
		}
	}
	var all sync.WaitGroup
	for range workers - 1 {
		all.Go(work)
	}
	work()
	all.Wait()
	return out, !failed.Load()
}
