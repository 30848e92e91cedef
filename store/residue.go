package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// How a scan looked for what was retired.
const (
	ResidueNone   = "none"   // it did not
	ResidueSample = "sample" // for a random sample of the wraps that a rotation retired
	ResidueAll    = "all"    // for every envelope that no row holds
)

// Residue is what a scan of the bytes of the store's files found of retired
// wraps and sealed values: envelopes that no row holds any more. What is left of
// one counts if its header is there, also when what follows was overwritten; of
// one of a sample, also if only its nonce, its commitment or the beginning of its
// ciphertext is.
type Residue struct {
	Method    string        `json:"method"`     // ResidueNone, ResidueSample or ResidueAll
	LookedFor int64         `json:"looked_for"` // how many are known to have been retired; 0 if that is not known
	Found     int64         `json:"found"`      // how many were found, each counted once
	Proven    bool          `json:"proven"`     // every byte of every file was looked at
	Detail    string        `json:"detail"`     // why it is not proven, or ""
	Files     []ResidueFile `json:"files"`

	// Named tells which of what was found are the wraps of destroyed master keys
	// and of removed unseal slots, as far as they were retired by this release
	// or later. A receipt does not have it, and neither does a sample.
	Named []string `json:"-"`
}

// ResidueFile is one file of the store as a scan saw it.
type ResidueFile struct {
	Name  string `json:"name"`  // without its folder
	Bytes int64  `json:"bytes"` // that were looked at
	Found int64  `json:"found"`
}

// Clean reports that every byte was looked at and nothing was found.
func (r Residue) Clean() bool { return r.Method != ResidueNone && r.Proven && r.Found == 0 }

// String returns one line.
func (r Residue) String() string {
	var line string
	switch r.Method {
	case ResidueSample:
		line = fmt.Sprintf("%d found in the store's files, of a sample of %s", r.Found, plural(r.LookedFor, "retired wrap"))
	case ResidueAll:
		line = fmt.Sprintf("%d retired wraps or values found in the store's files", r.Found)
	default:
		return "not proven: " + r.Detail
	}
	if !r.Proven {
		line += "; not proven: " + r.Detail
	}
	return line
}

const (
	residueHosted = "the file is the host's"
	residueLog    = "the write-ahead log could not be emptied, and what it will overwrite was not looked at"
	residueTail   = "the file is longer than its pages"
)

// ScanResidue looks at every byte of the store's files for envelopes that no row
// holds. It changes nothing, and needs 16 bytes of memory a secret version.
// Readers and writers go on meanwhile, but the write-ahead log grows with what
// they write. It is not proven in a host's database, whose file is not looked at,
// nor, where there are no OFD locks (other systems than Linux), while the log is
// in use.
func (s *Store) ScanResidue(ctx context.Context) (Residue, error) {
	return s.scanResidue(ctx, nil, false)
}

// scanResidue looks for the sample, or without one for all. With empty it
// empties the log before it looks.
func (s *Store) scanResidue(ctx context.Context, sample *retiredSample, empty bool) (Residue, error) {
	return newResidueScan(s, sample).run(ctx, empty)
}

func (sc *residueScan) run(ctx context.Context, empty bool) (Residue, error) {
	if !sc.s.own {
		sc.Detail = residueHosted
		return sc.Residue, nil
	}
	var err error
	if sc.path, err = filepath.EvalSymlinks(sc.s.path); err == nil {
		err = sc.snapshot(ctx, empty)
	}
	if err == nil {
		err = sc.settle(ctx)
	}
	if err != nil {
		return sc.Residue, fmt.Errorf("scan for residue: %w", pathError(err))
	}
	return sc.Residue, nil
}

// snapshot looks at all files in one read transaction. While it lasts, no
// checkpoint takes from the log what was in it, so that nothing moves from a file
// that was not looked at yet to one that was.
func (sc *residueScan) snapshot(ctx context.Context, empty bool) error {
	for try := 1; ; try++ {
		last := !empty || try == residueTries
		err := sc.s.snapshot(ctx, func(q querier) error {
			if err := sc.database(ctx, q, last); err != nil {
				return err
			}
			if err := sc.beside(ctx, "-wal"); err != nil {
				return err
			}
			return sc.beside(ctx, "-journal")
		})
		if !errors.Is(err, errLogInUse) {
			return err
		}
		if _, err := sc.s.truncateLog(ctx); err != nil {
			return err
		}
	}
}

// residueTries is how often the log is emptied before a scan does without.
const residueTries = 5

var errLogInUse = errors.New("the log is not empty")

// database looks at the database file. Its locks are SQLite's, and another
// descriptor of it, once closed, takes them away from this process unless they
// are OFD locks. Without those its pages are read through SQLite.
func (sc *residueScan) database(ctx context.Context, q querier, anyway bool) error {
	var pages, size int64
	err := q.QueryRowContext(ctx, `
		SELECT page_count, page_size
		FROM pragma_page_count, pragma_page_size`).Scan(&pages, &size)
	if err != nil {
		return err
	}
	if sc.throughSQLite {
		err = sc.judgePages(pages*size, anyway)
	}
	if err == nil {
		err = sc.loadLive(ctx, q)
	}
	switch {
	case err != nil:
		return err
	case sc.throughSQLite:
		return sc.readPages(ctx, q)
	}
	sc.Proven = true
	return sc.beside(ctx, "")
}

// judgePages says whether the pages that SQLite gives are all bytes of the file.
// It gives a page as a reader sees it, from the log if it is there. Only if the
// log was empty after the read had begun are they the file's own; and then they
// stay so, because such a reader keeps checkpoints from writing the file.
func (sc *residueScan) judgePages(pages int64, anyway bool) error {
	log, err := sizeOf(sc.path + "-wal")
	if err != nil {
		return err
	}
	if log > 0 && !anyway {
		return errLogInUse
	}
	whole, err := sizeOf(sc.path)
	switch {
	case log > 0:
		sc.Detail = residueLog
	case whole != pages:
		sc.Detail = residueTail
	default:
		sc.Proven = true
	}
	return err
}

func (sc *residueScan) readPages(ctx context.Context, q querier) error {
	rows, err := q.QueryContext(ctx, `
		SELECT data
		FROM sqlite_dbpage
		WHERE schema = 'main'`)
	if err != nil {
		return err
	}
	defer rows.Close()
	sc.file(filepath.Base(sc.path))
	var page []byte
	for n := 0; rows.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := rows.Scan(&page); err != nil {
			return err
		}
		sc.look(page)
		sc.at.Bytes += int64(len(page))
	}
	return rows.Err()
}

// beside looks at a file, if it is there. SQLite holds no lock on the log and
// the journal, so that another descriptor of one does no harm.
func (sc *residueScan) beside(ctx context.Context, suffix string) error {
	size, err := sizeOf(sc.path + suffix)
	if err != nil || size == 0 {
		return err
	}
	f, err := os.Open(sc.path + suffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was deleted just now, by the last to close the store
	}
	if err != nil {
		return err
	}
	defer f.Close()
	sc.file(filepath.Base(sc.path) + suffix)
	return sc.stream(ctx, f)
}

// stream looks at everything that r gives. What might begin at the end of a
// piece is looked at again with the next.
func (sc *residueScan) stream(ctx context.Context, r io.Reader) error {
	buf := make([]byte, 1<<18)
	kept := 0
	for ctx.Err() == nil {
		n, err := io.ReadFull(r, buf[kept:])
		sc.look(buf[:kept+n])
		sc.at.Bytes += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(buf, buf[len(buf)-overlap:])
	}
	return ctx.Err()
}

// sizeOf returns the size of a file, 0 if there is none.
func sizeOf(path string) (int64, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// UnmarshalJSON reads the words of early receipts too.
func (r *Residue) UnmarshalJSON(text []byte) error {
	type plain Residue
	if len(text) > 0 && text[0] == '"' {
		*r = Residue{Method: ResidueNone, Files: []ResidueFile{}}
		return json.Unmarshal(text, &r.Detail)
	}
	return json.Unmarshal(text, (*plain)(r))
}
