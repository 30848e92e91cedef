package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"modernc.org/sqlite"

	"github.com/reseal/reseal/crypto"
)

// residueScan is one scan. It sees the bytes of the files in pieces, in which
// each envelope that is whole in its page is whole once.
type residueScan struct {
	Residue
	s      *Store
	path   string                 // of the file itself, not of a link to it: the log lies there
	sample *retiredSample         // nil to look for all
	live   []crypto.Mark          // of what rows hold, sorted
	found  map[crypto.Mark]uint8  // what no row holds: in which of Files, a bit each
	few    map[crypto.Mark][]byte // header and nonce of the first maxSuspects of them
	at     *ResidueFile           // that is looked at now, the last of Files

	throughSQLite bool // the database file itself must not be opened
}

const (
	// overlap is how many bytes of a piece may be an envelope's beginning that
	// only the next piece completes.
	overlap = crypto.NonceEnd - 1

	// maxSuspects is how many suspects are looked for among the values of rows.
	// Of more than these, one by chance does not matter.
	maxSuspects = 64
)

func newResidueScan(s *Store, sample *retiredSample) *residueScan {
	sc := &residueScan{s: s, sample: sample, found: map[crypto.Mark]uint8{}, few: map[crypto.Mark][]byte{}, throughSQLite: !sqlite.OFDLockingEnabled()}
	sc.Method, sc.Files = ResidueNone, []ResidueFile{}
	if s.own {
		sc.Method = ResidueAll
	}
	if s.own && sample != nil {
		sc.Method, sc.LookedFor = ResidueSample, int64(len(sample.wraps))
		sample.index()
	}
	return sc
}

// file begins with the next file.
func (sc *residueScan) file(name string) {
	sc.Files = append(sc.Files, ResidueFile{Name: name})
	sc.at = &sc.Files[len(sc.Files)-1]
}

// everyEnvelope selects the marks of what rows hold.
const everyEnvelope = `
	SELECT substr(wrapped, 5, 8) FROM reseal_data_keys
	UNION ALL
	SELECT substr(sealed, 5, 8) FROM reseal_secret_versions
	UNION ALL
	SELECT substr(wrapped, 5, 8) FROM reseal_master_key_wraps
	UNION ALL
	SELECT substr(wrapped, 5, 8) FROM reseal_unseal_slots
	UNION ALL
	SELECT substr(integrity_wrapped, 5, 8) FROM reseal_root_keys`

// loadLive reads the marks of what rows hold. A sample needs none.
func (sc *residueScan) loadLive(ctx context.Context, q querier) error {
	if sc.sample != nil {
		return nil
	}
	rows, err := q.QueryContext(ctx, everyEnvelope)
	if err != nil {
		return err
	}
	defer rows.Close()
	sc.live = sc.live[:0]
	var mark sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&mark); err != nil {
			return err
		}
		if len(mark) == 8 {
			sc.live = append(sc.live, crypto.Mark(binary.BigEndian.Uint64(mark)))
		}
	}
	slices.Sort(sc.live)
	return rows.Err()
}

// look looks at a piece of the file.
func (sc *residueScan) look(b []byte) {
	if sc.sample != nil {
		sc.sample.look(b, func(wrap crypto.Mark) { sc.add(wrap, nil) })
		return
	}
	for {
		i := crypto.Locate(b)
		if i < 0 {
			return
		}
		mark := crypto.MarkOf(b[i:])
		if _, live := slices.BinarySearch(sc.live, mark); !live {
			sc.add(mark, b[i:i+crypto.NonceEnd])
		}
		b = b[i+1:]
	}
}

func (sc *residueScan) add(mark crypto.Mark, prefix []byte) {
	files, known := sc.found[mark]
	here := uint8(1) << (len(sc.Files) - 1)
	if files&here != 0 {
		return
	}
	if !known && len(sc.few) < maxSuspects {
		sc.few[mark] = slices.Clone(prefix)
	}
	sc.found[mark] = files | here
	sc.at.Found++
}

// settle counts what was found. What came into rows while the log was read is
// not residue, and neither is what looks like an envelope inside a value's
// ciphertext.
func (sc *residueScan) settle(ctx context.Context) error {
	if sc.sample == nil && len(sc.found) > 0 {
		err := sc.s.snapshot(ctx, func(q querier) error {
			if err := sc.loadLive(ctx, q); err != nil {
				return err
			}
			if err := sc.acquit(ctx, q); err != nil {
				return err
			}
			return sc.name(ctx, q)
		})
		if err != nil {
			return err
		}
	}
	sc.Found = int64(len(sc.found))
	return nil
}

func (sc *residueScan) acquit(ctx context.Context, q querier) error {
	few := len(sc.found) <= maxSuspects
	for mark, files := range sc.found {
		_, innocent := slices.BinarySearch(sc.live, mark)
		if !innocent && few {
			err := q.QueryRowContext(ctx, `
				SELECT EXISTS (SELECT 1 FROM reseal_secret_versions WHERE instr(sealed, ?) > 1)`, sc.few[mark]).Scan(&innocent)
			if err != nil {
				return err
			}
		}
		if innocent {
			delete(sc.found, mark)
			for i := range sc.Files {
				sc.Files[i].Found -= int64(files >> i & 1)
			}
		}
	}
	return nil
}

// retiredSample is a random sample of the wraps that a rotation retired: of n,
// each with the same chance.
type retiredSample struct {
	wraps [][]byte
	n     int64

	pieces map[crypto.Mark]int // which wrap each piece is of
	begins []bool              // whether a piece begins with these two bytes
}

const sampleSize = 1000

// add takes a wrap in.
func (r *retiredSample) add(wrapped []byte) {
	r.n++
	if len(wrapped) != crypto.WrappedSize {
		return
	}
	if len(r.wraps) < sampleSize {
		r.wraps = append(r.wraps, slices.Clone(wrapped))
		return
	}
	if i := rand.Int64N(r.n); i < sampleSize {
		copy(r.wraps[i], wrapped)
	}
}

// merge takes in the wraps of a transaction that was committed.
func (r *retiredSample) merge(wraps []byte) {
	for ; len(wraps) >= crypto.WrappedSize; wraps = wraps[crypto.WrappedSize:] {
		r.add(wraps[:crypto.WrappedSize])
	}
}

func (r *retiredSample) index() {
	r.begins = make([]bool, 1<<16)
	r.pieces = make(map[crypto.Mark]int, 3*len(r.wraps))
	for i, w := range r.wraps {
		for _, p := range crypto.Pieces(w) {
			r.pieces[p] = i
			r.begins[uint16(p>>48)] = true
		}
	}
}

// look calls found with the mark of each wrap of which a piece is in b.
func (r *retiredSample) look(b []byte, found func(crypto.Mark)) {
	for i := 0; i+8 <= len(b); i++ {
		if !r.begins[binary.BigEndian.Uint16(b[i:])] {
			continue
		}
		if w, ok := r.pieces[crypto.Mark(binary.BigEndian.Uint64(b[i:]))]; ok {
			found(crypto.MarkOf(r.wraps[w]))
		}
	}
}
