package store_test

import (
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// misplace makes the row of version 3's data key, which mk-1 wraps, name
// another master key version: the default key's, or one that does not exist.
func misplace(t *testing.T, row string) *resealtest.Store {
	t.Helper()
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = `+row+` WHERE id = `+versionThree)
	return s
}

// A data key whose row names the wrong master key version is not lost: it does
// not open as it is, is not discarded, and set-key puts it right.
func TestMisplacedDataKeyIsMended(t *testing.T) {
	for _, c := range []struct{ name, row, to string }{
		{"another key, to its own", "1", "mk-1"},
		{"another key, to that", "1", "default"},
		{"no key, to its own", "999", "mk-1"},
		{"no key, to another", "999", "default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := misplace(t, c.row)
			ctx := t.Context()
			storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(3))), store.ErrDamaged)
			e := storetest.Refused(t, s.Discard(ctx, "a", 3), store.ErrOpens)
			x := must(s.Explain(ctx, "a", 3))(t)
			if want := "reseal set-key a mk-1"; e.Remedy != want || x.Remedy != want && c.row != "1" {
				t.Errorf("remedies: discard %q, explain %q, want %q", e.Remedy, x.Remedy, want)
			}
			if x.EffectiveKey != "mk-1" || x.EffectiveKeyVersion != 1 {
				t.Errorf("explain says version %d of %q wraps it", x.EffectiveKeyVersion, x.EffectiveKey)
			}
			must(s.SetKey(ctx, "a", c.to))(t)
			wantFive(t, s, "a", c.to)
			storetest.Check(t, s.Store)
		})
	}
}

// A master key version that a data key needs is not destroyed, whatever the row
// of the data key says.
func TestMisplacedDataKeyHoldsItsMasterKey(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "value", store.PutOptions{Key: "mk-1"})
	must(s.RotateKey(ctx, "mk-1"))(t)
	s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = (SELECT max(id) FROM reseal_master_key_versions)`)
	e := storetest.Refused(t, s.DestroyKeyVersion(ctx, "mk-1", 1), store.ErrDependents)
	if e.Secret != "a" || e.Version != 1 || e.Remedy != "reseal explain a --version 1" {
		t.Errorf("the refusal names %q version %d, remedy %q", e.Secret, e.Version, e.Remedy)
	}
	must(s.SetKey(ctx, "a", "mk-1"))(t)
	storetest.OK(t, s.DestroyKeyVersion(ctx, "mk-1", 1))
	storetest.Diff(t, "value", "value", s.MustGet(t, "a"))
	storetest.Check(t, s.Store)
}

// The same of a key whose date has passed: secrets that were moved by hand
// look as if they had left it.
func TestSweepLeavesMasterKeyOfMisplacedDataKey(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "value", store.PutOptions{Key: "mk-1"})
	var row int64
	storetest.OK(t, s.Raw(t).QueryRow(`SELECT master_key_version FROM reseal_data_keys`).Scan(&row))
	old := must(s.Raw(t).Query(`SELECT wrapped FROM reseal_data_keys`))(t)
	var wrapped []byte
	for old.Next() {
		storetest.OK(t, old.Scan(&wrapped))
	}
	must(s.SetKey(ctx, "a", "default"))(t)
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	s.Exec(t, `UPDATE reseal_data_keys SET wrapped = ?`, wrapped) // of an older copy
	s.Clock.Advance(7 * oneDay)
	for _, dry := range []bool{true, false} {
		report := must(s.Sweep(ctx, dry))(t)
		if len(report.DestroyedKeys) != 0 || len(report.Skipped) != 1 || report.Skipped[0].Name != "mk-1" {
			t.Fatalf("sweep, dry run %v: %+v", dry, report)
		}
	}
	must(s.SetKey(ctx, "a", "default"))(t)
	storetest.Diff(t, "destroyed", []string{"mk-1"}, must(s.Sweep(ctx, false))(t).DestroyedKeys)
	storetest.Diff(t, "value", "value", s.MustGet(t, "a"))
}
