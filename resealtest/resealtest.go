// Package resealtest makes stores for tests, of reseal itself and of programs
// that embed it: on a real file in a temporary folder, or in the test's own
// database, with a key derivation that costs nothing and a clock that the test
// moves. Each is closed, and checked to the last byte, when its test ends.
//
//	s := resealtest.New(t, nil)
//	s.MustPut(t, "app/db", "hunter2", store.PutOptions{})
//	run(s.Store)
//	s.Clock.Advance(30 * 24 * time.Hour)
//
// Only tests import it.
package resealtest

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite" // the driver of Raw

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/store"
)

// Passphrase opens every store that this package makes.
const Passphrase = "correct horse battery staple"

// Credential returns the credential that opens every store of this package.
func Credential() store.Credential { return store.Passphrase([]byte(Passphrase)) }

// KDF is Argon2id with the least it may cost, for store.Options.KDF.
func KDF() crypto.KDF {
	k := crypto.DefaultKDF()
	k.Time, k.Memory, k.Threads = 1, 8, 1
	return k
}

// Store is an open test store.
type Store struct {
	*store.Store
	Clock *Clock
	path  string
	opts  store.Options
}

// Options says how to make a test store. The zero value, or nil, is ready to
// use.
type Options struct {
	// DB, if not nil, is the database in which the store is made, as store.Init
	// does. It is left open. Defaults to a file of the store's own.
	DB *sql.DB

	// Damaged says that the test damages the store, which is then not checked
	// when the test ends.
	Damaged bool

	// Store is the store's own options. KDF, Now and Actor default to this
	// package's.
	Store store.Options
}

// New makes a store that is closed when the test ends, after its file was
// opened once more and verified deeply.
func New(t testing.TB, o *Options) *Store {
	t.Helper()
	if o == nil {
		o = new(Options)
	}
	s := &Store{Clock: NewClock(), opts: o.Store}
	if s.opts.KDF == nil {
		s.opts.KDF = KDF
	}
	if s.opts.Now == nil {
		s.opts.Now = s.Clock.Now
	}
	if s.opts.Actor == "" {
		s.opts.Actor = "tester"
	}
	var err error
	if s.Store, err = s.create(t, o.DB); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !o.Damaged {
			s.check(t, o.DB)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// check checks the store as it is in its database, whether or not the test, or
// what it tests, closed it.
func (s *Store) check(t testing.TB, db *sql.DB) {
	t.Helper()
	again, err := s.again(db)
	if err != nil {
		t.Errorf("open the store to check it: %v", err)
		return
	}
	defer again.Close()
	Check(t, again)
}

func (s *Store) again(db *sql.DB) (*store.Store, error) {
	ctx := context.Background()
	if db != nil {
		return store.New(ctx, db, Credential(), &s.opts)
	}
	return store.Open(ctx, s.path, Credential(), &s.opts)
}

func (s *Store) create(t testing.TB, db *sql.DB) (*store.Store, error) {
	ctx := context.Background() // the test's own has ended when it cleans up
	if db != nil {
		return store.Init(ctx, db, Credential(), &s.opts)
	}
	s.path = filepath.Join(t.TempDir(), "reseal.db")
	return store.Create(ctx, s.path, Credential(), &s.opts)
}

// Check verifies the whole store, every value, page and audit event included,
// and reports what it finds as test errors.
func Check(t testing.TB, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	report, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
	if err != nil {
		t.Errorf("verify the store: %v", err)
		return
	}
	for _, f := range report.Failures {
		t.Errorf("verify the store: secret %q version %d key %q: %s", f.Secret, f.Version, f.Key, f.Error)
	}
	if !report.OK && report.FailureCount == 0 {
		t.Errorf("verify the store: not OK without a failure: %+v", report)
	}
	if _, err := s.VerifyAudit(ctx); err != nil {
		t.Errorf("verify the audit trail: %v", err)
	}
}

// Another opens the same file again, as another process would, until the test
// ends.
func (s *Store) Another(t testing.TB) *Store {
	t.Helper()
	again, err := s.again(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return &Store{Store: again, Clock: s.Clock, path: s.path, opts: s.opts}
}

// MustPut puts a value, or fails the test.
func (s *Store) MustPut(t testing.TB, name, value string, o store.PutOptions) store.PutResult {
	t.Helper()
	res, err := s.Put(t.Context(), name, []byte(value), &o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// MustGet returns a value, or fails the test.
func (s *Store) MustGet(t testing.TB, name string, sel ...store.Selector) string {
	t.Helper()
	v, err := s.Get(t.Context(), name, sel...)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Clear()
	return string(v.Bytes())
}

// Raw opens the file of a store that has its own as a program does that knows
// nothing of reseal: with SQLite's defaults, under which foreign keys are off
// and REPLACE fires no delete triggers.
func (s *Store) Raw(t testing.TB) *sql.DB {
	t.Helper()
	u := url.URL{Scheme: "file", OmitHost: true, Path: s.Path(),
		RawQuery: "mode=rw&_pragma=busy_timeout(10000)&_pragma=foreign_keys(0)&_pragma=recursive_triggers(0)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

// Exec runs a statement of another program on the store's file, and fails the
// test if the schema refuses it or no row changes.
func (s *Store) Exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	res, err := s.Raw(t).Exec(statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		t.Fatalf("%s: changed %d rows, %v", statement, n, err)
	}
}
