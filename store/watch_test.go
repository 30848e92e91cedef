package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func watch(t *testing.T, s *store.Store, name string, o *store.WatchOptions) *store.Handle {
	t.Helper()
	h, err := s.Watch(t.Context(), name, o)
	storetest.OK(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

// held returns the handle's value as text, or the error.
func held(t *testing.T, h *store.Handle) string {
	t.Helper()
	v, err := h.Value(t.Context())
	switch {
	case errors.Is(err, store.ErrDeleted):
		return "error: " + store.ErrDeleted.Error()
	case errors.Is(err, store.ErrClosed):
		return "error: " + store.ErrClosed.Error()
	case err != nil:
		return "error: " + sentinel(err)
	}
	defer v.Clear()
	return string(v.Bytes())
}

func wantHeld(t *testing.T, h *store.Handle, want string) {
	t.Helper()
	if got := held(t, h); got != want {
		t.Errorf("the handle has %q, want %q", got, want)
	}
}

// wantTold waits for word of a change.
func wantTold(t *testing.T, h *store.Handle) {
	t.Helper()
	select {
	case _, ok := <-h.Changed():
		if !ok {
			t.Error("the handle was closed")
		}
	case <-time.After(10 * time.Second):
		t.Error("no word of a change")
	}
}

// slowly is an interval that does not come in a test: what is seen is seen
// without it.
var slowly = &store.WatchOptions{Interval: time.Hour}

func TestHandleHasWhatItsStoreCommittedAtOnce(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	s.MustPut(t, "app/db", "v1", store.PutOptions{})
	h := watch(t, s.Store, "app/db", slowly)
	wantHeld(t, h, "v1")
	for _, c := range []struct {
		do   func() error
		want string
		told bool
	}{
		{func() error { return storetest.Err(s.Put(ctx, "app/db", []byte("v2"), nil)) }, "v2", true},
		{func() error {
			return storetest.Err(s.Put(ctx, "app/db", []byte("v3"), &store.PutOptions{Label: "next"}))
		}, "v2", false},
		{func() error { return s.SetLabel(ctx, "app/db", store.LabelCurrent, 3) }, "v3", true},
		{func() error { return storetest.Err(s.DisableKey(ctx, "default")) }, "error: " + store.ErrKeyUnavailable.Error(), true},
		{func() error { return s.EnableKey(ctx, "default") }, "v3", true},
		{func() error { return s.CreateKey(ctx, "mk-2") }, "v3", false},
		{func() error { return storetest.Err(s.SetKey(ctx, "app/db", "mk-2")) }, "v3", false},
		{func() error {
			return s.Update(ctx, func(tx *sql.Tx) error {
				return storetest.Err(s.PutTx(ctx, tx, "app/db", []byte("v4"), nil))
			})
		}, "v4", true},
		{func() error { return storetest.Err(s.Delete(ctx, "app/db", 0)) }, "error: " + store.ErrDeleted.Error(), true},
		{func() error { return storetest.Err(s.Restore(ctx, "app/db")) }, "v4", true},
		{func() error { return storetest.Err(s.Put(ctx, "other", []byte("x"), nil)) }, "v4", false},
	} {
		storetest.OK(t, c.do())
		wantHeld(t, h, c.want)
		if c.told {
			wantTold(t, h)
		}
		select {
		case <-h.Changed():
			t.Errorf("now %q: word of a change too many", c.want)
		default:
		}
	}
}

func TestHandleFollowsALabel(t *testing.T) {
	s := resealtest.New(t, nil)
	s.MustPut(t, "app/db", "v1", store.PutOptions{Label: store.LabelPending})
	h := watch(t, s.Store, "app/db", &store.WatchOptions{Label: store.LabelPending, Interval: time.Hour})
	s.MustPut(t, "app/db", "v2", store.PutOptions{})
	wantHeld(t, h, "v1")
	storetest.OK(t, s.RemoveLabel(t.Context(), "app/db", store.LabelPending))
	wantHeld(t, h, "error: "+store.ErrNotFound.Error())
	s.MustPut(t, "app/db", "v3", store.PutOptions{Label: store.LabelPending})
	wantHeld(t, h, "v3")
}

// TestHandleSeesOtherProcessesInTime has another process put, and measures how
// long the handle's value was the old one after the put had returned.
func TestHandleSeesOtherProcessesInTime(t *testing.T) {
	s := newStore(t)
	const interval = 20 * time.Millisecond
	storetest.OK(t, storetest.Err(s.Put(t.Context(), "app/db", []byte("0"), nil)))
	other := newSession(t, s.Path())
	h := watch(t, s, "app/db", &store.WatchOptions{Interval: interval})
	var longest time.Duration
	for n := range 20 {
		want := fmt.Sprint(n + 1)
		other.does("put app/db "+want, "ok default version 1")
		began, looked := time.Now(), time.Now()
		for held(t, h) != want {
			looked = time.Now()
			time.Sleep(time.Millisecond)
		}
		longest = max(longest, looked.Sub(began))
	}
	if longest > 2*interval+time.Second { // a second for a busy machine
		t.Errorf("the old value was returned for %v, with an interval of %v", longest, interval)
	}
	t.Logf("interval %v: the old value was returned for at most %v", interval, longest)
	wantTold(t, h)
}

// TestHandleLooksForItselfWhenItsGoroutineIsLate has an interval over which the
// goroutine never comes, by which the bound on staleness is Value's alone.
func TestHandleLooksForItselfWhenItsGoroutineIsLate(t *testing.T) {
	s := resealtest.New(t, nil)
	s.MustPut(t, "app/db", "v1", store.PutOptions{})
	h := watch(t, s.Store, "app/db", slowly)
	s.Another(t).MustPut(t, "app/db", "v2", store.PutOptions{})
	wantHeld(t, h, "v1") // within the bound
	store.AgeHandle(h, 2*time.Hour)
	wantHeld(t, h, "v2")
}

func TestHandleInAHostsDatabaseSeesTheHostsTransactions(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "host.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	storetest.OK(t, err)
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	s, ctx := resealtest.New(t, &resealtest.Options{DB: db}), t.Context()
	s.MustPut(t, "app/db", "v1", store.PutOptions{})
	h := watch(t, s.Store, "app/db", &store.WatchOptions{Interval: 5 * time.Millisecond})
	tx, err := db.BeginTx(ctx, nil)
	storetest.OK(t, err)
	storetest.OK(t, storetest.Err(s.PutTx(ctx, tx, "app/db", []byte("v2"), nil)))
	time.Sleep(20 * time.Millisecond) // the goroutine waits for the host's only connection
	storetest.OK(t, tx.Commit())
	wantTold(t, h)
	wantHeld(t, h, "v2")
}

func TestHandleEndsWithItsStore(t *testing.T) {
	before := runtime.NumGoroutine()
	s := resealtest.New(t, nil)
	s.MustPut(t, "app/db", "v1", store.PutOptions{})
	var all []*store.Handle
	for range 10 {
		all = append(all, watch(t, s.Store, "app/db", nil))
	}
	storetest.OK(t, all[0].Close())
	storetest.OK(t, all[0].Close())
	wantHeld(t, all[0], "error: "+store.ErrClosed.Error())
	wantHeld(t, all[1], "v1")
	storetest.OK(t, s.Close())
	for _, h := range all {
		if _, open := <-h.Changed(); open {
			t.Error("word of a change after the end")
		}
		wantHeld(t, h, "error: "+store.ErrClosed.Error())
		storetest.OK(t, h.Close())
	}
	if _, err := s.Watch(t.Context(), "app/db", nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Watch after Close: %v, want ErrClosed", err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, and there were %d", runtime.NumGoroutine(), before)
}

func TestWatchRefusesWhatCannotBeRead(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	s.MustPut(t, "app/db", "v1", store.PutOptions{})
	for _, c := range []struct {
		name string
		o    *store.WatchOptions
		want error
	}{
		{"app/none", nil, store.ErrNotFound},
		{"app/db", &store.WatchOptions{Label: "none"}, store.ErrNotFound},
		{"a b", nil, store.ErrInvalid},
		{"app/db", &store.WatchOptions{Interval: -1}, store.ErrInvalid},
	} {
		if _, err := s.Watch(ctx, c.name, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s, %+v: error %v, want %v", c.name, c.o, err, c.want)
		}
	}
	sealed, err := store.OpenSealed(ctx, s.Path(), nil)
	storetest.OK(t, err)
	defer sealed.Close()
	if _, err := sealed.Watch(ctx, "app/db", nil); !errors.Is(err, store.ErrSealed) {
		t.Errorf("a sealed store: %v, want ErrSealed", err)
	}
}

// TestHandleAuditsWhatItReads and does not look because of its own events.
func TestHandleAuditsWhatItReads(t *testing.T) {
	s := resealtest.New(t, &resealtest.Options{Store: store.Options{AuditReads: true}})
	s.MustPut(t, "app/db", "v1", store.PutOptions{})
	h := watch(t, s.Store, "app/db", &store.WatchOptions{Interval: time.Millisecond})
	for range 50 {
		wantHeld(t, h, "v1")
		time.Sleep(time.Millisecond)
	}
	s.MustPut(t, "app/db", "v2", store.PutOptions{})
	wantHeld(t, h, "v2")
	events, err := s.Events(t.Context(), store.EventFilter{Secret: "app/db"})
	storetest.OK(t, err)
	reads := 0
	for _, e := range events {
		if e.Action == "get" {
			reads++
		}
	}
	if reads != 2 {
		t.Errorf("%d reads are audited, want 2: one for each version", reads)
	}
}

// TestHandleIsUsedFromManyGoroutines is for the race detector: values never mix,
// and no reader goes back to an older one.
func TestHandleIsUsedFromManyGoroutines(t *testing.T) {
	s := resealtest.New(t, nil)
	s.MustPut(t, "app/db", strings.Repeat("0", 100), store.PutOptions{})
	h := watch(t, s.Store, "app/db", &store.WatchOptions{Interval: time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			last := uint64(0)
			for ctx.Err() == nil {
				v, err := h.Value(context.WithoutCancel(ctx))
				if err != nil {
					t.Error(err)
					return
				}
				text := string(v.Bytes())
				v.Clear()
				if v.Version < last || text != strings.Repeat(text[:1], 100) || fmt.Sprint((v.Version-1)%10) != text[:1] {
					t.Errorf("version %d after %d: %q", v.Version, last, text)
					return
				}
				last = v.Version
			}
		})
	}
	for n := range 60 {
		s.MustPut(t, "app/db", strings.Repeat(fmt.Sprint((n+1)%10), 100), store.PutOptions{})
	}
	stop()
	wg.Wait()
}

func TestHandleAppendsItsValue(t *testing.T) {
	s := newStore(t)
	put(t, s, "app/db", "one", "")
	h := watch(t, s, "app/db", slowly)
	for i, want := range []string{"one", "two"} {
		if i > 0 {
			put(t, s, "app/db", want, "")
		}
		got, version, err := h.Append(t.Context(), []byte("<"))
		if err != nil || string(got) != "<"+want || version != uint64(i+1) {
			t.Errorf("Append = %q, %d, %v", got, version, err)
		}
	}
	if _, err := s.Delete(t.Context(), "app/db", 0); err != nil {
		t.Fatal(err)
	}
	if got, _, err := h.Append(t.Context(), []byte("<")); !errors.Is(err, store.ErrDeleted) || string(got) != "<" {
		t.Errorf("Append = %q, %v", got, err)
	}
}
