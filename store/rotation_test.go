package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// behind is a store whose secrets app/0 … are one version behind the newest of
// their key.
func behind(t *testing.T, secrets int) *store.Store {
	t.Helper()
	s := newStore(t)
	for i := range secrets {
		if _, err := s.Put(t.Context(), fmt.Sprintf("app/%d", i), []byte("value"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateKey(t.Context(), "mk-2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RotateKey(t.Context(), store.DefaultKeyName); err != nil {
		t.Fatal(err)
	}
	return s
}

var (
	newestDefault = store.RotationSpec{From: store.DefaultKeyName, To: store.DefaultKeyName}
	renewDefault  = store.RotationSpec{From: store.DefaultKeyName, To: store.DefaultKeyName, Mode: store.ModeReencrypt}
)

// What was prepared is written only over the bytes that were read: whatever
// happens between Prepare and Apply, every value still opens.
func TestApplyOverwritesNothingThatChanged(t *testing.T) {
	for name, meanwhile := range map[string]func(*testing.T, *store.Store) error{
		"moved to another key": func(t *testing.T, s *store.Store) error {
			_, err := s.SetKey(t.Context(), "app/3", "mk-2")
			return err
		},
		"moved by another": func(t *testing.T, s *store.Store) error {
			_, err := s.SetKey(t.Context(), "app/3", store.DefaultKeyName)
			return err
		},
		"moved away and back": func(t *testing.T, s *store.Store) error {
			_, err := s.SetKey(t.Context(), "app/3", "mk-2")
			if err == nil {
				_, err = s.SetKey(t.Context(), "app/3", store.DefaultKeyName)
			}
			return err
		},
		"purged": func(t *testing.T, s *store.Store) error {
			if _, err := s.Delete(t.Context(), "app/3", 0); err != nil {
				return err
			}
			_, err := s.Purge(t.Context(), "app/3", true)
			return err
		},
		"key rotated": func(t *testing.T, s *store.Store) error {
			_, err := s.RotateKey(t.Context(), store.DefaultKeyName)
			return err
		},
	} {
		for _, spec := range []store.RotationSpec{newestDefault, renewDefault} {
			t.Run(name+" "+spec.Mode, func(t *testing.T) {
				applyAfter(t, spec, name == "key rotated", meanwhile)
			})
		}
	}
}

// applyAfter prepares a batch of eight, changes something, and applies it.
func applyAfter(t *testing.T, spec store.RotationSpec, all bool, meanwhile func(*testing.T, *store.Store) error) {
	s := behind(t, 8)
	r, err := s.StartRotation(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := store.Prepare(t.Context(), r, 0, 100)
	if err != nil || !p.End() {
		t.Fatal(err)
	}
	if err := meanwhile(t, s); err != nil {
		t.Fatal(err)
	}
	b, err := r.Apply(t.Context(), p)
	want := 7
	if all {
		want = 8
	}
	if err != nil || b.Moved != want || len(b.Failures) != 0 {
		t.Errorf("Apply = %+v, %v", b, err)
	}
	if spec.Mode == store.ModeReencrypt && b.Replaced != want {
		t.Errorf("%d data keys were replaced, want %d", b.Replaced, want)
	}
	if n, err := r.Remaining(t.Context()); n != 0 || err != nil {
		t.Errorf("%d remain, %v", n, err)
	}
	rep, err := s.Verify(t.Context(), store.VerifyOptions{Deep: true})
	if err != nil || !rep.OK || rep.Drift != 0 || rep.Behind != 0 {
		t.Errorf("Verify = %+v, %v", rep, err)
	}
}

func TestFinishRefusesWhileSomethingRemains(t *testing.T) {
	s := behind(t, 4)
	r, err := s.StartRotation(t.Context(), newestDefault)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Step(t.Context(), 0, 3, 0); err != nil {
		t.Fatal(err)
	}
	done, err := r.Finish(t.Context(), store.ReadBack{}, store.Settled{})
	if done || err != nil {
		t.Errorf("Finish = %v, %v", done, err)
	}
	jobs, err := s.Jobs(t.Context())
	if err != nil || jobs[0].State != store.JobRunning || jobs[0].Remaining != 1 {
		t.Errorf("jobs: %+v, %v", jobs, err)
	}
}

func TestRotationWritesOneEventForEachBatchAndMovedSecret(t *testing.T) {
	s := behind(t, 4)
	r, err := s.StartRotation(t.Context(), store.RotationSpec{From: store.DefaultKeyName, To: "mk-2"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.VerifyAudit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Step(t.Context(), 0, 100, 1e9); err != nil || b.Secrets != 4 {
		t.Fatalf("Step = %+v, %v", b, err)
	}
	events, err := s.Events(t.Context(), store.EventFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events[before:] {
		got = append(got, e.Action+" "+e.Secret)
	}
	want := []string{"rotate-secret app/0", "rotate-secret app/1", "rotate-secret app/2", "rotate-secret app/3", "rotate-batch "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	// A batch that moves nothing leaves no event.
	if _, err := r.Step(t.Context(), 0, 100, 1e9); err != nil {
		t.Fatal(err)
	}
	if n, err := s.VerifyAudit(t.Context()); err != nil || n != before+5 {
		t.Errorf("%d events, %v; want %d", n, err, before+5)
	}
}

func TestReleasedRotationCannotGoOn(t *testing.T) {
	s := behind(t, 4)
	r, err := s.StartRotation(t.Context(), newestDefault)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Step(t.Context(), 0, 100, 0); !errors.Is(err, store.ErrJobRunning) {
		t.Errorf("Step = %v", err)
	}
	if _, err := s.StartRotation(t.Context(), newestDefault); err != nil {
		t.Errorf("the next rotation: %v", err)
	}
}

// A lease is kept without a batch, and not for another owner.
func TestKeepRenewsLease(t *testing.T) {
	s := behind(t, 4)
	r, err := s.StartRotation(t.Context(), newestDefault)
	if err != nil {
		t.Fatal(err)
	}
	expire := func() { rawSQL(t, s.Path(), `UPDATE reseal_rotation_jobs SET lease_until = 1`) }
	state := func() store.JobState {
		jobs, err := s.Jobs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return jobs[0].State
	}
	expire()
	if got := state(); got != store.JobIncomplete {
		t.Errorf("without a lease the job is %s", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() { defer close(kept); store.Keep(ctx, r, time.Millisecond) }()
	for began := time.Now(); state() != store.JobRunning; time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("the lease was not renewed")
		}
	}
	stop()
	<-kept
	expire()
	other, err := s.StartRotation(t.Context(), newestDefault)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	store.Keep(ctx, r, time.Millisecond)
	if got := state(); got != store.JobIncomplete {
		t.Errorf("the owner before kept the job %s", got)
	}
}
