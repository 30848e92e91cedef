package rotate_test

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// agingStore is a store whose clock the test moves.
func agingStore(tb testing.TB) (s *store.Store, advance func(time.Duration)) {
	tb.Helper()
	var mu sync.Mutex
	now := time.Now()
	o := options()
	o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s, err := store.Create(tb.Context(), filepath.Join(tb.TempDir(), "reseal.db"), credential(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s, func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
}

const month = 30 * 24 * time.Hour

func TestRunByAgeRotatesOldKeysOnly(t *testing.T) {
	s, advance := agingStore(t)
	fill(t, s, "old", 10, 1, 32)
	advance(4 * month)
	for _, k := range []string{"young", "off"} {
		if err := s.CreateKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "under/"+k, []byte("x"), &store.PutOptions{Key: k}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.DisableKey(t.Context(), "off"); err != nil {
		t.Fatal(err)
	}
	o := rotate.Options{OlderThan: 3 * month}
	rep, err := rotate.Run(t.Context(), s, o)
	if err != nil || rep.Moved != 10 || rep.From != "default" || rep.ToVersion != 2 || !rep.Verified {
		t.Errorf("Run = %+v, %v", rep, err)
	}
	wantWraps(t, s, map[string]int64{"default v2": 10, "young v1": 1, "off v1": 1})
	jobs, events := counts(t, s)
	if rep, err := rotate.Run(t.Context(), s, o); err != nil || rep.Moved != 0 || rep.State != store.JobComplete {
		t.Errorf("second run = %+v, %v", rep, err)
	}
	if j, e := counts(t, s); j != jobs || e != events {
		t.Errorf("the second run left %d jobs and %d events, there were %d and %d", j, e, jobs, events)
	}
	advance(4 * month)
	rep, err = rotate.Run(t.Context(), s, o)
	if err != nil || rep.Moved != 11 || len(rep.Keys) != 2 || !rep.Verified {
		t.Errorf("a third of a year later = %+v, %v", rep, err)
	}
	wantWraps(t, s, map[string]int64{"default v3": 10, "young v2": 1, "off v1": 1})
	wantFilled(t, s, "old", 10, 1, 32)
}

func TestRunByAgeMovesWhatIsBehindYoungKey(t *testing.T) {
	s, _ := agingStore(t)
	fill(t, s, "app", 10, 1, 32)
	rotateKey(t, s, "default")
	rep, err := rotate.Run(t.Context(), s, rotate.Options{Key: "default", OlderThan: month})
	if err != nil || rep.Moved != 10 || rep.ToVersion != 2 {
		t.Errorf("Run = %+v, %v", rep, err)
	}
}

func TestRunByAgeOfSeveralAtOnceMakesOneVersion(t *testing.T) {
	s, advance := agingStore(t)
	fill(t, s, "app", 200, 1, 32)
	advance(4 * month)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := rotate.Run(t.Context(), s, rotate.Options{OlderThan: 3 * month, Batch: 20}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantWraps(t, s, map[string]int64{"default v2": 200})
	wantFilled(t, s, "app", 200, 1, 32)
}

// A job that another process is at work on is left to it. One that nobody is at
// work on, and that is another, is told: it would stay for ever.
func TestRunByAgeTellsOfAnotherJobThatWasLeft(t *testing.T) {
	s, _ := agingStore(t)
	fill(t, s, "app", 10, 1, 32)
	rotateKey(t, s, "default")
	job, err := s.StartRotation(t.Context(), store.RotationSpec{From: "default", To: "default"})
	if err != nil {
		t.Fatal(err)
	}
	o := rotate.Options{OlderThan: month, Mode: rotate.Reencrypt}
	if rep, err := rotate.Run(t.Context(), s, o); err != nil || rep.Moved != 0 {
		t.Errorf("while somebody is at work on it: %+v, %v", rep, err)
	}
	if _, err := rotate.Plan(t.Context(), s, o, rotate.PlanOptions{}); err != nil {
		t.Errorf("a plan of it: %v", err)
	}
	if err := job.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	var e *store.Error
	if _, err := rotate.Run(t.Context(), s, o); !errors.Is(err, store.ErrJobRunning) || !errors.As(err, &e) || e.Remedy != "reseal rotate run --key default" {
		t.Errorf("when nobody is: %v", err)
	}
	if _, err := rotate.Plan(t.Context(), s, o, rotate.PlanOptions{}); !errors.Is(err, store.ErrJobRunning) {
		t.Errorf("a plan of it: %v", err)
	}
	o.Mode = rotate.Rewrap
	if rep, err := rotate.Run(t.Context(), s, o); err != nil || rep.Moved != 10 || rep.Job != job.Job().ID {
		t.Errorf("the same job: %+v, %v", rep, err)
	}
}
