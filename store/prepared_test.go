package store_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// compiling connects to SQLite and notes the statements that are compiled: those
// that are executed without having been prepared, and those that are prepared.
type compiling struct {
	sqlite driver.Driver
	name   string

	mu      sync.Mutex
	queries []string
}

func (c *compiling) Driver() driver.Driver { return c.sqlite }

func (c *compiling) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.sqlite.Open(c.name)
	if err != nil {
		return nil, err
	}
	return compilingConn{conn.(sqliteConn), c}, nil
}

func (c *compiling) note(query string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queries = append(c.queries, query)
}

// during returns what was compiled while fn ran.
func (c *compiling) during(fn func()) []string {
	c.mu.Lock()
	c.queries = nil
	c.mu.Unlock()
	fn()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queries
}

type sqliteConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnBeginTx
	driver.SessionResetter
	driver.Validator
}

type compilingConn struct {
	sqliteConn
	to *compiling
}

func (c compilingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.to.note(query)
	return c.sqliteConn.PrepareContext(ctx, query)
}

func (c compilingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.to.note(query)
	return c.sqliteConn.ExecContext(ctx, query, args)
}

func (c compilingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.to.note(query)
	return c.sqliteConn.QueryContext(ctx, query, args)
}

// compilingHost opens a host's database of one connection that notes what is
// compiled.
func compilingHost(t *testing.T) (*sql.DB, *compiling) {
	t.Helper()
	plain := must(sql.Open("sqlite", ""))(t)
	defer plain.Close()
	c := &compiling{sqlite: plain.Driver(), name: "file:" + filepath.Join(t.TempDir(), "host.db") + "?_pragma=journal_mode(WAL)"}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db, c
}

func TestTxVerbsCompileNothingTwice(t *testing.T) {
	db, compiled := compilingHost(t)
	s, ctx := hosted(t, db), t.Context()
	// A setting is read and set by compiling it.
	rest := []string{"SAVEPOINT reseal", "PRAGMA secure_delete", "PRAGMA secure_delete = 1", "PRAGMA secure_delete = 0", "RELEASE reseal"}
	for _, op := range []struct {
		name string
		do   func(tx *sql.Tx, i int) error
	}{
		{"a new secret", func(tx *sql.Tx, i int) error {
			_, err := s.PutTx(ctx, tx, []string{"one", "two"}[i], []byte("value"), nil)
			return err
		}},
		{"another version", func(tx *sql.Tx, _ int) error {
			_, err := s.PutTx(ctx, tx, "one", []byte("value"), nil)
			return err
		}},
		{"a get", func(tx *sql.Tx, _ int) error {
			_, err := s.GetTx(ctx, tx, "one")
			return err
		}},
	} {
		for i := range 2 {
			tx := begin(t, db)
			queries := compiled.during(func() {
				if err := op.do(tx, i); err != nil {
					t.Fatal(err)
				}
			})
			if diff := cmp.Diff(rest, queries); diff != "" {
				t.Errorf("%s compiled (-want +got):\n%s", op.name, diff)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if open := db.Stats(); open.InUse != 0 {
		t.Errorf("%d connections of the host's are in use after Close", open.InUse)
	}
}

func TestVerbsInAHostCompileNothingTwice(t *testing.T) {
	db, compiled := compilingHost(t)
	s, ctx := hosted(t, db), t.Context()
	for _, op := range []struct {
		name string
		rest []string
		do   func(i int) error
	}{
		{"a new secret", []string{"PRAGMA secure_delete", "PRAGMA secure_delete = 1", "PRAGMA secure_delete = 0"}, func(i int) error {
			_, err := s.Put(ctx, []string{"one", "two"}[i], []byte("value"), nil)
			return err
		}},
		{"a get", nil, func(int) error {
			_, err := s.Get(ctx, "one")
			return err
		}},
	} {
		for i := range 2 {
			queries := compiled.during(func() {
				if err := op.do(i); err != nil {
					t.Fatal(err)
				}
			})
			if diff := cmp.Diff(op.rest, queries); diff != "" {
				t.Errorf("%s compiled (-want +got):\n%s", op.name, diff)
			}
		}
	}
}

// A host's pool may begin its transactions deferred: a put that read before it had
// the lock would fail when another wrote in between.
func TestPutsInAHostWaitForEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.db")
	const query = "_pragma=journal_mode(WAL)&_pragma=busy_timeout(60000)"
	db := openHost(t, path, query)
	stores := []*store.Store{
		hosted(t, db),
		must(store.New(t.Context(), openHost(t, path, query), store.Passphrase([]byte(passphrase)), options()))(t),
	}
	defer stores[1].Close()
	var all sync.WaitGroup
	for n, s := range stores {
		all.Go(func() {
			for i := range 50 {
				if _, err := s.Put(t.Context(), fmt.Sprintf("store-%d/%d", n, i), []byte("value"), nil); err != nil {
					t.Errorf("store %d: %v", n, err)
					return
				}
			}
		})
	}
	all.Wait()
	if rep, err := stores[0].Verify(t.Context(), store.VerifyOptions{Deep: true}); err != nil || !rep.OK || rep.VersionsChecked != 103 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// A statement is prepared in the pool that New was given. A caller may have
// another one of the same file.
func TestTxVerbsJoinATransactionOfAnotherPool(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.db")
	const query = "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)"
	s, ctx := hosted(t, openHost(t, path, query)), t.Context()
	other := openHost(t, path, query)
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx := begin(t, other)
		if _, err := s.PutTx(ctx, tx, "app/new", []byte("one"), nil); err != nil {
			t.Fatal(err)
		}
		if v := must(s.GetTx(ctx, tx, "app/new"))(t); string(v.Bytes()) != "one" {
			t.Errorf("value %q", v.Bytes())
		}
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
	}
	wantValue(t, s, "app/new", "one")
	if rep, err := s.Verify(ctx, store.VerifyOptions{Deep: true}); err != nil || !rep.OK {
		t.Errorf("%v, %v", rep, err)
	}
}

// A get that a Close overtakes ends with ErrClosed, whatever is closed first.
func TestGetsInAHostEndWithErrClosed(t *testing.T) {
	for range 10 {
		s := hosted(t, hostDB(t, hosts[1].query))
		ready, errs := make(chan bool), make(chan error, 4)
		for range cap(errs) {
			go func() {
				var err error
				for i := 0; err == nil; i++ {
					if i == 10 {
						ready <- true
					}
					_, err = s.Get(t.Context(), "app/db")
				}
				errs <- err
			}()
		}
		for range cap(errs) {
			<-ready
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for range cap(errs) {
			if err := <-errs; !errors.Is(err, store.ErrClosed) {
				t.Errorf("a get ended with %v", err)
			}
		}
	}
}

// database/sql keeps what was prepared in a transaction until it ends.
func TestTxVerbsPrepareOnceInATransaction(t *testing.T) {
	db := hostDB(t, hosts[1].query)
	s, ctx := hosted(t, db), t.Context()
	tx := begin(t, db)
	defer tx.Rollback()
	gets := func() (heap uint64) {
		for range 1000 {
			must(s.GetTx(ctx, tx, "app/db"))(t)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := gets()
	if after := gets(); after > before+500_000 {
		t.Errorf("1,000 gets in a transaction keep %d bytes", after-before)
	}
}
