package store

import (
	"crypto/rand"
	"slices"

	"github.com/reseal/reseal/crypto"
)

const (
	maxSpan = 1000 // ids that one statement covers
	maxGap  = 64   // ids between two rows of one statement; more are not worth their zeros

	// updateRange replaces the wraps of a range of rows by the packed bytes of
	// ?1, each only where the row still holds the packed bytes of ?6. A row that
	// is not in the batch has random bytes there, which no row holds: a damaged one
	// may hold anything, zeros too.
	updateRange = `
		UPDATE reseal_data_keys
		SET wrapped = substr(?1, (id - ?2) * 108 + 1, 108), master_key_version = ?3
		WHERE id BETWEEN ?2 AND ?4 AND master_key_version = ?5 AND wrapped = substr(?6, (id - ?2) * 108 + 1, 108)`
)

// write puts the new wraps in place of the old ones.
func (b *batch) write(m *mover) (Batch, error) {
	out := Batch{Failures: b.failures, Last: b.last, End: b.end}
	w := rangeWriter{batch: b, m: m}
	rand.Read(w.none[:]) // never fails, crypto/rand
	for _, k := range b.groups() {
		if err := w.writeGroup(k); err != nil {
			return out, err
		}
	}
	out.Moved = len(b.rows)
	m.retired = b.old
	var err error
	out.Replaced, err = b.writeValues(m)
	return out, err
}

// rowGroup is what the rows of one statement have in common.
type rowGroup struct {
	source   int64
	replaced bool
}

func (r *batchRow) group() rowGroup { return rowGroup{r.source, r.value != nil} }

func (b *batch) groups() []rowGroup {
	var out []rowGroup
	for _, r := range b.rows {
		if !slices.Contains(out, r.group()) {
			out = append(out, r.group())
		}
	}
	return out
}

// rangeWriter packs rows into range statements, in buffers that it reuses.
type rangeWriter struct {
	*batch
	m        *mover
	old, new []byte
	none     [crypto.WrappedSize]byte // for rows that are not in the batch
}

// writeGroup writes the rows of one group, a range at a time.
func (w *rangeWriter) writeGroup(k rowGroup) error {
	var at []int // places in w.rows, of one range
	for i, r := range w.rows {
		if r.group() != k {
			continue
		}
		if n := len(at); n > 0 && (r.id-w.rows[at[0]].id >= maxSpan || r.id-w.rows[at[n-1]].id > maxGap) {
			if err := w.writeRange(k, at); err != nil {
				return err
			}
			at = at[:0]
		}
		at = append(at, i)
	}
	return w.writeRange(k, at)
}

// writeRange writes the rows at these places in one statement. Another number
// of rows than there are means that one was changed since it was read, or
// deleted.
func (w *rangeWriter) writeRange(k rowGroup, at []int) error {
	first, last := w.rows[at[0]].id, w.rows[at[len(at)-1]].id
	old, new := w.pack(at, int(last-first)+1)
	statement, args := updateRange, []any{new, first, w.m.kv.row, last, k.source, old}
	if k.replaced {
		statement, args = updateRangeMade, append(args, max(0, w.m.t.now))
	}
	return w.m.t.execAll(len(at), statement, args...)
}

// execAll runs a statement of a range, which must change so many rows.
func (t *tx) execAll(n int, query string, args ...any) error {
	res, err := t.exec(query, args...)
	if err != nil {
		return err
	}
	changed, err := res.RowsAffected()
	if err == nil && changed != int64(n) {
		err = errChanged
	}
	return err
}

// pack returns the old and the new wraps of the rows at these places, which span
// so many ids.
func (w *rangeWriter) pack(at []int, span int) (old, new []byte) {
	const size = crypto.WrappedSize
	from, to := at[0], at[len(at)-1]+1
	if span == len(at) && span == to-from { // as they lie
		return w.batch.old[from*size : to*size], w.batch.new[from*size : to*size]
	}
	w.old, w.new = zeros(w.old, span*size), zeros(w.new, span*size)
	end := 0 // of the bytes that are set
	for _, i := range at {
		to := int(w.rows[i].id-w.rows[from].id) * size
		for ; end < to; end += size {
			copy(w.old[end:], w.none[:])
		}
		end += size
		copy(w.old[to:], w.batch.old[i*size:(i+1)*size])
		copy(w.new[to:], w.batch.new[i*size:(i+1)*size])
	}
	return w.old, w.new
}

// zeros returns n zero bytes, in buf if it has the room.
func zeros(buf []byte, n int) []byte {
	if cap(buf) < n {
		return make([]byte, n, max(n, maxSpan*crypto.WrappedSize))
	}
	buf = buf[:n]
	clear(buf)
	return buf
}
