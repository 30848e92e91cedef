package store_test

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

func TestDependentsAreCountedByKind(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	dependents := func(want store.Dependents) {
		t.Helper()
		storetest.Diff(t, "dependents of mk-1", want, must(s.Key(ctx, "mk-1"))(t).Dependents, cmpopts.EquateEmpty())
	}
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	dependents(store.Dependents{})
	putFive(t, s, "live", "mk-1")
	putFive(t, s, "gone", "mk-1")
	s.MustPut(t, "pending", "x", store.PutOptions{Key: "mk-1"})
	s.MustPut(t, "pending", "y", store.PutOptions{Label: store.LabelPending})
	must(s.Delete(ctx, "gone", 0))(t)
	want := store.Dependents{
		Secrets: 2, DeletedSecrets: 1, Versions: 12, Configured: 3,
		Labelled: 3 + 3 + 1, Pending: 1 + 1 + 1, Unlabelled: 1 + 1, OfDeleted: 5,
		Names: []string{"gone", "live", "pending"},
	}
	dependents(want)

	// A version that is behind depends on its version of the key.
	must(s.RotateKey(ctx, "mk-1"))(t)
	s.MustPut(t, "live", "five", store.PutOptions{Label: "new"})
	want.Versions, want.Labelled = 13, 8
	dependents(want)
	e := storetest.Refused(t, s.DestroyKeyVersion(ctx, "mk-1", 1), store.ErrDependents)
	storetest.Diff(t, "dependents of version 1", &store.Dependents{
		Secrets: 2, DeletedSecrets: 1, Versions: 12, Configured: 3,
		Labelled: 7, Pending: 3, Unlabelled: 2, OfDeleted: 5,
		Names: []string{"gone", "live", "pending"},
	}, e.Dependents)
	if e.Remedy != "reseal rotate run --key mk-1" {
		t.Errorf("remedy %q", e.Remedy)
	}

	// What is not a wrap holds a key too.
	for _, name := range []string{"gone", "live", "pending"} {
		must(s.SetKey(ctx, name, "default"))(t)
	}
	dependents(store.Dependents{})
	storetest.OK(t, s.SetDefaultKey(ctx, "mk-1"))
	dependents(store.Dependents{Default: true})
	e = storetest.Refused(t, storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 0)), store.ErrDependents)
	if e.Remedy != "reseal key set-default OTHER-KEY" {
		t.Errorf("remedy %q", e.Remedy)
	}
	storetest.OK(t, s.SetDefaultKey(ctx, "default"))
	r := must(s.StartRotation(ctx, store.RotationSpec{From: "default", To: "mk-1"}))(t)
	dependents(store.Dependents{Jobs: []string{r.Job().ID}})
	e = storetest.Refused(t, storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 0)), store.ErrDependents)
	if e.Remedy != "reseal rotate status" {
		t.Errorf("remedy %q", e.Remedy)
	}
}

// A known backup that needs a key is listed, and does not hold it.
func TestBackupsDoNotHoldKeys(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "x", store.PutOptions{Key: "mk-1"})
	path := filepath.Join(t.TempDir(), "backup.db")
	must(s.Backup(ctx, path))(t)
	must(s.SetKey(ctx, "a", "default"))(t)
	storetest.Diff(t, "dependents", store.Dependents{Backups: []string{path}}, must(s.Key(ctx, "mk-1"))(t).Dependents)
	must(s.ScheduleKeyDeletion(ctx, "mk-1", 0))(t)
}

func TestDependentsNameTheFirstSecretsOnly(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for _, c := range "abcdefghijkl" {
		s.MustPut(t, string(c), "x", store.PutOptions{})
	}
	d := must(s.Key(ctx, "default"))(t).Dependents
	storetest.Diff(t, "names", []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, d.Names)
	want := "needed by 12 secrets, 12 versions (labelled 12, pending 0, unlabelled 0, of deleted secrets 0), the default key setting: a, b, c, d, e, f, g, h, i, j, …"
	storetest.Diff(t, "line", want, d.String())
}
