package store_test

import (
	"database/sql"
	"runtime"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// panics makes Write and Now of a host panic while it is set.
type panics struct {
	on  bool
	now func() time.Time
}

func (p *panics) Write([]byte) (int, error) { panic("host code") }

func (p *panics) Now() time.Time {
	if p.on {
		panic("host code")
	}
	return p.now()
}

// recovered runs fn as a server runs a request: a panic ends the request only.
func recovered(t *testing.T, fn func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("the host's code did not panic")
		}
	}()
	fn()
}

// A reader whose host panicked sees what is written afterwards.
func TestPanicInWriterLeavesNoSnapshotOpen(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	s.MustPut(t, "a", "old", store.PutOptions{})
	for range runtime.GOMAXPROCS(0) { // one each reader
		recovered(t, func() { s.ExportEvents(ctx, &panics{}) })
	}
	s.MustPut(t, "a", "new", store.PutOptions{})
	for range runtime.GOMAXPROCS(0) {
		storetest.Diff(t, "value", "new", s.MustGet(t, "a"))
		must(s.Show(ctx, "a"))(t)
	}
}

// A write whose clock panicked gives the lock back, and a host's connection its
// settings.
func TestPanicInClockLeavesNoTransactionOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		db   *sql.DB
	}{
		{"own file", nil},
		{"host's database", hostDB(t, "_pragma=journal_mode(WAL)&_pragma=secure_delete(0)&_pragma=busy_timeout(100)")},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &panics{now: time.Now}
			s, ctx := resealtest.New(t, &resealtest.Options{DB: c.db, Store: store.Options{Now: p.Now, BusyTimeout: 100 * time.Millisecond}}), t.Context()
			before := ""
			if c.db != nil {
				c.db.SetMaxOpenConns(1)
				storetest.OK(t, c.db.QueryRow("PRAGMA secure_delete").Scan(&before))
			}
			p.on = true
			recovered(t, func() { s.Put(ctx, "a", []byte("value"), nil) })
			p.on = false
			if c.db == nil {
				s.Another(t).MustPut(t, "a", "value", store.PutOptions{})
				return
			}
			s.MustPut(t, "a", "value", store.PutOptions{})
			after := ""
			storetest.OK(t, c.db.QueryRow("PRAGMA secure_delete").Scan(&after))
			storetest.Diff(t, "secure_delete", before, after)
		})
	}
}
