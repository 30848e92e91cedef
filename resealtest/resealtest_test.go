package resealtest_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// recorder is a test that takes note of its errors, and runs its own clean-up.
type recorder struct {
	testing.TB
	errors  []string
	cleanup []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, format)
}

func (r *recorder) end() []string {
	for i := len(r.cleanup) - 1; i >= 0; i-- {
		r.cleanup[i]()
	}
	return r.errors
}

// A whole store ends its test without a word, and one that was damaged does
// not, whether it is open or closed then.
func TestStoreIsCheckedWhenTheTestEnds(t *testing.T) {
	for _, closed := range []bool{false, true} {
		for _, damaged := range []bool{false, true} {
			r := &recorder{TB: t}
			s := resealtest.New(r, nil)
			s.MustPut(t, "app/db", "hunter2", store.PutOptions{})
			if damaged {
				s.Exec(t, `UPDATE reseal_secret_versions SET sealed = CAST(sealed || x'00' AS BLOB)`)
			}
			if closed {
				s.Close()
			}
			if errs := r.end(); (len(errs) > 0) != damaged {
				t.Errorf("damaged %t, closed %t: errors %q", damaged, closed, errs)
			}
			if _, err := s.Get(t.Context(), "app/db"); err != store.ErrClosed {
				t.Errorf("the store is not closed: %v", err)
			}
		}
	}
}

func TestStoreInAHostsDatabaseIsCheckedAndTheDatabaseLeftOpen(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "host.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	r := &recorder{TB: t}
	s := resealtest.New(r, &resealtest.Options{DB: db})
	s.MustPut(t, "app/db", "hunter2", store.PutOptions{})
	if _, err := db.Exec(`UPDATE reseal_secret_versions SET sealed = CAST(sealed || x'00' AS BLOB)`); err != nil {
		t.Fatal(err)
	}
	if errs := r.end(); len(errs) == 0 || !strings.HasPrefix(errs[0], "verify the store") {
		t.Errorf("errors %q", errs)
	}
	if err := db.Ping(); err != nil {
		t.Error(err)
	}
}

func TestClockMovesOnlyWhenItIsMoved(t *testing.T) {
	s := resealtest.New(t, nil)
	s.MustPut(t, "app/db", "hunter2", store.PutOptions{})
	at := func() time.Time {
		t.Helper()
		info, err := s.Show(t.Context(), "app/db")
		if err != nil {
			t.Fatal(err)
		}
		return info.UpdatedAt
	}
	first := at()
	s.Clock.Advance(time.Hour)
	s.MustPut(t, "app/db", "hunter3", store.PutOptions{})
	if got := at().Sub(first); got != time.Hour {
		t.Errorf("an hour of the clock is %v", got)
	}
	if got := s.Another(t).MustGet(t, "app/db"); got != "hunter3" {
		t.Errorf("value %q, want hunter3", got)
	}
}
