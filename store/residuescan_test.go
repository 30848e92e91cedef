package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// scans are the two ways to the bytes of the database file.
var scans = []struct {
	name string
	scan func(context.Context, *store.Store) (store.Residue, error)
}{
	{"file", func(ctx context.Context, s *store.Store) (store.Residue, error) { return s.ScanResidue(ctx) }},
	{"pages", store.ScanResidueThroughSQLite},
}

// plant lays blobs into the store's file as another program leaves them that
// knows nothing of secure_delete: every third row of a table stays, so that some
// lie in free parts of a page and, if all is true, the rest on free pages.
func plant(t *testing.T, s *storetest.Store, blobs [][]byte, all bool) {
	t.Helper()
	raw := s.Raw(t)
	must(raw.Exec(`PRAGMA secure_delete = 0`))(t)
	must(raw.Exec(`CREATE TABLE IF NOT EXISTS host (id INTEGER PRIMARY KEY, b BLOB)`))(t)
	for _, b := range blobs {
		must(raw.Exec(`INSERT INTO host (b) VALUES (?), ('stays'), ('stays')`, b))(t)
	}
	statement := `DELETE FROM host WHERE typeof(b) = 'blob'`
	if all {
		statement = `DELETE FROM host`
	}
	must(raw.Exec(statement))(t)
}

// strayWraps makes n wraps that no row holds.
func strayWraps(t *testing.T, n int) (out [][]byte) {
	t.Helper()
	key := crypto.NewKey()
	defer key.Clear()
	for range n {
		out = append(out, must(key.Wrap(nil, crypto.NewKey(), nil))(t))
	}
	return out
}

func TestScanFindsWhatLiesInFreeSpace(t *testing.T) {
	for _, c := range []struct {
		name string
		all  bool
	}{{"free parts of pages", false}, {"free pages", true}} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := storetest.New(t, nil), t.Context()
			s.MustPut(t, "a", "x", store.PutOptions{})
			blobs := strayWraps(t, 200)
			plant(t, s, blobs, c.all)
			want := found(t, s, blobs)
			if want < 150 {
				t.Fatalf("only %d of 200 were planted", want)
			}
			for _, how := range scans {
				res := must(how.scan(ctx, s.Store))(t)
				// A piece whose nonce was cut counts as one more.
				if n := int(res.Found); n < want || n > want+5 || res.Method != store.ResidueAll || res.Clean() {
					t.Errorf("%s: %d found of %d that are there: %+v", how.name, res.Found, want, res)
				}
			}
			if res := must(store.ScanResidueFor(ctx, s.Store, blobs))(t); int(res.Found) != want || res.LookedFor != 200 {
				t.Errorf("sample: %d found of %d that are there: %+v", res.Found, want, res)
			}
			if res := must(s.Settle(ctx, true))(t); !res.Residue.Clean() {
				t.Errorf("after the file was rebuilt: %+v", res.Residue)
			}
			for _, how := range scans {
				if res := must(how.scan(ctx, s.Store))(t); !res.Clean() {
					t.Errorf("%s: after the file was rebuilt: %+v", how.name, res)
				}
			}
		})
	}
}

// What is left of an envelope is found while its header is there; of a known one
// also if that is gone. Less is not found, as documented.
func TestScanFindsPiecesOfEnvelopes(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for _, c := range []struct {
		why         string
		from, to    int
		all, sample int64
	}{
		{"the first 60 bytes", 0, 60, 1, 1},
		{"header and nonce", 0, crypto.NonceEnd, 1, 1},
		{"header and part of the nonce", 0, 12, 1, 1},
		{"part of the header", 0, 3, 0, 0},
		{"without the header", 4, 108, 0, 1},
		{"commitment and ciphertext", 28, 108, 0, 1},
		{"ciphertext", 60, 108, 0, 1},
		{"the end of the ciphertext", 68, 108, 0, 0},
	} {
		w := strayWraps(t, 1)
		plant(t, s, [][]byte{w[0][c.from:c.to]}, false)
		if res := must(s.ScanResidue(ctx))(t); res.Found != c.all {
			t.Errorf("%s: %d found, want %d", c.why, res.Found, c.all)
		}
		if res := must(store.ScanResidueFor(ctx, s.Store, w))(t); res.Found != c.sample {
			t.Errorf("%s: %d found in a sample, want %d", c.why, res.Found, c.sample)
		}
		must(s.Settle(ctx, true))(t)
	}
}

// A value of several pages is found by its beginning; the live ones are not
// taken for residue, nor is what looks like an envelope inside of one.
func TestScanTellsLiveFromRetired(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for i := range 40 {
		s.MustPut(t, fmt.Sprint("s/", i), string(bytes.Repeat([]byte("v"), 1+i*1500)), store.PutOptions{})
	}
	for _, how := range scans {
		if res := must(how.scan(ctx, s.Store))(t); res.Found != 0 {
			t.Errorf("%s: live ones are taken for residue: %+v", how.name, res)
		}
	}
	sealed := retiredBytes(t, s, `SELECT sealed FROM reseal_secret_versions WHERE length(sealed) > 50000`)
	plant(t, s, sealed, true)
	if res := must(s.ScanResidue(ctx))(t); res.Found != 0 {
		t.Errorf("copies of live ones are taken for residue: %+v", res)
	}
	storetest.OK(t, store.LeaveResidue(ctx, s.Store))
	for i := 35; i < 40; i++ {
		must(s.Purge(ctx, fmt.Sprint("s/", i), true))(t)
	}
	if res := must(s.ScanResidue(ctx))(t); res.Found < int64(len(sealed)) {
		t.Errorf("%d found of %d purged values: %+v", res.Found, len(sealed), res)
	}
	must(s.Settle(ctx, true))(t)
}

func TestScanAcquitsWhatLooksLikeAnEnvelope(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	s.MustPut(t, "a", string(bytes.Repeat([]byte("v"), 3000)), store.PutOptions{})
	lookalike := strayWraps(t, 1)[0]
	s.Exec(t, `UPDATE reseal_secret_versions SET sealed = CAST(substr(sealed, 1, 500) || ? || substr(sealed, 609) AS BLOB)`, lookalike)
	for _, how := range scans {
		if res := must(how.scan(ctx, s.Store))(t); res.Found != 0 || slices.ContainsFunc(res.Files, func(f store.ResidueFile) bool { return f.Found != 0 }) {
			t.Errorf("%s: %+v", how.name, res)
		}
	}
	plant(t, s, [][]byte{lookalike}, false)
	s.Exec(t, `UPDATE reseal_secret_versions SET sealed = CAST(substr(sealed, 1, 500) || zeroblob(108) || substr(sealed, 609) AS BLOB)`)
	if res := must(s.ScanResidue(ctx))(t); res.Found != 1 {
		t.Errorf("no row holds it any more: %+v", res)
	}
}

// Until the log is emptied, the retired wraps of a rewrap are in the file
// beneath it. The scan of the file finds them; through SQLite it cannot see them
// and says so.
func TestScanSeesBeneathTheLog(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for i := range 100 {
		s.MustPut(t, fmt.Sprint("s/", i), "x", store.PutOptions{})
	}
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	must(s.Settle(ctx, false))(t)
	storetest.OK(t, store.LeaveResidue(ctx, s.Store))
	reader := must(s.Raw(t).BeginTx(ctx, &sql.TxOptions{ReadOnly: true}))(t)
	defer reader.Rollback()
	var n int
	storetest.OK(t, reader.QueryRow(`SELECT count(*) FROM reseal_secrets`).Scan(&n))
	for i := range 100 {
		must(s.SetKey(ctx, fmt.Sprint("s/", i), "mk-1"))(t)
	}
	res := must(s.ScanResidue(ctx))(t)
	if res.Found != 100 || !res.Proven || len(res.Files) != 2 || res.Files[0].Found != 100 {
		t.Errorf("%d found of 100 that are there: %+v", res.Found, res)
	}
	if res := must(store.ScanResidueThroughSQLite(ctx, s.Store))(t); res.Proven || res.Detail == "" || res.Clean() {
		t.Errorf("proven without a look beneath the log: %+v", res)
	}
	if res := must(s.Settle(ctx, false))(t); !res.Busy || res.Residue.Found != 100 {
		t.Errorf("while somebody reads: %+v", res)
	}
	storetest.OK(t, reader.Rollback())
	if res := must(s.Settle(ctx, true))(t); res.Busy || !res.Residue.Clean() {
		t.Errorf("when nobody reads any more: %+v", res)
	}
}

// What was destroyed or removed for good is told by name while it is in free
// space.
func TestScanNamesWhatWasDestroyed(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for _, key := range []string{"old", "going", "stays"} {
		storetest.OK(t, s.CreateKey(ctx, key))
	}
	must(s.RotateKey(ctx, "old"))(t)
	slot := must(s.AddSlot(ctx, store.Passphrase([]byte("second")), ""))(t)
	blobs := retiredBytes(t, s, `
		SELECT w.wrapped
		FROM reseal_master_key_wraps AS w
		JOIN reseal_master_key_versions AS v ON v.id = w.master_key_version
		JOIN reseal_master_keys AS k ON k.id = v.master_key
		WHERE (k.name = 'old' AND v.number = 1) OR k.name IN ('going', 'stays')
		UNION ALL
		SELECT wrapped FROM reseal_unseal_slots`)
	plant(t, s, blobs, false)
	if res := must(s.ScanResidue(ctx))(t); res.Found != 0 || len(res.Named) != 0 {
		t.Errorf("while rows hold them: %+v", res)
	}
	storetest.OK(t, s.DestroyKeyVersion(ctx, "old", 1))
	must(s.ScheduleKeyDeletion(ctx, "going", 7*oneDay))(t)
	s.Clock.Advance(8 * oneDay)
	must(s.Sweep(ctx, false))(t)
	storetest.OK(t, s.RemoveSlot(ctx, slot.ID))
	want := []string{"the destroyed key old version 1", "the destroyed key going", "the removed unseal slot " + slot.ID}
	if res := must(s.ScanResidue(ctx))(t); res.Found != 3 || !slices.Equal(res.Named, want) {
		t.Errorf("%d found: %q, want %q", res.Found, res.Named, want)
	}
	slots := must(s.Slots(ctx))(t)
	must(s.RotateRoot(ctx, store.RotateRootOptions{Credentials: map[string]store.Credential{slots[0].ID: storetest.Credential()}}))(t)
	want = append(want, "the unseal slots of an earlier root key")
	if res := must(s.ScanResidue(ctx))(t); !slices.Equal(res.Named, want) {
		t.Errorf("after a new root key: %q, want %q", res.Named, want)
	}
	if res := must(s.Settle(ctx, true))(t).Residue; !res.Clean() || len(res.Named) != 0 {
		t.Errorf("scrubbed: %+v", res)
	}
}
