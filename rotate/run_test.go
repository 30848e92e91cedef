package rotate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// gears are the two ways to go to a key's newest version. Small batches make
// several of few secrets.
var gears = map[string]rotate.Options{
	"gentle": {Key: "mk-1", Batch: 7, Pause: -1},
	"fast":   {Key: "mk-1", Batch: 7, Fast: true},
}

func TestRunMovesEveryVersionFromKeyToKey(t *testing.T) {
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
	rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2", Batch: 7, Pause: -1})
	if rep.Moved != 61 || rep.Total != 61 || rep.Checked != 61 || rep.Batches < 5 {
		t.Errorf("report: %+v", rep)
	}
	if _, err := s.Restore(t.Context(), "app/5"); err != nil {
		t.Fatal(err)
	}
	wantWraps(t, s, map[string]int64{"mk-2 v1": 61})
	wantFilled(t, s, "app", 20, 3, 32)
	if err := s.SetDefaultKey(t.Context(), "mk-2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ScheduleKeyDeletion(t.Context(), "mk-1", 0); err != nil {
		t.Errorf("the key that was left: %v", err)
	}
}

func TestRunMovesEveryVersionToTheNewest(t *testing.T) {
	for gear, o := range gears {
		t.Run(gear, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 10, 2, 32)
			rotateKey(t, s, "mk-1")
			fill(t, s, "more", 10, 2, 32)
			rotateKey(t, s, "mk-1")
			fill(t, s, "new", 5, 1, 32)
			rep := runOK(t, s, o)
			if rep.Moved != 40 || rep.Batches < 6 || rep.ToVersion != 3 {
				t.Errorf("report: %+v", rep)
			}
			wantWraps(t, s, map[string]int64{"mk-1 v3": 45})
			wantFilled(t, s, "app", 10, 2, 32)
			wantFilled(t, s, "more", 10, 2, 32)
			for _, v := range []uint64{1, 2} {
				if err := s.DestroyKeyVersion(t.Context(), "mk-1", v); err != nil {
					t.Error(err)
				}
			}
			wantFilled(t, s, "new", 5, 1, 32)
		})
	}
}

func TestRunTakesOnlyThePrefix(t *testing.T) {
	for name, o := range map[string]rotate.Options{
		"key to key": {From: "mk-1", To: "mk-2", Prefix: "app/", Batch: 3},
		"gentle":     {Key: "mk-1", Prefix: "app/", Batch: 3},
		"fast":       {Key: "mk-1", Prefix: "app/", Batch: 3, Fast: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			for _, p := range []string{"a", "app", "application", "app"} {
				fill(t, s, p, 5, 1, 32)
			}
			rotateKey(t, s, "mk-1")
			if rep := runOK(t, s, o); rep.Moved != 10 || rep.Checked != 10 {
				t.Errorf("report: %+v", rep)
			}
			target := "mk-1 v2"
			if o.To != "" {
				target = "mk-2 v1"
			}
			wantWraps(t, s, map[string]int64{"mk-1 v1": 10, target: 10})
			wantNoDrift(t, s)
		})
	}
}

func TestRunTakesRowsThatLieFarApart(t *testing.T) {
	for _, fast := range []bool{false, true} {
		s := newStore(t)
		for i, gap := range []int{1, 63, 64, 65, 900, 1} {
			fill(t, s, fmt.Sprintf("other-%d", i), gap, 1, 32)
			fill(t, s, fmt.Sprintf("app/%d", i), 2, 1, 32)
		}
		rotateKey(t, s, "mk-1")
		if rep := runOK(t, s, rotate.Options{Key: "mk-1", Prefix: "app/", Fast: fast}); rep.Moved != 12 || rep.Batches != 1 {
			t.Errorf("report: %+v", rep)
		}
		wantWraps(t, s, map[string]int64{"mk-1 v1": 1094, "mk-1 v2": 12})
		wantNoDrift(t, s)
		for i := range 6 {
			wantFilled(t, s, fmt.Sprintf("app/%d", i), 2, 1, 32)
		}
	}
}

func TestRunLeavesWhatDoesNotOpenAndMovesItsNeighbours(t *testing.T) {
	for gear, o := range gears {
		t.Run(gear, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 30, 1, 32)
			// One row of another key and two damaged ones, in mid-range.
			if _, err := s.SetKey(t.Context(), "app/10", "mk-2"); err != nil {
				t.Fatal(err)
			}
			damageWrap(t, s, "app/9", 1)
			damageWrap(t, s, "app/20", 1)
			was := map[string][]byte{}
			for _, name := range []string{"app/9", "app/10", "app/20"} {
				was[name] = wrapOf(t, s, name, 1)
			}
			rotateKey(t, s, "mk-1")
			rep, err := rotate.Run(t.Context(), s, o)
			if !errors.Is(err, rotate.ErrIncomplete) || rep.State != store.JobIncomplete {
				t.Fatalf("Run = %+v, %v", rep, err)
			}
			want := []store.Failure{
				{Secret: "app/9", Version: 1, Key: "mk-1", Error: "open data key: ciphertext is damaged", Remedy: "reseal discard app/9 --version 1"},
				{Secret: "app/20", Version: 1, Key: "mk-1", Error: "open data key: ciphertext is damaged", Remedy: "reseal discard app/20 --version 1"},
			}
			if diff := cmp.Diff(want, rep.Failures); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
			if rep.Moved != 27 || rep.Remaining != 2 || rep.Failed != 2 {
				t.Errorf("report: %+v", rep)
			}
			for name, w := range was {
				if !bytes.Equal(w, wrapOf(t, s, name, 1)) {
					t.Errorf("the wrap of %s was overwritten", name)
				}
			}
			wantWraps(t, s, map[string]int64{"mk-1 v1": 2, "mk-1 v2": 27, "mk-2 v1": 1})
			wantFilled(t, s, "app", 9, 1, 32)
			for _, f := range rep.Failures {
				if err := s.Discard(t.Context(), f.Secret, f.Version); err != nil {
					t.Fatal(err)
				}
			}
			runOK(t, s, o)
		})
	}
}

func TestRunLeavesSecretWithDamageWhole(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 6, 3, 32)
	damageWrap(t, s, "app/2", 3)
	rawSQL(t, s, `UPDATE reseal_secrets SET updated_at = updated_at + 1, tag = zeroblob(32) WHERE name = 'app/4'`)
	rep, err := rotate.Run(t.Context(), s, rotate.Options{From: "mk-1", To: "mk-2"})
	if !errors.Is(err, rotate.ErrIncomplete) {
		t.Fatal(err)
	}
	want := []store.Failure{
		{Secret: "app/2", Version: 3, Key: "mk-1", Error: "stored data is damaged or altered: open data key: ciphertext is damaged", Remedy: "reseal discard app/2 --version 3"},
		{Secret: "app/4", Error: "stored data is damaged or altered: the secret's record was altered", Remedy: "reseal explain app/4"},
	}
	if diff := cmp.Diff(want, rep.Failures); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if rep.Remaining != 6 || rep.Moved != 12 {
		t.Errorf("report: %+v", rep)
	}
	wantWraps(t, s, map[string]int64{"mk-1 v1": 6, "mk-2 v1": 12})
}

func TestRunBringsStrayWrapsToTheTarget(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 2, 32)
	// Drift, which only damage makes: one version back under mk-1.
	old := wrapOf(t, s, "app/1", 1)
	if _, err := s.SetKey(t.Context(), "app/1", "default"); err != nil {
		t.Fatal(err)
	}
	rawSQL(t, s, `UPDATE reseal_data_keys SET wrapped = ?, master_key_version = (
		SELECT kv.id FROM reseal_master_key_versions AS kv JOIN reseal_master_keys AS k ON k.id = kv.master_key WHERE k.name = 'mk-1')
		WHERE id = `+versionRow, old, "app/1", 1)
	runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
	wantWraps(t, s, map[string]int64{"mk-2 v1": 6})
	wantFilled(t, s, "app", 3, 2, 32)
}

func TestSecondRunFindsNothingToDo(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 1, 32)
	o := rotate.Options{From: "mk-1", To: "mk-2"}
	runOK(t, s, o)
	jobs, events := counts(t, s)
	rep := runOK(t, s, o)
	if rep.Job != "" || rep.Moved != 0 || rep.Checked != 10 {
		t.Errorf("report: %+v", rep)
	}
	if j, e := counts(t, s); j != jobs || e != events {
		t.Errorf("the second run left %d jobs and %d events, there were %d and %d", j, e, jobs, events)
	}
}

func counts(tb testing.TB, s *store.Store) (jobs, events int) {
	tb.Helper()
	j, err := rotate.Status(tb.Context(), s)
	if err != nil {
		tb.Fatal(err)
	}
	e, err := s.Events(tb.Context(), store.EventFilter{})
	if err != nil {
		tb.Fatal(err)
	}
	return len(j), len(e)
}

func TestRunFinishesItsBatchWhenCancelledAndGoesOn(t *testing.T) {
	for name, o := range map[string]rotate.Options{
		"key to key": {From: "mk-1", To: "mk-2", Batch: 5},
		"gentle":     {Key: "mk-1", Batch: 5},
		"fast":       {Key: "mk-1", Batch: 5, Fast: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 40, 1, 32)
			rotateKey(t, s, "mk-1")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o.Progress = func(p rotate.Progress) {
				if p.Done >= 15 {
					cancel()
				}
			}
			rep, err := rotate.Run(ctx, s, o)
			if !errors.Is(err, context.Canceled) || rep.State != store.JobIncomplete {
				t.Fatalf("Run = %+v, %v", rep, err)
			}
			if rep.Done < 15 || rep.Done == 40 || rep.Done+rep.Remaining != 40 {
				t.Errorf("report: %+v", rep)
			}
			wantFilled(t, s, "app", 40, 1, 32)
			wantJob(t, s, rep.Job, store.JobIncomplete, rep.Done, rep.Remaining)
			o.Progress = nil
			again := runOK(t, s, o)
			if again.Job != rep.Job || again.Done != 40 || again.Moved != 40-rep.Done {
				t.Errorf("first run %+v\nthen %+v", rep, again)
			}
			wantJob(t, s, rep.Job, store.JobComplete, 40, 0)
			wantFilled(t, s, "app", 40, 1, 32)
		})
	}
}

func wantJob(tb testing.TB, s *store.Store, id string, state store.JobState, done, remaining int64) {
	tb.Helper()
	jobs, err := rotate.Status(tb.Context(), s)
	if err != nil {
		tb.Fatal(err)
	}
	for _, j := range jobs {
		if j.ID == id {
			if j.State != state || j.Done != done || j.Remaining != remaining {
				tb.Errorf("job: %+v; want %s, %d done, %d remaining", j, state, done, remaining)
			}
			return
		}
	}
	tb.Errorf("there is no job %q", id)
}

func TestRunRescuesFromDisabledAndAlteredKeys(t *testing.T) {
	for name, spoil := range map[string]func(*testing.T, *store.Store){
		"disabled": func(t *testing.T, s *store.Store) {
			if _, err := s.DisableKey(t.Context(), "mk-1"); err != nil {
				t.Fatal(err)
			}
		},
		"altered": func(t *testing.T, s *store.Store) {
			rawSQL(t, s, `UPDATE reseal_master_keys SET state = 'pending deletion', deletion_at = 1 WHERE name = 'mk-1'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 10, 2, 32)
			spoil(t, s)
			if _, err := s.Get(t.Context(), "app/1"); err == nil {
				t.Fatal("the value can still be read")
			}
			runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
			wantFilled(t, s, "app", 10, 2, 32)
		})
	}
}

func TestRunRefuses(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 1, 32)
	if err := s.CreateKey(t.Context(), "off"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DisableKey(t.Context(), "off"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    rotate.Options
		want error
	}{
		"nothing named":     {rotate.Options{}, store.ErrInvalid},
		"no target":         {rotate.Options{From: "mk-1"}, store.ErrInvalid},
		"both forms":        {rotate.Options{From: "mk-1", To: "mk-2", Key: "mk-1"}, store.ErrInvalid},
		"to itself":         {rotate.Options{From: "mk-1", To: "mk-1"}, store.ErrInvalid},
		"age and two keys":  {rotate.Options{From: "mk-1", To: "mk-2", OlderThan: time.Hour}, store.ErrInvalid},
		"negative batch":    {rotate.Options{From: "mk-1", To: "mk-2", Batch: -1}, store.ErrInvalid},
		"unknown mode":      {rotate.Options{From: "mk-1", To: "mk-2", Mode: "renew"}, store.ErrInvalid},
		"unknown source":    {rotate.Options{From: "no-such", To: "mk-2"}, store.ErrNotFound},
		"unknown target":    {rotate.Options{From: "mk-1", To: "no-such"}, store.ErrNotFound},
		"unknown key":       {rotate.Options{Key: "no-such"}, store.ErrNotFound},
		"unknown aged key":  {rotate.Options{Key: "no-such", OlderThan: time.Hour}, store.ErrNotFound},
		"disabled target":   {rotate.Options{From: "mk-1", To: "off"}, store.ErrKeyUnavailable},
		"disabled key":      {rotate.Options{Key: "off"}, store.ErrKeyUnavailable},
		"control in prefix": {rotate.Options{Key: "mk-1", Prefix: "a\x00"}, store.ErrInvalid},
	} {
		if _, err := rotate.Run(t.Context(), s, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if jobs, _ := counts(t, s); jobs != 0 {
		t.Errorf("%d jobs were left", jobs)
	}
	wantWraps(t, s, map[string]int64{"mk-1 v1": 3})
}

func TestRunWarnsThatNewSecretsStillGoUnderTheOldKey(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 1, 1, 32)
	rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2"})
	want := []string{`new secrets still go under "mk-1": reseal key set-default mk-2`}
	if diff := cmp.Diff(want, rep.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestReceiptSaysWhatWasDone(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 10, 2, 32)
	rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2", Scrub: true})
	rc := rep.Receipt
	if rc == nil || rc.Moved != 20 || rc.Checked != 20 || rc.Remaining != 0 || !rc.Verified || !rc.Checkpointed || !rc.Scrubbed || len(rc.Digest) != 64 {
		t.Fatalf("receipt: %+v", rc)
	}
	jobs, err := rotate.Status(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rc, jobs[0].Receipt); diff != "" {
		t.Errorf("receipt in the job (-report +job):\n%s", diff)
	}
	events, err := s.Events(t.Context(), store.EventFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if e := events[0]; e.Action != "rotate-complete" || !strings.Contains(string(e.Detail), rc.Digest) {
		t.Errorf("last audit event: %+v %s", e, e.Detail)
	}
	v, err := rotate.Verify(t.Context(), s, rotate.Options{From: "mk-1", To: "mk-2"})
	if err != nil || !v.OK || v.Digest != rc.Digest {
		t.Errorf("Verify = %+v, %v; the receipt's digest is %s", v, err, rc.Digest)
	}
}

func TestVerifyFindsWhatIsNotUnderTheTarget(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 4, 2, 32)
	o := rotate.Options{From: "mk-1", To: "mk-2"}
	runOK(t, s, o)
	damageWrap(t, s, "app/2", 1)
	if _, err := s.SetKey(t.Context(), "app/3", "mk-1"); err != nil {
		t.Fatal(err)
	}
	v, err := rotate.Verify(t.Context(), s, o)
	if err != nil || v.OK || v.Remaining != 2 || v.Failed != 3 {
		t.Fatalf("Verify = %+v, %v", v, err)
	}
	var got []string
	for _, f := range v.Failures {
		got = append(got, fmt.Sprintf("%s %d %s: %s -> %s", f.Secret, f.Version, f.Key, f.Error, f.Remedy))
	}
	want := []string{
		`app/2 1 mk-2: open data key: ciphertext is damaged -> reseal explain app/2 --version 1`,
		`app/3 1 mk-1: it is still under "mk-1" or configured with it -> reseal rotate run --from mk-1 --to mk-2`,
		`app/3 2 mk-1: it is still under "mk-1" or configured with it -> reseal rotate run --from mk-1 --to mk-2`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
}

// What lies under the target and does not open is told, although the rotation
// itself is complete: nothing is left under the old key.
func TestRunTellsDamageThatWasUnderTheTarget(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 4, 1, 32)
	if _, err := s.SetKey(t.Context(), "app/0", "mk-2"); err != nil {
		t.Fatal(err)
	}
	damageWrap(t, s, "app/0", 1)
	rep, err := rotate.Run(t.Context(), s, rotate.Options{From: "mk-1", To: "mk-2"})
	if !errors.Is(err, store.ErrDamaged) || rep.State != store.JobComplete || rep.Verified || rep.Receipt == nil || rep.Receipt.Verified {
		t.Errorf("Run = %+v, %v", rep, err)
	}
	if len(rep.Failures) != 1 || rep.Failures[0].Secret != "app/0" {
		t.Errorf("failures: %+v", rep.Failures)
	}
}
