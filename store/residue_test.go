package store_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// retiredBytes returns the wraps and sealed values that a query selects.
func retiredBytes(t *testing.T, s *storetest.Store, query string) [][]byte {
	t.Helper()
	rows := must(s.Raw(t).Query(query))(t)
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		var b []byte
		storetest.OK(t, rows.Scan(&b))
		out = append(out, b)
	}
	storetest.OK(t, rows.Err())
	return out
}

// found counts how many of the blobs are in the store's file or log, by their
// first bytes after what they have in common, or their last.
func found(t *testing.T, s *storetest.Store, blobs [][]byte) (n int) {
	t.Helper()
	var disk []byte
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(s.Path() + suffix)
		storetest.OK(t, err)
		disk = append(disk, content...)
	}
	for _, b := range blobs {
		if bytes.Contains(disk, b[4:20]) || bytes.Contains(disk, b[len(b)-16:]) {
			n++
		}
	}
	return n
}

// everySealed selects every sealed value and wrap.
const everySealed = `
	SELECT sealed FROM reseal_secret_versions
	UNION ALL
	SELECT wrapped FROM reseal_data_keys
	UNION ALL
	SELECT wrapped FROM reseal_master_key_wraps`

// retired returns those of the blobs that no row holds any more.
func retired(t *testing.T, s *storetest.Store, blobs [][]byte) (gone [][]byte) {
	t.Helper()
	live := map[string]bool{}
	for _, b := range retiredBytes(t, s, everySealed) {
		live[string(b)] = true
	}
	for _, b := range blobs {
		if !live[string(b)] {
			gone = append(gone, b)
		}
	}
	return gone
}

// SQLite may have moved a row before and left a copy in an unused part of a
// page; rebuilding the file takes that away too.
func TestWhatIsRemovedIsGoneFromTheDisk(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	r := rand.New(rand.NewPCG(1, 2)) // values of all sizes, on pages of their own too
	for round := range 4 {
		storetest.OK(t, s.Update(ctx, func(tx *sql.Tx) (err error) {
			for range 100 {
				_, err = s.PutTx(ctx, tx, fmt.Sprint("s/", r.IntN(20)), bytes.Repeat([]byte("x"), 1+r.IntN(9000)), nil)
			}
			return err
		}))
		blobs := retiredBytes(t, s, everySealed)
		var gone int
		for _, c := range []struct {
			what   string
			remove func()
		}{
			{"purge", func() {
				if res := must(s.Purge(ctx, fmt.Sprint("s/", round), true))(t); res.Residue {
					t.Error("a purge with nobody reading leaves residue")
				}
			}},
			{"prune", func() { must(s.Prune(ctx, fmt.Sprint("s/", 10+round), 0))(t) }},
			{"prune all", func() { must(s.PruneAll(ctx, 2))(t) }},
			{"destroy a key version", func() {
				v := must(s.RotateKey(ctx, "mk-1"))(t)
				storetest.OK(t, s.DestroyKeyVersion(ctx, "mk-1", v-1))
			}},
			{"sweep", func() {
				must(s.Delete(ctx, fmt.Sprint("s/", 5+round), 7*oneDay))(t)
				s.Clock.Advance(7 * oneDay)
				if report := must(s.Sweep(ctx, false))(t); report.Residue || len(report.Purged) != 1 {
					t.Errorf("sweep: %+v", report)
				}
			}},
		} {
			c.remove()
			removed := retired(t, s, blobs)
			if len(removed) <= gone {
				t.Fatalf("round %d: %s removed nothing", round, c.what)
			}
			gone = len(removed)
			if n := found(t, s, removed); n > gone/50 {
				t.Errorf("round %d: after %s, %d of %d are still on the disk", round, c.what, n, gone)
			}
		}
		if _, err := s.Settle(ctx, true); err != nil {
			t.Fatal(err)
		}
		if n := found(t, s, retired(t, s, blobs)); n > 0 {
			t.Errorf("round %d: %d of %d are in a file that was rebuilt", round, n, gone)
		}
	}
}

// While somebody reads an older state, what is removed stays in the log, and
// the result says so.
func TestResidueIsToldWhileSomebodyReads(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for range 5 {
		s.MustPut(t, "a", "x", store.PutOptions{})
	}
	blobs := retiredBytes(t, s, everySealed)
	reader := must(s.Raw(t).BeginTx(ctx, &sql.TxOptions{ReadOnly: true}))(t)
	defer reader.Rollback()
	var n int
	storetest.OK(t, reader.QueryRow(`SELECT count(*) FROM reseal_secrets`).Scan(&n))
	if res := must(s.Purge(ctx, "a", true))(t); !res.Residue {
		t.Error("a purge while somebody reads leaves no residue")
	}
	if n := found(t, s, retired(t, s, blobs)); n != 10 {
		t.Errorf("%d of 10 are on the disk: the scan has no teeth", n)
	}
	storetest.OK(t, reader.Rollback())
	s.MustPut(t, "b", "x", store.PutOptions{})
	if res := must(s.Purge(ctx, "b", true))(t); res.Residue {
		t.Error("a purge with nobody reading leaves residue")
	}
	if n := found(t, s, retired(t, s, blobs)); n != 0 {
		t.Errorf("%d of 10 are still on the disk", n)
	}
}

// The log lies beside the file and not beside a link to it.
func TestScanFollowsALinkToTheLog(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-2"))
	storetest.OK(t, storetest.Err(s.Put(ctx, "app/db", []byte("value"), nil)))
	storetest.OK(t, storetest.Err(s.SetKey(ctx, "app/db", "mk-2")))
	link := filepath.Join(t.TempDir(), "link.db")
	storetest.OK(t, os.Symlink(s.Path(), link))
	linked := must(store.Open(ctx, link, resealtest.Credential(), nil))(t)
	defer linked.Close()
	want := must(s.ScanResidue(ctx))(t)
	if want.Found == 0 {
		t.Fatalf("nothing was found through the file's own name: %+v", want)
	}
	for _, c := range scans {
		got := must(c.scan(ctx, linked))(t)
		if got.Found != want.Found {
			t.Errorf("%s: %d found through a link, and %d are there: %+v", c.name, got.Found, want.Found, got)
		}
	}
}
