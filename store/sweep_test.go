package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

func TestSweepPurgesSecretsBeforeTheirKeys(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "app/db", "one", store.PutOptions{Key: "mk-1"})
	must(s.Delete(ctx, "app/db", 7*oneDay))(t)
	storetest.Refused(t, storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay)), store.ErrDependents)
	s.Clock.Advance(7 * oneDay)
	want := store.SweepReport{DryRun: true, Purged: []string{"app/db"}}
	storetest.Diff(t, "dry run", want, must(s.Sweep(ctx, true))(t))
	storetest.Refused(t, storetest.Err(s.Get(ctx, "app/db")), store.ErrDeleted)
	want.DryRun = false
	storetest.Diff(t, "sweep", want, must(s.Sweep(ctx, false))(t))
	storetest.Refused(t, storetest.Err(s.Get(ctx, "app/db")), store.ErrNotFound)

	must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	s.Clock.Advance(7*oneDay - time.Millisecond)
	storetest.Diff(t, "sweep before the date", store.SweepReport{}, must(s.Sweep(ctx, false))(t))
	s.Clock.Advance(time.Millisecond)
	storetest.Diff(t, "sweep", store.SweepReport{DestroyedKeys: []string{"mk-1"}}, must(s.Sweep(ctx, false))(t))
	storetest.Diff(t, "state", store.Destroyed, must(s.Key(ctx, "mk-1"))(t).State)
}

// A key that a secret's version was put under by other means is free when the
// secret is purged, and a data key without a version does not hold it.
func TestSweepFreesKeyInOneRun(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "one", store.PutOptions{})
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = 2`)
	s.Exec(t, `INSERT INTO reseal_data_keys (id, master_key_version, wrapped) VALUES (77, 2, zeroblob(108))`)
	s.Clock.Advance(7 * oneDay)

	held := store.SweepReport{DryRun: true, Orphans: 1, Skipped: []store.SweepSkip{{Kind: "key", Name: "mk-1",
		Reason: "master key has dependents: needed by 1 secret, 1 version (labelled 1, pending 0, unlabelled 0, of deleted secrets 0): a"}}}
	storetest.Diff(t, "dry run with the secret live", held, must(s.Sweep(ctx, true))(t))
	must(s.Delete(ctx, "a", 7*oneDay))(t)
	s.Clock.Advance(7 * oneDay)
	before := must(s.Anchor(ctx))(t)
	want := store.SweepReport{DryRun: true, Orphans: 1, Purged: []string{"a"}, DestroyedKeys: []string{"mk-1"}}
	storetest.Diff(t, "dry run", want, must(s.Sweep(ctx, true))(t))
	storetest.Diff(t, "anchor after the dry run", before, must(s.Anchor(ctx))(t))
	storetest.Diff(t, "key after the dry run", store.PendingDeletion, must(s.Key(ctx, "mk-1"))(t).State)
	want.DryRun = false
	storetest.Diff(t, "sweep", want, must(s.Sweep(ctx, false))(t))
	storetest.Diff(t, "sweep again", store.SweepReport{}, must(s.Sweep(ctx, false))(t))
	storetest.Check(t, s.Store)
}

func TestSweepDestroysEveryVersionOfKey(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	must(s.RotateKey(ctx, "mk-1"))(t)
	must(s.RotateKey(ctx, "mk-1"))(t)
	storetest.OK(t, s.DestroyKeyVersion(ctx, "mk-1", 1))
	s.MustPut(t, "a", "one", store.PutOptions{Key: "mk-1"})
	must(s.SetKey(ctx, "a", "default"))(t)
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	s.Clock.Advance(8 * oneDay)
	must(s.Sweep(ctx, false))(t)
	info := must(s.Key(ctx, "mk-1"))(t)
	for _, v := range info.Versions {
		if v.State != store.Destroyed {
			t.Errorf("version %d is %s", v.Version, v.State)
		}
	}
	var wraps int
	storetest.OK(t, s.Raw(t).QueryRow(`SELECT count(*) FROM reseal_master_key_wraps WHERE master_key_version <> 1`).Scan(&wraps))
	if wraps != 0 {
		t.Errorf("%d wraps of the destroyed key are left", wraps)
	}
	if held := store.HeldKeys(s.Store); len(held) != 3 { // root, integrity, default
		t.Errorf("%d keys in memory after the sweep, want 3", len(held))
	}
	for verb, err := range map[string]error{
		"cancel":   s.CancelKeyDeletion(ctx, "mk-1"),
		"enable":   s.EnableKey(ctx, "mk-1"),
		"disable":  storetest.Err(s.DisableKey(ctx, "mk-1")),
		"rotate":   storetest.Err(s.RotateKey(ctx, "mk-1")),
		"schedule": storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 0)),
		"default":  s.SetDefaultKey(ctx, "mk-1"),
	} {
		if e := storetest.Refused(t, err, store.ErrKeyState); e.KeyState != store.Destroyed {
			t.Errorf("%s: the key is %s", verb, e.KeyState)
		}
	}
	storetest.Refused(t, s.CreateKey(ctx, "mk-1"), store.ErrExists)
}

func TestCancelAndRestoreWorkPastTheDateUntilTheSweep(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "one", store.PutOptions{})
	must(s.Delete(ctx, "a", 0))(t)
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 0))(t)
	s.Clock.Advance(365 * oneDay)
	again := s.Another(t) // opening acts on no date
	must(again.Restore(ctx, "a"))(t)
	storetest.OK(t, again.CancelKeyDeletion(ctx, "mk-1"))
	storetest.Diff(t, "sweep", store.SweepReport{}, must(s.Sweep(ctx, false))(t))
	storetest.OK(t, s.EnableKey(ctx, "mk-1"))
	if got := s.MustGet(t, "a"); got != "one" {
		t.Errorf("the value is %q", got)
	}
}

func TestSweepLeavesKeysAloneWhileTheRootRotates(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "one", store.PutOptions{})
	s.MustPut(t, "b", "two", store.PutOptions{})
	must(s.Delete(ctx, "a", 7*oneDay))(t)
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	s.Clock.Advance(7 * oneDay)
	slot := must(s.Slots(ctx))(t)[0].ID
	o := store.RotateRootOptions{Credentials: map[string]store.Credential{slot: storetest.Credential()}}
	storetest.OK(t, store.BeginRootRotation(ctx, s.Store, o))
	want := store.SweepReport{Purged: []string{"a"}, Skipped: []store.SweepSkip{{Kind: "key", Name: "mk-1", Reason: "a root rotation is unfinished"}}}
	storetest.Diff(t, "sweep", want, must(s.Sweep(ctx, false))(t))
	storetest.Check(t, s.Store)
	must(s.RotateRoot(ctx, o))(t)
	storetest.Diff(t, "sweep", store.SweepReport{DestroyedKeys: []string{"mk-1"}}, must(s.Sweep(ctx, false))(t))
}

func TestSweepSkipsAlteredKey(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.Exec(t, `UPDATE reseal_master_keys SET state = 'pending deletion', deletion_at = 1 WHERE name = 'mk-1'`)
	want := store.SweepReport{Skipped: []store.SweepSkip{
		{Kind: "key", Name: "mk-1", Reason: "stored data is damaged or altered: the master key's record was altered"},
	}}
	storetest.Diff(t, "sweep", want, must(s.Sweep(ctx, false))(t))
}

func TestSweepRemovesVersionWithoutSecret(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	s.MustPut(t, "a", "one", store.PutOptions{})
	s.Exec(t, `INSERT INTO reseal_secret_versions (id, version_id, secret, number, created_at, sealed) VALUES (77, zeroblob(16), 9, 1, 0, zeroblob(100))`)
	s.Exec(t, `INSERT INTO reseal_data_keys (id, master_key_version, wrapped) VALUES (77, 1, zeroblob(108))`)
	if report := must(s.Verify(ctx, store.VerifyOptions{}))(t); report.FailureCount != 2 || report.Failures[0].Remedy != "reseal sweep" {
		t.Errorf("verify found %+v", report.Failures)
	}
	storetest.Diff(t, "sweep", store.SweepReport{Orphans: 1}, must(s.Sweep(ctx, false))(t))
	storetest.Check(t, s.Store)
}

func TestSweepStopsWhenCancelled(t *testing.T) {
	s := storetest.New(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	s.MustPut(t, "a", "one", store.PutOptions{})
	must(s.Delete(ctx, "a", 7*oneDay))(t)
	s.Clock.Advance(7 * oneDay)
	cancel()
	for _, dry := range []bool{true, false} {
		if report, err := s.Sweep(ctx, dry); !errors.Is(err, context.Canceled) || len(report.Purged) != 0 {
			t.Errorf("sweep: %+v, %v", report, err)
		}
	}
}
