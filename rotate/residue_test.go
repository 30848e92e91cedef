package rotate_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// wrapBytes returns every wrap of a data key.
func wrapBytes(tb testing.TB, s *store.Store) (out []string) {
	tb.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(tb.Context(), `SELECT wrapped FROM reseal_data_keys`)
	if err != nil {
		tb.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			tb.Fatal(err)
		}
		out = append(out, string(b))
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// onDisk counts the wraps of which 16 bytes are in any file of the store: of the
// nonce, the commitment, or the beginning or the end of the ciphertext.
func onDisk(tb testing.TB, s *store.Store, wraps []string) int {
	tb.Helper()
	pieces := map[string]string{}
	var begins [256][256]bool
	for _, w := range wraps {
		for _, at := range []int{4, 28, 60, 92} {
			pieces[w[at:at+16]] = w
			begins[w[at]][w[at+1]] = true
		}
	}
	files, err := filepath.Glob(s.Path() + "*")
	if err != nil {
		tb.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		for i := 0; i+16 <= len(b); i++ {
			if !begins[b[i]][b[i+1]] {
				continue
			}
			if w, ok := pieces[string(b[i:i+16])]; ok {
				seen[w] = true
			}
		}
	}
	return len(seen)
}

func TestScrubLeavesNoRetiredWrap(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 2500, 4, 100)
	for _, o := range []rotate.Options{
		{From: "mk-1", To: "mk-2", Scrub: true},
		{Key: "mk-2", Fast: true, Scrub: true},
	} {
		if o.Key != "" {
			rotateKey(t, s, o.Key)
		}
		retired := wrapBytes(t, s)
		if n := onDisk(t, s, retired); n != 10_000 {
			t.Fatalf("%d of 10,000 live wraps seen: the count has no teeth", n)
		}
		rep := runOK(t, s, o)
		if n := onDisk(t, s, retired); n != 0 {
			t.Errorf("%d of 10,000 retired wraps are in the store's files", n)
		}
		res := rep.Receipt.Residue
		if !res.Clean() || res.Method != store.ResidueAll || res.LookedFor != 10_000 {
			t.Errorf("the receipt says %+v", res)
		}
		t.Logf("%s in %s", res, rep.Elapsed)
	}
	wantNoDrift(t, s)
}

// Without scrub the receipt says how many of a sample are left: here of all,
// because they are fewer than a sample has.
func TestReceiptCountsWhatIsLeft(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 200, 4, 100)
	retired := wrapBytes(t, s)
	rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
	res := rep.Receipt.Residue
	if want := onDisk(t, s, retired); int(res.Found) != want || res.LookedFor != 800 || res.Method != store.ResidueSample || !res.Proven {
		t.Errorf("%d are left; the receipt says %+v", want, res)
	}

	// Somebody reads: the file keeps the old wraps beneath the log.
	retired = wrapBytes(t, s)
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	reader, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow(`SELECT count(*) FROM reseal_secrets`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	rep = runOK(t, s, rotate.Options{From: "mk-2", To: "mk-1"})
	res = rep.Receipt.Residue
	if want := onDisk(t, s, retired); want != 800 || int(res.Found) != want || rep.Receipt.Checkpointed || !rep.CheckpointBusy {
		t.Errorf("%d are left; the receipt says %+v", want, res)
	}
}

// A job of more data keys than a sample has looks for a sample of them.
func TestReceiptOfALargeJobIsOfASample(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 300, 5, 16)
	rotateKey(t, s, "mk-1")
	rep := runOK(t, s, rotate.Options{Key: "mk-1", Fast: true})
	if res := rep.Receipt.Residue; res.Method != store.ResidueSample || res.LookedFor != 1000 || !res.Proven {
		t.Errorf("the receipt says %+v", res)
	}
}

// In a host's database the log is not emptied and the file not rebuilt unless
// asked, the file is not looked at, and the receipt says so.
func TestReceiptInAHostsDatabaseIsNotProven(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "host.db"), t.Context()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := store.Init(ctx, db, credential(), options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CreateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(ctx, "a", []byte("value"), nil); err != nil {
		t.Fatal(err)
	}
	for _, o := range []rotate.Options{{From: "default", To: "mk-1"}, {From: "mk-1", To: "default", Scrub: true}} {
		rc := runOK(t, s, o).Receipt
		if res := rc.Residue; res.Method != store.ResidueNone || res.Proven || res.Clean() || res.Detail == "" || len(res.Files) != 0 || rc.Checkpointed || rc.Scrubbed != o.Scrub {
			t.Errorf("scrub %v: %+v", o.Scrub, rc)
		}
		if log, err := os.Stat(path + "-wal"); err != nil || log.Size() == 0 {
			t.Errorf("scrub %v: the host's log was emptied: %v", o.Scrub, err)
		}
		if _, err := rotate.VerifyReceipt(ctx, s, *rc, nil); err != nil {
			t.Error(err)
		}
	}
}

// A process that takes a job over when everything is moved has no wraps of its
// own to look for, and looks for all.
func TestReceiptOfAJobThatAnotherProcessMovedLooksForAll(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	fill(t, s, "app", 30, 2, 16)
	first, err := s.StartRotation(ctx, store.RotationSpec{From: "mk-1", To: "mk-2"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := first.Step(ctx, 0, 1000, 0); err != nil || b.Moved < 2 {
		t.Fatalf("%+v, %v", b, err)
	}
	for b := (store.Batch{}); !b.End; {
		if b, err = first.Step(ctx, b.Last, 1000, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Release(ctx); err != nil {
		t.Fatal(err)
	}
	rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
	if res := rep.Receipt.Residue; rep.Moved != 0 || res.Method != store.ResidueAll || res.LookedFor != 60 || !res.Proven {
		t.Errorf("moved %d: %+v", rep.Moved, res)
	}
}
