package rotate_test

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// openJob leaves a job from mk-1 to mk-2 open, with some secrets moved and some
// not, and returns its id.
func openJob(tb testing.TB, s *store.Store) string {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	rep, err := rotate.Run(ctx, s, rotate.Options{From: "mk-1", To: "mk-2", Batch: 2, Progress: func(rotate.Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) || rep.Remaining == 0 || rep.Done == 0 {
		tb.Fatalf("Run = %+v, %v", rep, err)
	}
	return rep.Job
}

func TestOpenJobRefusesOthersWithItsCommand(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	for _, k := range []string{"mk-3", "mk-4"} {
		if err := s.CreateKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	openJob(t, s)
	rotateKey(t, s, "mk-1")
	const own = "reseal rotate run --from mk-1 --to mk-2"
	for name, o := range map[string]rotate.Options{
		"another target":        {From: "mk-1", To: "mk-3"},
		"another prefix":        {From: "mk-1", To: "mk-2", Prefix: "app"},
		"its newest version":    {Key: "mk-1"},
		"from its target":       {From: "mk-2", To: "mk-1"},
		"to its source":         {From: "mk-4", To: "mk-1"},
		"from target elsewhere": {From: "mk-2", To: "mk-3"},
	} {
		// Each has work of its own, so that only the open job is in the way.
		if _, err := s.Put(t.Context(), "other", []byte("x"), &store.PutOptions{Key: "mk-4"}); err != nil {
			t.Fatal(err)
		}
		_, err := rotate.Run(t.Context(), s, o)
		var e *store.Error
		if !errors.Is(err, store.ErrJobRunning) || !errors.As(err, &e) || e.Remedy != own {
			t.Errorf("%s: %v, remedy %q", name, err, e.Remedy)
		}
	}
	rotateKey(t, s, "mk-2")
	runOK(t, s, rotate.Options{Key: "mk-2"})
	runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
	wantFilled(t, s, "app", 10, 1, 32)
}

func TestNewSecretGoesWhereOpenJobMoves(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	openJob(t, s)
	for name, key := range map[string]string{"named": "mk-1", "default": ""} {
		res, err := s.Put(t.Context(), name, []byte("x"), &store.PutOptions{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if res.Key != "mk-2" || res.Redirected != "mk-1" {
			t.Errorf("%s: %+v", name, res)
		}
	}
	// A secret that the job has not come to stays under its key until it does.
	res, err := s.Put(t.Context(), "app/9", valueOf("app/9", 2, 32), nil)
	if err != nil || res.Key != "mk-1" || res.Redirected != "" {
		t.Errorf("Put = %+v, %v", res, err)
	}
	runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
	wantWraps(t, s, map[string]int64{"mk-2 v1": 13})
	res, err = s.Put(t.Context(), "after", []byte("x"), nil)
	if err != nil || res.Key != "mk-1" {
		t.Errorf("Put after the job = %+v, %v", res, err)
	}
}

func TestJobOfPrefixRedirectsOnlyThere(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := rotate.Run(ctx, s, rotate.Options{From: "mk-1", To: "mk-2", Prefix: "app/", Batch: 2, Progress: func(rotate.Progress) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"app/new": "mk-2", "elsewhere": "mk-1"} {
		res, err := s.Put(t.Context(), name, []byte("x"), &store.PutOptions{Key: "mk-1"})
		if err != nil || res.Key != want {
			t.Errorf("Put %s = %+v, %v; want under %s", name, res, err, want)
		}
	}
}

func TestPausedJobWaitsAndGoesOnWhenResumed(t *testing.T) {
	for name, o := range map[string]rotate.Options{
		"key to key": {From: "mk-1", To: "mk-2", Batch: 5},
		"fast":       {Key: "mk-1", Batch: 5, Fast: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 40, 1, 32)
			rotateKey(t, s, "mk-1")
			other := openAgain(t, s)
			var once, twice sync.Once
			var pausedAt int64
			o.Progress = func(p rotate.Progress) {
				if p.Phase == rotate.Moving {
					once.Do(func() {
						if err := rotate.Pause(t.Context(), other, p.Job[:8]); err != nil {
							t.Error(err)
						}
					})
				}
				if p.Phase == rotate.Paused {
					twice.Do(func() {
						pausedAt = p.Done
						wantJob(t, s, p.Job, store.JobPaused, p.Done, 40-p.Done)
						if err := rotate.Resume(t.Context(), other, p.Job); err != nil {
							t.Error(err)
						}
					})
				}
			}
			rep := runOK(t, s, o)
			if rep.Done != 40 || pausedAt == 0 || pausedAt == 40 {
				t.Errorf("paused at %d, report: %+v", pausedAt, rep)
			}
			wantFilled(t, s, "app", 40, 1, 32)
		})
	}
}

// openAgain opens a second store on the same file, as another process would.
func openAgain(tb testing.TB, s *store.Store) *store.Store {
	tb.Helper()
	other, err := store.Open(tb.Context(), s.Path(), credential(), options())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { other.Close() })
	return other
}

func TestPausedJobOfDeadRunIsTakenUp(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	id := openJob(t, s)
	if err := rotate.Pause(t.Context(), s, id); err != nil {
		t.Fatal(err)
	}
	rep, err := rotate.Run(t.Context(), s, rotate.Options{Key: "mk-1", OlderThan: time.Hour})
	if err != nil || rep.Moved != 0 {
		t.Errorf("a policy went on with a paused job: %+v, %v", rep, err)
	}
	if rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"}); rep.Job != id {
		t.Errorf("report: %+v", rep)
	}
}

func TestCancelledJobEndsWhereItIs(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 40, 1, 32)
	other := openAgain(t, s)
	o := rotate.Options{From: "mk-1", To: "mk-2", Batch: 5}
	o.Progress = func(p rotate.Progress) {
		if err := rotate.Cancel(t.Context(), other, p.Job); err != nil {
			t.Error(err)
		}
	}
	rep, err := rotate.Run(t.Context(), s, o)
	if !errors.Is(err, store.ErrJobCancelled) || rep.State != store.JobCancelled || rep.Done == 0 || rep.Remaining == 0 {
		t.Fatalf("Run = %+v, %v", rep, err)
	}
	wantJob(t, s, rep.Job, store.JobCancelled, rep.Done, 0)
	wantFilled(t, s, "app", 40, 1, 32)
	for verb, fn := range map[string]func(context.Context, *store.Store, string) error{
		"pause": rotate.Pause, "resume": rotate.Resume, "cancel": rotate.Cancel,
	} {
		if err := fn(t.Context(), s, rep.Job); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a cancelled job: %v", verb, err)
		}
	}
	o.Progress = nil
	if again := runOK(t, s, o); again.Job == rep.Job || again.Moved != rep.Remaining {
		t.Errorf("the next run: %+v", again)
	}
}

func TestUnknownJobIsNotFound(t *testing.T) {
	s := newStore(t)
	for _, id := range []string{"", "abc", "zzzzzzzz", "0123456789abcdef0123456789abcdef", strings.Repeat("0", 40)} {
		if err := rotate.Pause(t.Context(), s, id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Pause(%q) = %v", id, err)
		}
	}
}

func TestJobAtWorkRefusesSecondRun(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 40, 1, 32)
	other := openAgain(t, s)
	o := rotate.Options{From: "mk-1", To: "mk-2", Batch: 5}
	second := o
	o.Progress = func(p rotate.Progress) {
		if p.Phase != rotate.Moving {
			return
		}
		_, err := rotate.Run(t.Context(), other, second)
		var e *store.Error
		if !errors.Is(err, store.ErrJobRunning) || !errors.As(err, &e) || !strings.Contains(e.Detail, "is at work on it") {
			t.Errorf("second run: %v", err)
		}
		wantJob(t, other, p.Job, store.JobRunning, p.Done, p.Remaining)
	}
	runOK(t, s, o)
	wantFilled(t, s, "app", 40, 1, 32)
}

// lease gives the open job to an owner, until a time in Unix milliseconds.
func lease(tb testing.TB, s *store.Store, owner string, until time.Time) {
	tb.Helper()
	rawSQL(tb, s, `UPDATE reseal_rotation_jobs SET lease_owner = ?, lease_until = ? WHERE state = 'running'`, owner, until.UnixMilli())
}

// ownerElsewhere is the owner of a lease that this process held, with another
// host or process in its place.
func ownerElsewhere(tb testing.TB, host string, pid string) string {
	tb.Helper()
	s := newStore(tb)
	fill(tb, s, "app", 1, 1, 32)
	var owner string
	runOK(tb, s, rotate.Options{From: "mk-1", To: "mk-2", Progress: func(p rotate.Progress) {
		if p.Phase == rotate.Moving {
			scanRaw(tb, s, &owner, `SELECT lease_owner FROM reseal_rotation_jobs`)
		}
	}})
	parts := strings.Split(owner, " ")
	if len(parts) != 3 {
		tb.Fatalf("owner of a lease: %q", owner)
	}
	if host != "" {
		parts[0] = host
	}
	if pid != "" {
		parts[1] = pid
	}
	return strings.Join(parts, " ")
}

func deadProcess(tb testing.TB) string {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "true")
	if err := cmd.Run(); err != nil {
		tb.Skip("no program to run: ", err)
	}
	return strconv.Itoa(cmd.Process.Pid)
}

func TestLeaseOfDeadProcessIsTakenOver(t *testing.T) {
	soon := func() time.Time { return time.Now().Add(20 * time.Second) }
	for name, c := range map[string]struct {
		owner string
		until time.Time
		taken bool
	}{
		"dead process here":       {ownerElsewhere(t, "", deadProcess(t)), soon(), true},
		"live process here":       {ownerElsewhere(t, "", "1"), soon(), false},
		"same number, other host": {ownerElsewhere(t, "elsewhere", deadProcess(t)), soon(), false},
		"run out on other host":   {ownerElsewhere(t, "elsewhere", "1"), time.Now().Add(-time.Millisecond), true},
		"not an owner":            {"somebody", soon(), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 6, 1, 32)
			openJob(t, s)
			lease(t, s, c.owner, c.until)
			_, err := rotate.Run(t.Context(), s, rotate.Options{From: "mk-1", To: "mk-2"})
			if taken := err == nil; taken != c.taken || err != nil && !errors.Is(err, store.ErrJobRunning) {
				t.Errorf("Run = %v; want taken over %v", err, c.taken)
			}
		})
	}
}

func TestRunStopsWhenItsJobIsTakenOver(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 40, 1, 32)
	o := rotate.Options{From: "mk-1", To: "mk-2", Batch: 5}
	var once sync.Once
	o.Progress = func(rotate.Progress) {
		once.Do(func() { lease(t, s, ownerElsewhere(t, "elsewhere", ""), time.Now().Add(time.Minute)) })
	}
	rep, err := rotate.Run(t.Context(), s, o)
	if !errors.Is(err, store.ErrJobRunning) || rep.Done == 40 {
		t.Fatalf("Run = %+v, %v", rep, err)
	}
	jobs, err := rotate.Status(t.Context(), s)
	if err != nil || jobs[0].State != store.JobRunning || !strings.Contains(jobs[0].Owner, "on elsewhere") {
		t.Errorf("jobs: %+v, %v", jobs, err)
	}
}

func TestRunStopsWhenItsJobIsAltered(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 40, 1, 32)
	o := rotate.Options{From: "mk-1", To: "mk-2", Batch: 5}
	var once sync.Once
	o.Progress = func(rotate.Progress) {
		once.Do(func() {
			rawSQL(t, s, `UPDATE reseal_rotation_jobs SET to_key = (SELECT id FROM reseal_master_keys WHERE name = 'default')`)
		})
	}
	if _, err := rotate.Run(t.Context(), s, o); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Run = %v", err)
	}
	if n := wraps(t, s)["default v1"]; n != 0 {
		t.Errorf("%d data keys went to the key that was put in", n)
	}
}

func TestRunStopsWhenItsTargetIsDisabled(t *testing.T) {
	for name, o := range map[string]rotate.Options{
		"key to key": {From: "mk-1", To: "mk-2", Batch: 5},
		"fast":       {Key: "mk-1", Batch: 5, Fast: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 40, 1, 32)
			rotateKey(t, s, "mk-1")
			target := "mk-2"
			if o.Key != "" {
				target = o.Key
			}
			var once sync.Once
			o.Progress = func(rotate.Progress) {
				once.Do(func() {
					if _, err := s.DisableKey(t.Context(), target); err != nil {
						t.Error(err)
					}
				})
			}
			rep, err := rotate.Run(t.Context(), s, o)
			if !errors.Is(err, store.ErrKeyUnavailable) || rep.Remaining == 0 {
				t.Fatalf("Run = %+v, %v", rep, err)
			}
			if err := s.EnableKey(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			o.Progress = nil
			runOK(t, s, o)
			wantFilled(t, s, "app", 40, 1, 32)
		})
	}
}

// The key gets another version while a job goes to its newest: the job goes
// there instead.
func TestRunFollowsKeyThatIsRotatedMeanwhile(t *testing.T) {
	for gear, o := range gears {
		t.Run(gear, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 40, 1, 32)
			rotateKey(t, s, "mk-1")
			var once sync.Once
			o.Progress = func(rotate.Progress) { once.Do(func() { rotateKey(t, s, "mk-1") }) }
			if rep := runOK(t, s, o); rep.ToVersion != 3 {
				t.Errorf("report: %+v", rep)
			}
			wantWraps(t, s, map[string]int64{"mk-1 v3": 40})
			wantFilled(t, s, "app", 40, 1, 32)
		})
	}
}

func TestStatusWorksOnSealedStore(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	id := openJob(t, s)
	sealed, err := store.OpenSealed(t.Context(), s.Path(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	jobs, err := rotate.Status(t.Context(), sealed)
	if err != nil || len(jobs) != 1 || jobs[0].ID != id || jobs[0].State != store.JobIncomplete || jobs[0].Remaining == 0 {
		t.Errorf("Status = %+v, %v", jobs, err)
	}
	if _, err := rotate.Run(t.Context(), sealed, rotate.Options{From: "mk-1", To: "mk-2"}); !errors.Is(err, store.ErrSealed) {
		t.Errorf("Run = %v", err)
	}
}

func TestOpenJobHoldsItsKeys(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	id := openJob(t, s)
	for _, key := range []string{"mk-1", "mk-2"} {
		k, err := s.Key(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{id}, k.Dependents.Jobs); diff != "" {
			t.Errorf("jobs that hold %s (-want +got):\n%s", key, diff)
		}
	}
}
