package rotate_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// fastKDF is Argon2id with the least it may cost.
func fastKDF() crypto.KDF {
	k := crypto.DefaultKDF()
	k.Time, k.Memory, k.Threads = 1, 8, 1
	return k
}

func credential() store.Credential { return store.Passphrase([]byte("correct horse")) }

func options() *store.Options { return &store.Options{KDF: fastKDF, Actor: "tester"} }

// newStore makes a store with the master keys mk-1, the default, and mk-2.
func newStore(tb testing.TB) *store.Store {
	tb.Helper()
	s, err := store.Create(tb.Context(), filepath.Join(tb.TempDir(), "reseal.db"), credential(), options())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	for _, k := range []string{"mk-1", "mk-2"} {
		if err := s.CreateKey(tb.Context(), k); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.SetDefaultKey(tb.Context(), "mk-1"); err != nil {
		tb.Fatal(err)
	}
	return s
}

// valueOf is the value that fill gives a version.
func valueOf(name string, version, size int) []byte {
	b := fmt.Appendf(nil, "%s %d ", name, version)
	for len(b) < size {
		b = append(b, '.')
	}
	return b
}

// fill puts so many secrets called prefix/N, each with so many versions of size
// bytes or a little more.
func fill(tb testing.TB, s *store.Store, prefix string, secrets, versions, size int) {
	tb.Helper()
	ctx := tb.Context()
	for at := 0; at < secrets; at += 1000 {
		err := s.Update(ctx, func(tx *sql.Tx) error {
			for i := at; i < min(secrets, at+1000); i++ {
				name := fmt.Sprintf("%s/%d", prefix, i)
				for v := range versions {
					if _, err := s.PutTx(ctx, tx, name, valueOf(name, v+1, size), nil); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// runOK runs a rotation to its end.
func runOK(tb testing.TB, s *store.Store, o rotate.Options) rotate.Report {
	tb.Helper()
	rep, err := rotate.Run(tb.Context(), s, o)
	if err != nil {
		tb.Fatal(err)
	}
	if rep.State != store.JobComplete || !rep.Verified || rep.Remaining != 0 {
		tb.Fatalf("report: %+v", rep)
	}
	return rep
}

// wantFilled checks that every version that fill made reads back, and that no
// secret is under two keys. Secrets of other prefixes are not looked at.
func wantFilled(tb testing.TB, s *store.Store, prefix string, secrets, versions, size int) {
	tb.Helper()
	for i := range secrets {
		name := fmt.Sprintf("%s/%d", prefix, i)
		for v := 1; v <= versions; v++ {
			got, err := s.Get(tb.Context(), name, store.Version(uint64(v)))
			if err != nil {
				tb.Fatal(err)
			}
			if diff := cmp.Diff(valueOf(name, v, size), got.Bytes()); diff != "" {
				tb.Fatalf("%s version %d (-want +got):\n%s", name, v, diff)
			}
		}
	}
	wantNoDrift(tb, s)
}

// wantNoDrift checks that every secret is wholly under its configured key, and
// the audit chain.
func wantNoDrift(tb testing.TB, s *store.Store) {
	tb.Helper()
	for _, deleted := range []bool{false, true} {
		list, err := s.List(tb.Context(), store.ListOptions{Deleted: deleted})
		if err != nil {
			tb.Fatal(err)
		}
		for _, sec := range list {
			if sec.Drift {
				tb.Errorf("%s is configured with %q and under %q", sec.Name, sec.ConfiguredKey, sec.EffectiveKeys)
			}
		}
	}
	if _, err := s.VerifyAudit(tb.Context()); err != nil {
		tb.Error(err)
	}
}

// wraps counts the data keys under each master key version, from the wraps
// themselves.
func wraps(tb testing.TB, s *store.Store) map[string]int64 {
	tb.Helper()
	keys, err := s.Keys(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	out := map[string]int64{}
	for _, k := range keys {
		for _, v := range k.Versions {
			if v.DataKeys > 0 {
				out[fmt.Sprintf("%s v%d", k.Name, v.Version)] = v.DataKeys
			}
		}
	}
	return out
}

func wantWraps(tb testing.TB, s *store.Store, want map[string]int64) {
	tb.Helper()
	if diff := cmp.Diff(want, wraps(tb, s)); diff != "" {
		tb.Errorf("data keys under each key (-want +got):\n%s", diff)
	}
}

// rawSQL changes the file behind the store's back, as any SQLite client can.
func rawSQL(tb testing.TB, s *store.Store, statement string, args ...any) {
	tb.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	res, err := db.ExecContext(tb.Context(), statement, args...)
	if err != nil {
		tb.Fatal(err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		tb.Fatalf("%s changed %d rows, %v", statement, n, err)
	}
}

// scanRaw reads one value of the file behind the store's back.
func scanRaw(tb testing.TB, s *store.Store, to any, query string, args ...any) {
	tb.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(tb.Context(), query, args...).Scan(to); err != nil {
		tb.Fatal(err)
	}
}

// wrapOf returns the wrap of a secret version.
func wrapOf(tb testing.TB, s *store.Store, name string, version int) (wrapped []byte) {
	tb.Helper()
	scanRaw(tb, s, &wrapped, `SELECT wrapped FROM reseal_data_keys WHERE id = `+versionRow, name, version)
	return wrapped
}

// versionRow selects the row of a secret version by name and number.
const versionRow = `(SELECT v.id FROM reseal_secret_versions AS v JOIN reseal_secrets AS s ON s.id = v.secret WHERE s.name = ? AND v.number = ?)`

// damageWrap flips a bit in the wrap of a secret version.
func damageWrap(tb testing.TB, s *store.Store, name string, version int) {
	tb.Helper()
	w := wrapOf(tb, s, name, version)
	w[len(w)-1] ^= 1
	rawSQL(tb, s, `UPDATE reseal_data_keys SET wrapped = ? WHERE id = `+versionRow, w, name, version)
}

func rotateKey(tb testing.TB, s *store.Store, name string) {
	tb.Helper()
	if _, err := s.RotateKey(tb.Context(), name); err != nil {
		tb.Fatal(err)
	}
}
