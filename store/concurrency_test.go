package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/reseal/reseal/store"
)

// many runs fn in 8 goroutines until it fails or stop is closed, and returns
// what they ended with.
func many(stop <-chan struct{}, fn func(worker, n int) error) []error {
	const workers = 8
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if err := fn(w, n); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	var errs []error
	for range workers {
		errs = append(errs, <-done)
	}
	return errs
}

// anything does one of the store's common operations, on secrets that the
// workers share.
func anything(ctx context.Context, s *store.Store, n int) error {
	name := fmt.Sprintf("shared/%d", rand.IntN(3))
	switch rand.IntN(8) {
	case 0, 1:
		_, err := s.Put(ctx, name, fmt.Appendf(nil, "value %d", n), nil)
		return err
	case 2:
		_, err := s.SetKey(ctx, name, []string{"default", "mk-1"}[rand.IntN(2)])
		return err
	case 3:
		_, err := s.List(ctx, store.ListOptions{})
		return err
	case 4:
		return s.Update(ctx, func(tx *sql.Tx) error {
			_, err := s.PutTx(ctx, tx, name, []byte("value in a transaction"), nil)
			return err
		})
	}
	v, err := s.Get(ctx, name)
	if err == nil && string(v.Bytes()[:5]) != "value" {
		err = fmt.Errorf("get gave %q", v.Bytes())
	}
	return err
}

// busyStore is a store with what anything needs, on its own file or in a host's
// database.
func busyStore(t *testing.T, own bool) *store.Store {
	t.Helper()
	var s *store.Store
	if own {
		s = newStore(t)
	} else {
		db := openHost(t, filepath.Join(t.TempDir(), "host.db"), "_pragma=journal_mode(WAL)&_pragma=busy_timeout(10000)&_txlock=immediate")
		var err error
		if s, err = store.Init(t.Context(), db, store.Passphrase([]byte(passphrase)), options()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
	}
	if err := s.CreateKey(t.Context(), "mk-1"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		put(t, s, fmt.Sprintf("shared/%d", i), "value", "")
	}
	return s
}

func TestConcurrentUseOfOneStore(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(map[bool]string{true: "own file", false: "host"}[own], func(t *testing.T) {
			s := busyStore(t, own)
			stop := make(chan struct{})
			time.AfterFunc(700*time.Millisecond, func() { close(stop) })
			for _, err := range many(stop, func(_, n int) error { return anything(t.Context(), s, n) }) {
				if err != nil {
					t.Error(err)
				}
			}
			if _, err := s.VerifyAudit(t.Context()); err != nil {
				t.Error(err)
			}
			wantNoWrapUnderDestroyed(t, s)
		})
	}
}

func TestCloseWhileInUse(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(map[bool]string{true: "own file", false: "host"}[own], func(t *testing.T) {
			for range 4 {
				s := busyStore(t, own)
				closed := make(chan error, 1)
				time.AfterFunc(50*time.Millisecond, func() { closed <- s.Close() })
				ended := make(chan []error, 1)
				go func() { ended <- many(nil, func(_, n int) error { return anything(t.Context(), s, n) }) }()
				select {
				case errs := <-ended:
					for _, err := range errs {
						if !errors.Is(err, store.ErrClosed) {
							t.Errorf("%v, want ErrClosed", err)
						}
					}
				case <-time.After(20 * time.Second):
					t.Fatal("somebody hangs")
				}
				if err := <-closed; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestClosedStoreRefusesEverything(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	put(t, s, "app/db", "one", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	_, putErr := s.Put(ctx, "app/db", []byte("two"), nil)
	_, get := s.Get(ctx, "app/db")
	_, show := s.Show(ctx, "app/db")
	_, list := s.List(ctx, store.ListOptions{})
	_, backup := s.Backup(ctx, filepath.Join(t.TempDir(), "copy.db"))
	_, slots := s.Slots(ctx)
	_, anchor := s.Anchor(ctx)
	_, add := s.AddSlot(ctx, store.Passphrase([]byte("x")), "")
	_, rotate := s.RotateRoot(ctx, store.RotateRootOptions{})
	update := s.Update(ctx, func(*sql.Tx) error { return nil })
	for what, err := range map[string]error{
		"put": putErr, "get": get, "show": show, "list": list, "backup": backup, "slots": slots, "anchor": anchor,
		"add slot": add, "rotate root": rotate, "update": update, "remove slot": s.RemoveSlot(ctx, "000000"),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
}

func TestCancelledContextIsAnswered(t *testing.T) {
	s := newStore(t)
	put(t, s, "app/db", "one", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, putErr := s.Put(ctx, "app/db", []byte("two"), nil)
	_, get := s.Get(ctx, "app/db")
	_, backup := s.Backup(ctx, filepath.Join(t.TempDir(), "copy.db"))
	for what, err := range map[string]error{"put": putErr, "get": get, "backup": backup} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", what, err)
		}
	}
	wantValue(t, s, "app/db", "one")
}

// A cancelled context takes the whole transaction back. A verb that is at work
// just then must not go on outside of it, statement by statement.
func TestUpdateCancelledInTheMiddleCommitsNothing(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx *sql.Tx) error {
		if _, err := s.PutTx(t.Context(), tx, "before", []byte("x"), nil); err != nil {
			return err
		}
		cancel()
		time.Sleep(50 * time.Millisecond) // for whoever acts on it
		_, err := s.PutTx(t.Context(), tx, "after", []byte("x"), nil)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v, want context.Canceled", err)
	}
	for _, name := range []string{"before", "after"} {
		if _, err := s.Show(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Show %s = %v, want ErrNotFound", name, err)
		}
	}
	if _, err := s.Put(t.Context(), "after", []byte("y"), nil); err != nil {
		t.Error(err)
	}
}

func TestUpdateCancelledAtAnyMomentLeavesNothing(t *testing.T) {
	s := newStore(t)
	for range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(2000+rand.IntN(3000))*time.Microsecond, cancel)
		err := s.Update(ctx, func(tx *sql.Tx) error {
			for i := 0; ; i++ {
				if _, err := s.PutTx(ctx, tx, fmt.Sprintf("s/%d", i), []byte("x"), nil); err != nil {
					return err
				}
			}
		})
		timer.Stop()
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Update = %v, want context.Canceled", err)
		}
	}
	if found, err := s.List(t.Context(), store.ListOptions{}); err != nil || len(found) > 0 {
		t.Errorf("List = %d secrets, %v; want none", len(found), err)
	}
	if rep, err := s.Verify(t.Context(), store.VerifyOptions{Deep: true}); err != nil || !rep.OK {
		t.Errorf("Verify = %+v, %v", rep, err)
	}
}
