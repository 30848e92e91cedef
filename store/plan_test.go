package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// A plan by age makes a key version in a transaction that it rolls back. The
// version that somebody else makes in earnest afterwards gets the same row, and
// must not be taken for it.
func TestPlanRemembersNothingOfWhatItRollsBack(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	for i := range 10 {
		must(s.Put(ctx, fmt.Sprint("app/", i), []byte("value"), nil))(t)
	}
	plan := must(s.PlanRotation(ctx, newestDefault, &store.PlanOptions{OlderThan: time.Nanosecond}))(t)
	if !plan.NewVersion || plan.ToVersion != 2 || plan.Versions != 10 || plan.Cost.Sampled == 0 {
		t.Fatalf("plan: %+v", plan)
	}
	other := must(store.Open(ctx, s.Path(), store.Passphrase([]byte("correct horse")), nil))(t)
	defer other.Close()
	must(other.RotateKey(ctx, store.DefaultKeyName))(t)
	must(other.Put(ctx, "app/0", []byte("new"), nil))(t)
	must(other.SetKey(ctx, "app/1", store.DefaultKeyName))(t)
	for name, want := range map[string]string{"app/0": "new", "app/1": "value", "app/2": "value"} {
		if got := must(s.Get(ctx, name))(t); string(got.Bytes()) != want {
			t.Errorf("%s = %q, want %q", name, got.Bytes(), want)
		}
	}
	if rep := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t); !rep.OK {
		t.Errorf("Verify = %+v", rep)
	}
}

// In a host's database a plan measures too, and leaves the connection's settings
// and the host's tables as they were.
func TestPlanInHostsDatabase(t *testing.T) {
	db := hostDB(t, "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	s := hosted(t, db)
	must(s.Put(t.Context(), "app/a", []byte("value"), nil))(t)
	must(s.RotateKey(t.Context(), store.DefaultKeyName))(t)
	settings, rows := pragmas(t, db), dump(t, db)
	plan := must(s.PlanRotation(t.Context(), renewDefault, nil))(t)
	if plan.Versions != 1 || plan.Replaced != 1 || plan.Check.Opened != 1 || plan.Cost.Sampled == 0 || plan.Disk.Pages == 0 {
		t.Errorf("plan: %+v", plan)
	}
	if plan.Disk.Free <= 0 {
		t.Errorf("%d bytes are free", plan.Disk.Free)
	}
	if diff := cmp.Diff(settings, pragmas(t, db)); diff != "" {
		t.Errorf("settings (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(rows, dump(t, db)); diff != "" {
		t.Errorf("rows (-before +after):\n%s", diff)
	}
}

func TestPlanNeedsTheKeys(t *testing.T) {
	s := newStore(t)
	path := s.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	sealed := must(store.OpenSealed(t.Context(), path, nil))(t)
	defer sealed.Close()
	if _, err := sealed.PlanRotation(t.Context(), newestDefault, nil); !errors.Is(err, store.ErrSealed) {
		t.Errorf("on a sealed store: %v", err)
	}
	if left := must(filepath.Glob(filepath.Join(filepath.Dir(path), ".reseal-plan*")))(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
