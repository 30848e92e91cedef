// Package storetest makes stores for tests: on a real file in a temporary
// folder, with a clock that the test moves, and checked to the last byte when
// the test ends. Only tests import it.
package storetest

import (
	"context"
	"database/sql"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

// Clock is a clock that stands still until it is moved. It is safe for
// concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock at 2026-01-01 00:00 UTC.
func NewClock() *Clock { return &Clock{now: time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)} }

// Now returns the clock's time, for store.Options.Now.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Store is an open test store.
type Store struct {
	*store.Store
	Clock *Clock
	opts  store.Options
}

// Options says how to make a test store. The zero value is ready to use.
type Options struct {
	// Damaged says that the test damages the store, which is then not checked
	// when the test ends.
	Damaged bool

	// Store is the store's own options. KDF, Now and Actor default to this
	// package's.
	Store store.Options
}

// New makes a store that is closed when the test ends, after a deep
// verification. A nil *Options is the zero value.
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
	path := filepath.Join(t.TempDir(), "reseal.db")
	var err error
	if s.Store, err = store.Create(context.Background(), path, Credential(), &s.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !o.Damaged {
			Check(t, s.Store)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Check verifies the whole store, every value and page included, and reports
// what it finds as test errors.
func Check(t testing.TB, s *store.Store) {
	t.Helper()
	report, err := s.Verify(context.Background(), store.VerifyOptions{Deep: true})
	if err != nil {
		t.Errorf("verify the store: %v", err)
	}
	for _, f := range report.Failures {
		t.Errorf("verify the store: secret %q version %d key %q: %s", f.Secret, f.Version, f.Key, f.Error)
	}
	if !report.OK && report.FailureCount == 0 && err == nil {
		t.Errorf("verify the store: not OK without a failure: %+v", report)
	}
}

// Another opens the same file again, as another process would, until the test
// ends.
func (s *Store) Another(t testing.TB) *Store {
	t.Helper()
	again, err := store.Open(context.Background(), s.Path(), Credential(), &s.opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return &Store{Store: again, Clock: s.Clock, opts: s.opts}
}

// Raw opens the store's file as a program does that knows nothing of reseal:
// with SQLite's defaults, under which foreign keys are off and REPLACE fires no
// delete triggers.
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
