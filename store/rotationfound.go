package store

import (
	"runtime"
	"slices"

	"github.com/reseal/reseal/crypto"
)

// found is rows of a batch that were read row by row, with what their new
// envelopes are made of.
type found struct {
	rows  []foundRow
	bytes []byte // of each row its wrap, and its sealed value if that is replaced
}

type foundRow struct {
	batchRow
	place
	from *source
	at   int // in found.bytes
	wrap int // length of the wrap
	size int // length of the sealed value; 0 if it is kept
	err  error
}

// add takes a row as it was read. What is wrong with it is err. The error is that
// SQLite could not read.
func (f *found) add(m *mover, row foundRow, wrapped, sealed []byte, err error) error {
	row.from, row.err = m.source(row.source), err
	row.at, row.wrap, row.size = len(f.bytes), len(wrapped), len(sealed)
	f.bytes = append(append(f.bytes, wrapped...), sealed...)
	f.rows = append(f.rows, row)
	if cannotRead(row.from.err) {
		return row.from.err
	}
	return nil
}

// makeShare is rewrapShare for values.
const makeShare = 8

// make makes the new envelopes of what was found. It uses nothing of the
// transaction any more. What does not open it returns.
func (b *batch) make(m *mover) (failed []foundRow) {
	k := keyMover{m: m}
	defer k.close()
	f := b.found
	b.found.rows = f.rows[:0]
	b.values = slices.Grow(b.values, len(f.bytes)) // so that it does not grow in steps
	for i := range f.rows {
		row := &f.rows[i]
		if row.err == nil {
			row.err = b.makeRow(&k, row, f.bytes[row.at:][:row.wrap+row.size])
		}
		if row.err != nil {
			failed = append(failed, *row)
		}
		if i%makeShare == makeShare-1 {
			runtime.Gosched()
		}
	}
	return failed
}

func (b *batch) makeRow(k *keyMover, row *foundRow, bytes []byte) (err error) {
	keys, err := k.of(row.from)
	if err != nil {
		return err
	}
	wrapped, sealed := bytes[:row.wrap], bytes[row.wrap:]
	if len(sealed) == 0 {
		b.new, err = k.m.rewrapWith(keys, b.new, row.from, row.versionID, wrapped)
	} else {
		at := len(b.values)
		b.values, b.new, err = k.m.reencryptWith(keys, b.values, b.new, row.from, row.place, sealed, wrapped)
		row.value = b.values[at:]
	}
	if err == nil {
		b.old, b.rows = append(b.old, wrapped...), append(b.rows, row.batchRow)
	}
	return err
}

// keyMover has the keys of one source after the other.
type keyMover struct {
	m    *mover
	from *source
	keys *crypto.Mover
}

// of returns the keys of a source, until it is asked for those of another.
func (k *keyMover) of(from *source) (*crypto.Mover, error) {
	if k.from == from || from.err != nil {
		return k.keys, from.err
	}
	k.close()
	keys, err := crypto.NewMover(from.material, k.m.wrapper)
	if err == nil {
		k.from, k.keys = from, keys
	}
	return keys, err
}

func (k *keyMover) close() {
	if k.from != nil {
		k.keys.Close()
		k.from = nil
	}
}
