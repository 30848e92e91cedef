package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// batchStore has eight versions under an older version of their key, with a gap
// between their rows.
func batchStore(t *testing.T, o *resealtest.Options) (*resealtest.Store, *store.Rotation) {
	t.Helper()
	s, ctx := resealtest.New(t, o), t.Context()
	for i := range 9 {
		s.MustPut(t, app(i).name, string(app(i).value), store.PutOptions{})
	}
	must(s.Delete(ctx, "app/4", 0))(t)
	must(s.Purge(ctx, "app/4", true))(t)
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	return s, must(s.StartRotation(ctx, newestDefault))(t)
}

// step moves everything in one batch, verifies the store and ends the job.
func step(t *testing.T, r *store.Rotation, moved, failures int) {
	t.Helper()
	b := must(r.Apply(t.Context(), must(store.Prepare(t.Context(), r, 0, 100))(t)))(t)
	if b.Moved != moved || len(b.Failures) != failures || !b.End {
		t.Errorf("Apply = %+v", b)
	}
	if err := r.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestBatchIsReadAsOneRow(t *testing.T) {
	s, r := batchStore(t, nil)
	ids, packed, err := store.ReadBatch(t.Context(), r, 100)
	if err != nil || !packed || len(ids) != 8 {
		t.Fatalf("ReadBatch = %v, %v, %v", ids, packed, err)
	}
	b := must(r.Step(t.Context(), 0, 3, 0))(t)
	storetest.Diff(t, "moved", 3, b.Moved)
	step(t, r, 5, 0)
	for _, i := range []int{0, 5, 8} {
		storetest.Diff(t, "value", string(app(i).value), s.MustGet(t, app(i).name))
	}
}

// Once a batch had no id missing, the next ones are read as ranges, for as long
// as that is so.
func TestBatchesWithoutGapsAreReadAsRanges(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	for i := range 40 {
		s.MustPut(t, app(i).name, string(app(i).value), store.PutOptions{})
	}
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	must(s.Delete(ctx, "app/21", 0))(t) // row 22
	must(s.Purge(ctx, "app/21", true))(t)
	must(s.SetKey(ctx, "app/35", store.DefaultKeyName))(t) // row 36, to the newest version
	r := must(s.StartRotation(ctx, newestDefault))(t)
	for _, want := range []struct {
		after int64
		rows  int
		whole bool
		last  int64
	}{
		{0, 5, false, 5}, // nothing is known yet
		{5, 5, true, 10},
		{10, 10, true, 20},
		{20, 5, false, 26},   // a gap
		{26, 5, false, 31},   // after a gap
		{31, 5, false, 37},   // one that has moved
		{37, 2, false, 39},   // after that
		{39, 100, false, 40}, // the end
	} {
		whole, ids, err := store.ReadRange(ctx, r, want.after, want.rows)
		if err != nil || whole != want.whole || ids[len(ids)-1] != want.last {
			t.Errorf("after %d: as a range: %v, read %v, %v", want.after, whole, ids, err)
		}
	}
	for after, end := int64(0), false; !end; {
		b := must(r.Read(ctx, after, 5))(t)
		if err := r.Rewrap(ctx, b); err != nil {
			t.Fatal(err)
		}
		must(r.Apply(ctx, b))(t)
		after, end = b.Last(), b.End()
	}
	storetest.Diff(t, "remaining", int64(0), must(r.Remaining(ctx))(t))
	if err := r.Release(ctx); err != nil {
		t.Fatal(err)
	}
	storetest.Diff(t, "value", string(app(36).value), s.MustGet(t, app(36).name))
}

// No transaction is open while a batch is rewrapped: one would keep the
// write-ahead log from beginning anew, and it would grow to the size of what a
// rotation writes.
func TestLogBeginsAnewWhileBatchIsRewrapped(t *testing.T) {
	s, r := batchStore(t, nil)
	b := must(r.Read(t.Context(), 0, 100))(t)
	var busy, pages, moved int
	if err := s.Raw(t).QueryRow(`PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved); err != nil || busy != 0 {
		t.Errorf("after Read the log cannot be emptied: %d, %v", busy, err)
	}
	if err := r.Rewrap(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	must(r.Apply(t.Context(), b))(t)
	if err := r.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What is not as it should be is read row by row, and concerns nothing else.
func TestBatchThatIsNotSmoothIsReadRowByRow(t *testing.T) {
	for name, c := range map[string]struct {
		statement string
		moved     int
	}{
		"damaged wrap":    {`UPDATE reseal_data_keys SET wrapped = zeroblob(108) WHERE id = 3`, 7},
		"altered id":      {`UPDATE reseal_data_keys SET wrapped = (SELECT wrapped FROM reseal_data_keys WHERE id = 2) WHERE id = 3`, 7},
		"missing version": {`INSERT INTO reseal_data_keys (id, master_key_version, wrapped) SELECT 100, master_key_version, wrapped FROM reseal_data_keys WHERE id = 1`, 8},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := batchStore(t, &resealtest.Options{Damaged: true})
			must(s.Raw(t).Exec(`PRAGMA foreign_keys = 0`))(t)
			s.Exec(t, c.statement)
			if _, packed, err := store.ReadBatch(t.Context(), r, 100); packed || err != nil {
				t.Errorf("it was read as one row, %v", err)
			}
			step(t, r, c.moved, 1)
		})
	}
}

// Versions under two older versions of the key go in one batch.
func TestBatchUnderTwoVersions(t *testing.T) {
	s, r := batchStore(t, nil)
	if err := r.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.MustPut(t, "late", "x", store.PutOptions{})
	must(s.RotateKey(t.Context(), store.DefaultKeyName))(t)
	r = must(s.StartRotation(t.Context(), newestDefault))(t)
	if _, packed, err := store.ReadBatch(t.Context(), r, 100); packed || err != nil {
		t.Errorf("it was read as one row, %v", err)
	}
	step(t, r, 9, 0)
}

// A data key whose row names another version than the one that wraps it is left
// where it is, and holds nothing else up: its wrap opens with those of the others.
func TestBatchWithMisplacedDataKey(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	for i := range 3 {
		s.MustPut(t, app(i).name, string(app(i).value), store.PutOptions{})
	}
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = 2 WHERE id = 2`)
	if p := must(s.PlanRotation(ctx, newestDefault, nil))(t); p.Check.Failing != 1 || p.Cost.Sampled == 0 {
		t.Errorf("the plan: %d would fail, %d were sampled", p.Check.Failing, p.Cost.Sampled)
	}
	step(t, must(s.StartRotation(ctx, newestDefault))(t), 2, 1)
}

// A host's database may have another encoding, in which SQLite would convert
// bytes that it takes for text.
func TestBatchInUTF16Database(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "host.db")+"?_pragma=encoding('UTF-16le')&"+hosts[1].query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, r := batchStore(t, &resealtest.Options{DB: db})
	var encoding string
	if err := db.QueryRow(`PRAGMA encoding`).Scan(&encoding); err != nil || encoding != "UTF-16le" {
		t.Fatalf("encoding %q, %v", encoding, err)
	}
	step(t, r, 8, 0)
	storetest.Diff(t, "value", string(app(3).value), s.MustGet(t, app(3).name))
}
