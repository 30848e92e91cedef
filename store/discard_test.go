package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

const versionThree = `(SELECT id FROM reseal_secret_versions WHERE number = 3)`

// Damage to one version holds neither the secret nor its key: it is refused, it
// is explained, and discarding it leaves a store that is whole.
func TestDiscardRemovesDamagedVersion(t *testing.T) {
	for _, c := range []struct {
		name, damage string
		value        bool // the wrap is whole
	}{
		{"wrap", `UPDATE reseal_data_keys SET wrapped = zeroblob(108) WHERE id = ` + versionThree, false},
		{"value", `UPDATE reseal_secret_versions SET sealed = zeroblob(77) WHERE number = 3`, true},
		{"data key missing", `DELETE FROM reseal_data_keys WHERE id = ` + versionThree, false},
		{"another version's wrap", `UPDATE reseal_data_keys SET wrapped = (SELECT wrapped FROM reseal_data_keys ORDER BY id LIMIT 1) WHERE id = ` + versionThree, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
			storetest.OK(t, s.CreateKey(ctx, "mk-1"))
			putFive(t, s, "a", "mk-1")
			s.Exec(t, c.damage)

			if report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t); report.OK || report.Failures[0].Secret != "a" || report.Failures[0].Version != 3 {
				t.Errorf("verify found %+v", report.Failures)
			}
			if !c.value { // a change of key does not touch values
				e := storetest.Refused(t, storetest.Err(s.SetKey(ctx, "a", "default")), store.ErrDamaged)
				if e.Version != 3 || e.Remedy != "reseal discard a --version 3" {
					t.Errorf("set-key names version %d, remedy %q", e.Version, e.Remedy)
				}
			}
			storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(3))), store.ErrDamaged)
			x := must(s.Explain(ctx, "a", 3))(t)
			if !x.Broken {
				t.Errorf("explain finds nothing: %+v", x.Steps)
			}
			for _, n := range []uint64{1, 2, 4, 5} {
				storetest.Refused(t, s.Discard(ctx, "a", n), store.ErrOpens)
			}
			must(s.Delete(ctx, "a", 0))(t) // deleted secrets hold keys too
			storetest.OK(t, s.Discard(ctx, "a", 3))
			must(s.Restore(ctx, "a"))(t)
			storetest.Diff(t, "left", []uint64{1, 2, 4, 5}, numbersOf(t, s, "a"))
			storetest.Diff(t, "labels", map[string]uint64{"custom": 1, "current": 4, "pending": 5}, labelsOf(t, s, "a"))
			storetest.Refused(t, s.Discard(ctx, "a", 3), store.ErrNotFound)
			must(s.SetKey(ctx, "a", "default"))(t)
			must(s.ScheduleKeyDeletion(ctx, "mk-1", 0))(t)
			storetest.Check(t, s.Store)
		})
	}
}

func TestDiscardRefusesVersionUnderDisabledKey(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	putFive(t, s, "a", "default")
	must(s.DisableKey(ctx, "default"))(t)
	for n := uint64(1); n <= 5; n++ {
		e := storetest.Refused(t, s.Discard(ctx, "a", n), store.ErrOpens)
		if e.Remedy != "reseal key enable default" || e.KeyState != store.Disabled {
			t.Errorf("version %d: remedy %q, key is %s", n, e.Remedy, e.KeyState)
		}
	}
	storetest.Refused(t, s.Discard(ctx, "a", 6), store.ErrNotFound)
	storetest.Refused(t, s.Discard(ctx, "a", 0), store.ErrNotFound)
	storetest.Refused(t, s.Discard(ctx, "b", 1), store.ErrNotFound)
	storetest.OK(t, s.EnableKey(ctx, "default"))
	wantFive(t, s, "a", "default")
}

func TestDiscardOfCurrentLeavesNoCurrent(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	putFive(t, s, "a", "default")
	s.Exec(t, `UPDATE reseal_data_keys SET wrapped = zeroblob(108) WHERE id = (SELECT id FROM reseal_secret_versions WHERE number = 4)`)
	storetest.OK(t, s.Discard(ctx, "a", 4))
	storetest.Diff(t, "labels", map[string]uint64{"custom": 1, "previous": 3, "pending": 5}, labelsOf(t, s, "a"))
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a")), store.ErrNotFound)
	x := must(s.Explain(ctx, "a", 0))(t)
	if x.Remedy != "reseal label a current --version 5" {
		t.Errorf("explain's remedy is %q", x.Remedy)
	}
	storetest.OK(t, s.SetLabel(ctx, "a", store.LabelCurrent, 5))
	if got := s.MustGet(t, "a"); got != "four" {
		t.Errorf("current is %q", got)
	}
	storetest.Check(t, s.Store)
}

func TestDiscardOfEveryVersionFreesTheKey(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "one", store.PutOptions{Key: "mk-1"})
	s.Exec(t, `UPDATE reseal_secret_versions SET sealed = zeroblob(100)`)
	storetest.OK(t, s.Discard(ctx, "a", 1))
	storetest.Diff(t, "explain's remedy", "reseal put a", must(s.Explain(ctx, "a", 0))(t).Remedy)
	must(s.SetKey(ctx, "a", "default"))(t)
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 0))(t)
	if got := s.MustPut(t, "a", "two", store.PutOptions{}); got.Version != 2 || got.Key != "default" {
		t.Errorf("put: %+v", got)
	}
	storetest.Check(t, s.Store)
}

// A version's row that is gone is missed by its secret's record.
func TestDiscardCountsAnewWhenVersionRowIsGone(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	s.Exec(t, `DELETE FROM reseal_data_keys WHERE id = (SELECT id FROM reseal_secret_versions WHERE number = 2)`)
	s.Exec(t, `DELETE FROM reseal_secret_versions WHERE number = 2`)
	storetest.Refused(t, storetest.Err(s.Show(ctx, "a")), store.ErrDamaged)
	storetest.Refused(t, storetest.Err(s.SetKey(ctx, "a", "default")), store.ErrDamaged)
	storetest.Refused(t, storetest.Err(s.Prune(ctx, "a", 0)), store.ErrDamaged)
	for _, n := range []uint64{0, 2} {
		if x := must(s.Explain(ctx, "a", n))(t); x.Remedy != "reseal discard a --version 2" {
			t.Errorf("explain's remedy for version %d is %q", n, x.Remedy)
		}
	}
	if report := must(s.Verify(ctx, store.VerifyOptions{}))(t); report.FailureCount != 2 || report.Failures[1].Secret != "a" {
		t.Errorf("verify found %+v", report.Failures)
	}
	storetest.Refused(t, s.Discard(ctx, "a", 6), store.ErrNotFound)
	storetest.OK(t, s.Discard(ctx, "a", 2))
	storetest.Refused(t, s.Discard(ctx, "a", 2), store.ErrNotFound)
	must(s.SetKey(ctx, "a", "default"))(t)
	storetest.OK(t, s.AcceptRows(ctx))
	storetest.Check(t, s.Store)
	events := must(s.Events(ctx, store.EventFilter{Secret: "a", Limit: 2}))(t)
	storetest.Diff(t, "event", `{"count":4,"counted":5,"reason":"its row is gone","version":2}`, string(events[0].Detail))
}

func TestDiscardIsUndoneWithTheCallersTransaction(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	putFive(t, s, "a", "default")
	s.Exec(t, `UPDATE reseal_secret_versions SET sealed = zeroblob(100) WHERE number = 3`)
	before := must(s.Anchor(ctx))(t)
	tx := must(s.Raw(t).BeginTx(ctx, nil))(t)
	storetest.OK(t, s.DiscardTx(ctx, tx, "a", 3))
	storetest.Refused(t, s.DiscardTx(ctx, tx, "a", 4), store.ErrOpens)
	if n := must(s.PruneTx(ctx, tx, "a", 0))(t); n != 1 {
		t.Errorf("pruned %d versions", n)
	}
	if res := must(s.PurgeTx(ctx, tx, "a", true))(t); !cmp.Equal(res, store.PurgeResult{Name: "a", Versions: 3, Residue: true}) {
		t.Errorf("purge: %+v", res)
	}
	storetest.OK(t, tx.Rollback())
	storetest.Diff(t, "anchor", before, must(s.Anchor(ctx))(t))
	storetest.OK(t, s.Discard(ctx, "a", 3))
	storetest.Check(t, s.Store)
}
