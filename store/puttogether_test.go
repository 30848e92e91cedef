package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// whileLocked holds the write lock until n puts wait for it, which start makes,
// runs meanwhile, and returns when start has returned.
func whileLocked(t *testing.T, s *store.Store, n int, start, meanwhile func()) {
	t.Helper()
	var all sync.WaitGroup
	err := s.Update(t.Context(), func(*sql.Tx) error {
		all.Go(start)
		for began := time.Now(); store.WaitingPuts(s) < n; time.Sleep(time.Millisecond) {
			if time.Since(began) > 10*time.Second {
				return fmt.Errorf("%d puts wait and not %d", store.WaitingPuts(s), n)
			}
		}
		if meanwhile != nil {
			meanwhile()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

// puts runs n puts at once and returns their results and errors.
func puts(ctx context.Context, s *store.Store, n int, item func(i int) input) ([]store.PutResult, []error) {
	res, errs := make([]store.PutResult, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			it := item(i)
			res[i], errs[i] = s.Put(ctx, it.name, it.value, &it.o)
		})
	}
	all.Wait()
	return res, errs
}

func generation(t *testing.T, s *store.Store) int64 { return must(s.Anchor(t.Context()))(t).Generation }

// input is what a put takes.
type input struct {
	name  string
	value []byte
	o     store.PutOptions
}

func (in input) item() store.Item { return store.NewItem(in.name, in.value, &in.o) }

// app is the input of app/i with a value of its own.
func app(i int) input {
	return input{name: fmt.Sprintf("app/%d", i), value: fmt.Appendf(nil, "value %d", i)}
}

func TestWaitingPutsAreOneTransaction(t *testing.T) {
	s := resealtest.New(t, nil)
	const n = 20
	before, eventsBefore := generation(t, s.Store), len(must(s.Events(t.Context(), store.EventFilter{}))(t))
	var errs []error
	whileLocked(t, s.Store, n, func() { _, errs = puts(t.Context(), s.Store, n, app) }, nil)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	storetest.Diff(t, "transactions", before+1, generation(t, s.Store))
	storetest.Diff(t, "events", eventsBefore+n, len(must(s.Events(t.Context(), store.EventFilter{}))(t)))
	for i := range n {
		storetest.Diff(t, "value", fmt.Sprintf("value %d", i), s.MustGet(t, fmt.Sprintf("app/%d", i)))
	}
}

// Versions of one secret that are written together have different numbers, and
// the newest is current.
func TestWaitingPutsOfOneSecretFollowEachOther(t *testing.T) {
	s := resealtest.New(t, nil)
	const n = 10
	var res []store.PutResult
	var errs []error
	whileLocked(t, s.Store, n, func() {
		res, errs = puts(t.Context(), s.Store, n, func(i int) input { return input{name: "app", value: app(i).value} })
	}, nil)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for i, r := range res {
		seen[r.Version] = true
		storetest.Diff(t, "value", fmt.Sprintf("value %d", i), s.MustGet(t, "app", store.Version(r.Version)))
		if r.Version == n {
			storetest.Diff(t, "current", fmt.Sprintf("value %d", i), s.MustGet(t, "app"))
		}
	}
	storetest.Diff(t, "different versions", n, len(seen))
}

// A put that is refused has its own error, and those beside it are written.
func TestRefusedPutDoesNotConcernOthers(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	s.MustPut(t, "deleted", "x", store.PutOptions{})
	s.MustPut(t, "token", "x", store.PutOptions{Token: "t"})
	must(s.Delete(ctx, "deleted", 0))(t)
	cancelled, cancel := context.WithCancel(ctx)
	items := []input{
		app(0),
		{name: "deleted", value: []byte("y")},
		{name: "token", value: []byte("y"), o: store.PutOptions{Token: "t"}},
		{name: "new", value: []byte("y"), o: store.PutOptions{Key: "missing"}},
		app(4),
	}
	var errs []error
	var late error
	whileLocked(t, s.Store, len(items)+1, func() {
		var all sync.WaitGroup
		all.Go(func() { _, late = s.Put(cancelled, "late", []byte("y"), nil) })
		_, errs = puts(ctx, s.Store, len(items), func(i int) input { return items[i] })
		all.Wait()
	}, cancel)
	for i, want := range []error{nil, store.ErrDeleted, store.ErrTokenConflict, store.ErrNotFound, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("put of %q = %v, want %v", items[i].name, errs[i], want)
		}
	}
	if !errors.Is(late, context.Canceled) {
		t.Errorf("cancelled put = %v", late)
	}
	if _, err := s.Get(ctx, "late"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a cancelled put was written: %v", err)
	}
	storetest.Diff(t, "value", "value 4", s.MustGet(t, "app/4"))
}

// A put that fails in the middle of what it writes leaves nothing behind, and
// those beside it are written all the same.
func TestPutThatFailsWhileWritingDoesNotConcernOthers(t *testing.T) {
	s := resealtest.New(t, &resealtest.Options{Damaged: true})
	must(s.Raw(t).Exec(`CREATE TRIGGER reseal_teeth BEFORE INSERT ON reseal_labels
		WHEN NEW.secret IN (SELECT id FROM reseal_secrets WHERE name = 'app/3')
		BEGIN SELECT RAISE(ABORT, 'no'); END`))(t)
	storetest.OK(t, store.TrustSchema(t.Context(), s.Store))
	const n = 6
	var errs []error
	whileLocked(t, s.Store, n, func() { _, errs = puts(t.Context(), s.Store, n, app) }, nil)
	for i, err := range errs {
		if (err != nil) != (i == 3) {
			t.Errorf("put %d = %v", i, err)
		}
	}
	must(s.Raw(t).Exec(`DROP TRIGGER reseal_teeth`))(t)
	resealtest.Check(t, s.Store)
	storetest.Diff(t, "secrets", n-1, len(must(s.List(t.Context(), store.ListOptions{}))(t)))
}

// Puts that wait while another process disables their key are refused, also
// when this process has the key in memory.
func TestWaitingPutsReadTheirKeyAgain(t *testing.T) {
	s := resealtest.New(t, nil)
	s.MustPut(t, "app/0", "x", store.PutOptions{})
	other := s.Another(t)
	var errs []error
	// The lock of this process only: another one can write.
	unlock := store.HoldWriteLock(s.Store)
	var all sync.WaitGroup
	all.Go(func() { _, errs = puts(t.Context(), s.Store, 4, app) })
	for store.WaitingPuts(s.Store) < 4 {
		time.Sleep(time.Millisecond)
	}
	must(other.DisableKey(t.Context(), store.DefaultKeyName))(t)
	unlock()
	all.Wait()
	for i, err := range errs {
		if !errors.Is(err, store.ErrKeyUnavailable) {
			t.Errorf("put %d = %v", i, err)
		}
	}
	if _, err := s.PutMany(t.Context(), list(app(1), app(2))); !errors.Is(err, store.ErrKeyUnavailable) {
		t.Errorf("PutMany = %v", err)
	}
	if err := s.EnableKey(t.Context(), store.DefaultKeyName); err != nil {
		t.Fatal(err)
	}
	storetest.Diff(t, "version", uint64(2), s.MustPut(t, "app/0", "y", store.PutOptions{}).Version)
}

// Where the host's clock panics in one put, the others are written.
func TestPanicInOnePutDoesNotHoldOthersUp(t *testing.T) {
	p := &panicsOnce{now: time.Now}
	s := resealtest.New(t, &resealtest.Options{Store: store.Options{Now: p.Now}})
	const n = 8
	var mu sync.Mutex
	panicked, failed := 0, 0
	whileLocked(t, s.Store, n, func() {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					if recover() != nil {
						panicked++
					}
				}()
				if _, err := s.Put(t.Context(), app(i).name, app(i).value, nil); err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			})
		}
		all.Wait()
	}, p.arm)
	storetest.Diff(t, "panicked", 1, panicked)
	storetest.Diff(t, "failed", 0, failed)
	storetest.Diff(t, "secrets", n-1, len(must(s.List(t.Context(), store.ListOptions{}))(t)))
}

// panicsOnce is a clock that panics the next time it is asked.
type panicsOnce struct {
	mu    sync.Mutex
	armed bool
	now   func() time.Time
}

func (p *panicsOnce) arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
}

func (p *panicsOnce) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.armed {
		p.armed = false
		panic("host code")
	}
	return p.now()
}

// While another program has the file, a put whose context ends returns, whoever
// would write it; and those that wait longer than the busy timeout have waited
// for all of them at once.
func TestWaitingPutsGiveUpTogether(t *testing.T) {
	const busy, n = 3 * time.Second, 6
	s := resealtest.New(t, &resealtest.Options{Store: store.Options{BusyTimeout: busy}})
	other := must(store.Open(t.Context(), s.Path(), resealtest.Credential(), nil))(t)
	defer other.Close()
	short, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var errs [n]error
	var took [n]time.Duration
	storetest.OK(t, other.Update(t.Context(), func(*sql.Tx) error {
		release := store.HoldWriteLock(s.Store)
		for i := range n {
			all.Go(func() {
				ctx := t.Context()
				if i%2 == 1 {
					ctx = short
				}
				began := time.Now()
				_, errs[i] = s.Put(ctx, app(i).name, app(i).value, nil)
				took[i] = time.Since(began)
			})
			for store.WaitingPuts(s.Store) < i+1 {
				time.Sleep(time.Millisecond)
			}
		}
		release()
		for store.WaitingPuts(s.Store) > 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		all.Wait()
		return nil
	}))
	for i, err := range errs {
		want, limit := store.ErrBusy, 2*busy
		if i%2 == 1 {
			want, limit = context.Canceled, busy
		}
		if !errors.Is(err, want) || took[i] > limit {
			t.Errorf("put %d ended with %v after %v, and should with %v within %v", i, err, took[i], want, limit)
		}
	}
	storetest.Diff(t, "secrets", 0, len(must(s.List(t.Context(), store.ListOptions{}))(t)))
}
