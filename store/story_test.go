package store_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

const oneDay = 24 * time.Hour

// labelled is a secret's versions with what is in each.
var labelled = []struct {
	value, label string
}{
	{"zero", "custom"},
	{"one", "unlabelled"}, // the label is taken away again
	{"two", store.LabelCurrent},
	{"three", store.LabelCurrent},
	{"four", store.LabelPending},
}

// putFive makes a secret with a custom label, no label, previous, current and
// pending, in this order.
func putFive(t *testing.T, s *storetest.Store, name, key string) {
	t.Helper()
	for _, v := range labelled {
		s.MustPut(t, name, v.value, store.PutOptions{Key: key, Label: v.label})
	}
	storetest.OK(t, s.RemoveLabel(t.Context(), name, "unlabelled"))
}

// wantFive checks that all five open, and that key wraps them.
func wantFive(t *testing.T, s *storetest.Store, name, key string) {
	t.Helper()
	want := []store.VersionInfo{
		{Version: 1, Labels: []string{"custom"}},
		{Version: 2},
		{Version: 3, Labels: []string{"previous"}},
		{Version: 4, Labels: []string{"current"}},
		{Version: 5, Labels: []string{"pending"}},
	}
	for i := range want {
		want[i].EffectiveKey, want[i].EffectiveKeyVersion = key, 1
		if got := s.MustGet(t, name, store.Version(uint64(i+1))); got != labelled[i].value {
			t.Errorf("version %d is %q, want %q", i+1, got, labelled[i].value)
		}
	}
	info := must(s.Show(t.Context(), name))(t)
	storetest.Diff(t, "versions", want, info.Versions, cmpopts.IgnoreFields(store.VersionInfo{}, "CreatedAt"))
	if info.ConfiguredKey != key || info.Drift || info.Behind || !info.Authenticated {
		t.Errorf("configured key %q, drift %v, behind %v, authenticated %v", info.ConfiguredKey, info.Drift, info.Behind, info.Authenticated)
	}
}

// A secret moved to another key is readable in every version after the old key
// is destroyed, and until it is moved the old key cannot be.
func TestKeyOfFiveVersionsIsReplacedAndDestroyed(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "sec-1", "mk-1")
	wantFive(t, s, "sec-1", "mk-1")

	e := storetest.Refused(t, storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay)), store.ErrDependents)
	storetest.Diff(t, "dependents", &store.Dependents{
		Secrets: 1, Versions: 5, Labelled: 3, Pending: 1, Unlabelled: 1, Configured: 1, Names: []string{"sec-1"},
	}, e.Dependents)

	must(s.Delete(ctx, "sec-1", 0))(t)
	e = storetest.Refused(t, storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay)), store.ErrDependents)
	storetest.Diff(t, "dependents", &store.Dependents{
		DeletedSecrets: 1, Versions: 5, Labelled: 3, Pending: 1, Unlabelled: 1, OfDeleted: 5, Configured: 1, Names: []string{"sec-1"},
	}, e.Dependents)

	storetest.OK(t, s.CreateKey(ctx, "mk-2"))
	storetest.Diff(t, "restore", store.RestoreResult{Name: "sec-1", Restored: true}, must(s.Restore(ctx, "sec-1"))(t))
	storetest.Diff(t, "set-key", store.SetKeyResult{Name: "sec-1", From: "mk-1", To: "mk-2", KeyVersion: 1, Versions: 5, Rewrapped: 5},
		must(s.SetKey(ctx, "sec-1", "mk-2"))(t))
	wantFive(t, s, "sec-1", "mk-2")

	must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	s.Clock.Advance(8 * oneDay)
	storetest.Diff(t, "sweep", store.SweepReport{DestroyedKeys: []string{"mk-1"}}, must(s.Sweep(ctx, false))(t))
	storetest.Diff(t, "state", store.Destroyed, must(s.Key(ctx, "mk-1"))(t).State)
	wantFive(t, s, "sec-1", "mk-2")
	wantFive(t, s.Another(t), "sec-1", "mk-2")
}

// The error of a disabled key has every fact, and its command fixes it.
func TestGetUnderDisabledKeySaysHowToFixIt(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "sec-1", "mk-1")
	d := must(s.DisableKey(ctx, "mk-1"))(t)
	if d.Secrets != 1 || d.Versions != 5 {
		t.Errorf("dependents of the disabled key: %s", d)
	}
	want := store.Error{
		Op: "get", Secret: "sec-1", Version: 4, Labels: []string{"current"},
		ConfiguredKey: "mk-1", EffectiveKey: "mk-1", EffectiveKeyVersion: 1, KeyState: store.Disabled,
		Remedy: "reseal key enable mk-1", Err: store.ErrKeyUnavailable,
	}
	storetest.Diff(t, "error", want, *storetest.Refused(t, storetest.Err(s.Get(ctx, "sec-1")), store.ErrKeyUnavailable), cmpopts.EquateErrors())
	storetest.OK(t, s.EnableKey(ctx, "mk-1"))
	wantFive(t, s, "sec-1", "mk-1")
}

// A key's state that was edited by other means is damage, and SetKey is the way
// out.
func TestSetKeyRescuesFromAlteredKeyState(t *testing.T) {
	for _, edit := range []string{
		`UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`,
		`UPDATE reseal_master_keys SET state = 'pending deletion', deletion_at = 1 WHERE name = 'mk-1'`,
		`UPDATE reseal_master_keys SET primary_version = 2 WHERE name = 'mk-1'`,
		`UPDATE reseal_master_keys SET tag = zeroblob(32) WHERE name = 'mk-1'`,
	} {
		t.Run(edit, func(t *testing.T) {
			s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
			storetest.OK(t, s.CreateKey(ctx, "mk-1"))
			putFive(t, s, "sec-1", "mk-1")
			s.Exec(t, edit)
			again := s.Another(t)
			for _, s := range []*storetest.Store{s, again} {
				e := storetest.Refused(t, storetest.Err(s.Get(ctx, "sec-1")), store.ErrDamaged)
				if e.Secret != "sec-1" || e.EffectiveKey != "mk-1" {
					t.Errorf("the error names secret %q and key %q", e.Secret, e.EffectiveKey)
				}
				e = storetest.Refused(t, storetest.Err(s.Put(ctx, "sec-1", []byte("x"), nil)), store.ErrDamaged)
				if e.Secret != "sec-1" || e.Key != "mk-1" {
					t.Errorf("the error names secret %q and key %q", e.Secret, e.Key)
				}
				if x := must(s.Explain(ctx, "sec-1", 0))(t); x.Remedy != "reseal set-key sec-1 default" {
					t.Errorf("explain's remedy is %q", x.Remedy)
				}
			}
			must(again.SetKey(ctx, "sec-1", "default"))(t)
			wantFive(t, s, "sec-1", "default")
			if s.Exec(t, edit+" -- again"); must(s.Verify(ctx, store.VerifyOptions{}))(t).OK {
				t.Error("verify does not see the altered key")
			}
			must(s.DisableKey(ctx, "mk-1"))(t)
			storetest.Check(t, s.Store)
		})
	}
}

// The same story through the caller's own transactions.
func TestStoryInCallersTransactions(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "sec-1", "mk-1")
	err := s.Update(ctx, func(tx *sql.Tx) error {
		_, err := s.DeleteTx(ctx, tx, "sec-1", 0)
		storetest.OK(t, err)
		_, err = s.ScheduleKeyDeletionTx(ctx, tx, "mk-1", 0)
		storetest.Refused(t, err, store.ErrDependents)
		storetest.OK(t, s.CreateKeyTx(ctx, tx, "mk-2"))
		_, err = s.RestoreTx(ctx, tx, "sec-1")
		storetest.OK(t, err)
		_, err = s.SetKeyTx(ctx, tx, "sec-1", "mk-2")
		storetest.OK(t, err)
		_, err = s.ScheduleKeyDeletionTx(ctx, tx, "mk-1", 7*oneDay)
		storetest.OK(t, err)
		return context.Canceled
	})
	if err != context.Canceled {
		t.Fatal(err)
	}
	wantFive(t, s, "sec-1", "mk-1") // nothing of it was committed
}
