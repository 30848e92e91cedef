package rotate_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func planOK(tb testing.TB, s *store.Store, o rotate.Options) rotate.Forecast {
	tb.Helper()
	f, err := rotate.Plan(tb.Context(), s, o, rotate.PlanOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// contents is every row of every table of reseal's, and the names of the files
// beside the store's.
func contents(tb testing.TB, s *store.Store) string {
	tb.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	var out strings.Builder
	tables := []string{"state", "master_keys", "master_key_versions", "master_key_wraps", "secrets", "secret_versions", "data_keys", "labels", "rotation_jobs", "audit_events"}
	for _, table := range tables {
		rows, err := db.QueryContext(tb.Context(), `SELECT * FROM reseal_`+table)
		if err != nil {
			tb.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			tb.Fatal(err)
		}
		row, to := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			to[i] = &row[i]
		}
		for rows.Next() {
			if err := rows.Scan(to...); err != nil {
				tb.Fatal(err)
			}
			fmt.Fprintf(&out, "%s %x\n", table, row)
		}
		rows.Close()
	}
	files, err := filepath.Glob(filepath.Dir(s.Path()) + "/*")
	if err != nil {
		tb.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Dir(s.Path()) + "/.*")
	if err != nil {
		tb.Fatal(err)
	}
	return out.String() + strings.Join(append(files, hidden...), "\n")
}

// What a plan counts is what the run moves, by every kind of version, and the
// plan itself changes nothing.
func TestPlanCountsWhatRunMovesAndChangesNothing(t *testing.T) {
	for name, o := range map[string]rotate.Options{
		"key to key":           {From: "mk-1", To: "mk-2"},
		"version":              {Key: "mk-1"},
		"fast":                 {Key: "mk-1", Fast: true},
		"by age":               {Key: "mk-1", OlderThan: time.Nanosecond, Mode: rotate.Reencrypt},
		"reencrypt key to key": {From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt, MadeBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
		"reencrypt version":    {Key: "mk-1", Mode: rotate.Reencrypt, TouchedBy: 1},
		"prefix":               {Key: "mk-1", Prefix: "app/1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 20, 3, 32)
			if err := s.SetLabel(t.Context(), "app/3", "blue", 1); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Put(t.Context(), "app/3", valueOf("app/3", 4, 32), &store.PutOptions{Label: store.LabelPending}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Delete(t.Context(), "app/5", 0); err != nil {
				t.Fatal(err)
			}
			rawSQL(t, s, `UPDATE reseal_data_keys SET made_at = 1000 WHERE id % 3 = 0`)
			time.Sleep(2 * time.Millisecond)
			rotateKey(t, s, "mk-1")
			before := contents(t, s)
			f := planOK(t, s, o)
			if after := contents(t, s); after != before {
				t.Errorf("the plan changed the store (-before +after):\n%s", cmp.Diff(before, after))
			}
			all := o.Prefix == ""
			if all && (f.Versions != 61 || f.Labelled != 41 || f.Pending != 1 || f.Unlabelled != 19 || f.OfDeleted != 3 || f.Secrets != 19 || f.DeletedSecrets != 1) {
				t.Errorf("counts: %+v", f.RotationPlan)
			}
			if !f.Check.All || f.Check.Opened != f.Versions || f.Check.Failing != 0 || f.Seconds <= 0 || f.Rate <= 0 || f.Cost.Sampled == 0 {
				t.Errorf("forecast: %+v", f)
			}
			if f.DiskNeed <= 0 || f.Disk.Free <= 0 {
				t.Errorf("disk: %+v", f.Disk)
			}
			rep := runOK(t, s, o)
			if rep.Moved != f.Versions || rep.Replaced != f.Replaced || rep.ToVersion != f.ToVersion || rep.Checked < f.Versions {
				t.Errorf("the plan\n%+v\nand the run\n%+v", f, rep)
			}
			wantFilled(t, s, "app", 5, 3, 32)
			if again := planOK(t, s, o); o.OlderThan == 0 && again.Versions != 0 {
				t.Errorf("after the run: %+v", again)
			}
		})
	}
}

// What a plan says will fail is what the run leaves, with the same words.
func TestPlanTellsWhatRunWillLeave(t *testing.T) {
	for name, o := range reencryptions {
		for _, mode := range []rotate.Mode{rotate.Rewrap, rotate.Reencrypt} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				o := o
				o.Mode = mode
				s := newStore(t)
				fill(t, s, "app", 12, 3, 32)
				damageValue(t, s, "app/4", 3)
				damageWrap(t, s, "app/7", 2)
				rawSQL(t, s, `UPDATE reseal_secrets SET tag = zeroblob(32) WHERE name = 'app/9'`)
				rotateKey(t, s, "mk-1")
				f := planOK(t, s, o)
				rep, err := rotate.Run(t.Context(), s, o)
				if !errors.Is(err, rotate.ErrIncomplete) {
					t.Fatalf("Run = %+v, %v", rep, err)
				}
				if diff := cmp.Diff(rep.Failures, f.Check.Failures); diff != "" || !f.Check.All {
					t.Errorf("failures (-run +plan):\n%s", diff)
				}
				if f.Check.Failing != rep.Remaining {
					t.Errorf("%d would fail, %d remain", f.Check.Failing, rep.Remaining)
				}
			})
		}
	}
}

func TestPlanRefusesWhatRunRefuses(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 1, 32)
	openJob(t, s)
	for name, c := range map[string]struct {
		o    rotate.Options
		want error
	}{
		"nothing named":  {rotate.Options{}, store.ErrInvalid},
		"unknown key":    {rotate.Options{Key: "no-such"}, store.ErrNotFound},
		"aged unknown":   {rotate.Options{Key: "no-such", OlderThan: time.Hour}, store.ErrNotFound},
		"another job":    {rotate.Options{From: "mk-1", To: "default"}, store.ErrJobRunning},
		"a crossing job": {rotate.Options{From: "mk-2", To: "mk-1"}, store.ErrJobRunning},
	} {
		if _, err := rotate.Plan(t.Context(), s, c.o, rotate.PlanOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if f := planOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"}); f.Job == "" {
		t.Errorf("the same job: %+v", f)
	}
}

// Of more than it opens at once, a plan opens some in random places, and says
// so; with Deep all.
func TestPlanOpensAllOnlyWhenAsked(t *testing.T) {
	if testing.Short() {
		t.Skip("stores of 70 MB")
	}
	const size = 60_000
	for _, name := range []string{"key to key", "gentle"} {
		t.Run(name, func(t *testing.T) {
			o := reencryptions[name]
			s := newStore(t)
			value := bytes.Repeat([]byte("v"), size)
			if err := s.Update(t.Context(), func(tx *sql.Tx) (err error) {
				for i := range 1200 { // 69 MiB
					if _, err = s.PutTx(t.Context(), tx, fmt.Sprint("app/", i), value, nil); err != nil {
						break
					}
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			damageValue(t, s, "app/777", 1)
			rotateKey(t, s, "mk-1")
			f := planOK(t, s, o)
			if f.Check.All || f.Check.Opened == 0 || f.Versions != 1200 || f.ValueBytes != 1200*(size+76) {
				t.Errorf("forecast: %+v", f)
			}
			f, err := rotate.Plan(t.Context(), s, o, rotate.PlanOptions{Deep: true})
			if err != nil || !f.Check.All || f.Check.Opened != 1200 || f.Check.Failing != 1 {
				t.Errorf("deep: %+v, %v", f, err)
			}
		})
	}
}

func TestPlanTellsWhatReencryptWouldLeave(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 1, 32)
	o := rotate.Options{Key: "mk-1", Mode: rotate.Reencrypt}
	if f := planOK(t, s, o); len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "3 data keys were under") {
		t.Errorf("nothing under an older version: %q", f.Warnings)
	}
	rotateKey(t, s, "mk-1")
	if f := planOK(t, s, o); len(f.Warnings) != 0 || f.Replaced != 3 {
		t.Errorf("all under an older version: %q", f.Warnings)
	}
	o.OlderThan = time.Hour
	if f := planOK(t, s, o); f.NewVersion || f.Versions != 3 || f.ToVersion != 2 {
		t.Errorf("a young version: %+v", f)
	}
	o.OlderThan = time.Nanosecond
	if f := planOK(t, s, o); !f.NewVersion || f.Versions != 3 || f.ToVersion != 3 {
		t.Errorf("an old version: %+v", f)
	}
}

// The time that a plan expects is about what the run takes, and the log grows
// by about what it says when somebody reads all the time. The bounds are wide:
// other tests run at the same time, and a short job may be a quarter of a second
// off. docs/rotation.md has the figures of an idle machine.
func TestPlanIsAboutRight(t *testing.T) {
	if testing.Short() {
		t.Skip("a race between a plan and a run")
	}
	for name, o := range map[string]rotate.Options{
		"version":              {Key: "mk-1"},
		"key to key":           {From: "mk-1", To: "mk-2"},
		"reencrypt version":    {Key: "mk-1", Mode: rotate.Reencrypt},
		"reencrypt key to key": {From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt},
	} {
		t.Run(name, func(t *testing.T) {
			var tries []string
			for range 3 {
				s := newStore(t)
				fill(t, s, "app", 5000, 1, 300)
				rotateKey(t, s, "mk-1")
				log := keepLog(t, s)
				f := planOK(t, s, o)
				o, grown := o, int64(0)
				o.Progress = func(p rotate.Progress) {
					if p.Phase == rotate.Settling { // which would wait for the reader
						grown = log()
					}
				}
				rep := runOK(t, s, o)
				if !within(float64(f.Disk.LogMost), float64(grown), 3) {
					t.Errorf("the log grew by %d bytes, and was to grow by %d", grown, f.Disk.LogMost)
				}
				t.Logf("%.2f s planned, %s taken; %d bytes of log planned", f.Seconds, rep.Elapsed, f.Disk.LogMost)
				taken := rep.Elapsed.Seconds()
				if within(f.Seconds, taken, 2.5) || math.Abs(f.Seconds-taken) < 0.25 {
					return
				}
				tries = append(tries, fmt.Sprintf("%.2f s planned, %s taken", f.Seconds, rep.Elapsed))
			}
			t.Errorf("three times: %v", tries)
		})
	}
}

func within(a, b, factor float64) bool { return math.Max(a, b) <= factor*math.Min(a, b) }

// keepLog reads, so that the log is never emptied, and returns what ends that and
// tells by how much it has grown.
func keepLog(tb testing.TB, s *store.Store) func() int64 {
	tb.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := db.ExecContext(tb.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		tb.Fatal(err)
	}
	tx, err := db.BeginTx(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { tx.Rollback(); db.Close() })
	var n int
	if err := tx.QueryRowContext(tb.Context(), `SELECT count(*) FROM reseal_secrets`).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	size := func() int64 {
		info, err := os.Stat(s.Path() + "-wal")
		if err != nil {
			return 0
		}
		return info.Size()
	}
	before := size()
	return func() int64 { tx.Rollback(); return size() - before }
}
