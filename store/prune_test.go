package store_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// numbersOf returns the numbers of a secret's versions.
func numbersOf(t *testing.T, s *storetest.Store, name string) []uint64 {
	t.Helper()
	var out []uint64
	for _, v := range must(s.Show(t.Context(), name))(t).Versions {
		out = append(out, v.Version)
	}
	return out
}

// putMany puts versions without a label but the newest two, and a custom label
// on the first.
func putMany(t *testing.T, s *storetest.Store, name string, n int) {
	t.Helper()
	for i := range n {
		s.MustPut(t, name, fmt.Sprint("value ", i+1), store.PutOptions{})
	}
	storetest.OK(t, s.SetLabel(t.Context(), name, "custom", 1))
}

func TestPruneRemovesUnlabelledVersionsOnly(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	putMany(t, s, "a", 8)
	for _, step := range []struct {
		keep, removed int
		left          []uint64
	}{
		{9, 0, []uint64{1, 2, 3, 4, 5, 6, 7, 8}},
		{3, 2, []uint64{1, 4, 5, 6, 7, 8}},
		{3, 0, []uint64{1, 4, 5, 6, 7, 8}},
		{0, 3, []uint64{1, 7, 8}},
		{0, 0, []uint64{1, 7, 8}},
	} {
		if n := must(s.Prune(ctx, "a", step.keep))(t); n != step.removed {
			t.Errorf("prune to %d removed %d, want %d", step.keep, n, step.removed)
		}
		storetest.Diff(t, "left", step.left, numbersOf(t, s, "a"))
	}
	if got := s.MustPut(t, "a", "nine", store.PutOptions{}).Version; got != 9 {
		t.Errorf("the version after a prune is %d", got)
	}
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(4))), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Prune(ctx, "b", 0)), store.ErrNotFound)
	if _, err := s.Prune(ctx, "a", -1); !cmp.Equal(err, store.ErrInvalid, equateErrors) {
		t.Errorf("prune to -1: %v", err)
	}
}

func TestPruneAllGoesThroughEverySecret(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	for i := range 5 {
		putMany(t, s, fmt.Sprint("app/", i), 6)
	}
	must(s.Delete(ctx, "app/1", 0))(t)
	s.Exec(t, `UPDATE reseal_secrets SET version_count = 2 WHERE name = 'app/2'`)
	n, err := s.PruneAll(ctx, 1)
	if e := storetest.Refused(t, err, store.ErrDamaged); e.Secret != "app/2" {
		t.Errorf("the error names secret %q", e.Secret)
	}
	if n != 6 {
		t.Errorf("pruned %d versions, want 2 of each of 3 secrets", n)
	}
	must(s.Restore(ctx, "app/1"))(t)
	for name, left := range map[string][]uint64{
		"app/0": {1, 4, 5, 6},
		"app/1": {1, 2, 3, 4, 5, 6},
		"app/3": {1, 4, 5, 6},
		"app/4": {1, 4, 5, 6},
	} {
		storetest.Diff(t, name, left, numbersOf(t, s, name))
	}
}
