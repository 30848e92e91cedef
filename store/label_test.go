package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// labelsOf returns the version that each label of a secret points to.
func labelsOf(t *testing.T, s *resealtest.Store, name string) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, v := range must(s.Show(t.Context(), name))(t).Versions {
		for _, l := range v.Labels {
			out[l] = v.Version
		}
	}
	return out
}

func TestPutMovesLabels(t *testing.T) {
	s := resealtest.New(t, nil)
	for _, step := range []struct {
		label string
		want  map[string]uint64
	}{
		{"custom", map[string]uint64{"custom": 1, "current": 1}}, // the first is current too
		{"", map[string]uint64{"custom": 1, "current": 2, "previous": 1}},
		{"pending", map[string]uint64{"custom": 1, "current": 2, "previous": 1, "pending": 3}},
		{"current", map[string]uint64{"custom": 1, "current": 4, "previous": 2, "pending": 3}},
		{"custom", map[string]uint64{"custom": 5, "current": 4, "previous": 2, "pending": 3}},
		{"previous", map[string]uint64{"custom": 5, "current": 4, "previous": 6, "pending": 3}},
	} {
		s.MustPut(t, "a", "v", store.PutOptions{Label: step.label})
		storetest.Diff(t, "after put with label "+step.label, step.want, labelsOf(t, s, "a"))
	}
}

func TestSetLabelMovesAndRemoves(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	putFive(t, s, "a", "default")
	storetest.OK(t, s.SetLabel(ctx, "a", store.LabelCurrent, 5))
	want := map[string]uint64{"custom": 1, "previous": 4, "current": 5, "pending": 5}
	storetest.Diff(t, "current moved", want, labelsOf(t, s, "a"))
	if got := s.MustGet(t, "a", store.Label(store.LabelPrevious)); got != "three" {
		t.Errorf("previous is %q", got)
	}
	before := must(s.Anchor(ctx))(t)
	storetest.OK(t, s.SetLabel(ctx, "a", store.LabelCurrent, 5))
	if after := must(s.Anchor(ctx))(t); !cmp.Equal(before, after) {
		t.Error("moving a label to where it is changed the store")
	}
	storetest.OK(t, s.RemoveLabel(ctx, "a", store.LabelPending))
	delete(want, "pending")
	storetest.Diff(t, "pending removed", want, labelsOf(t, s, "a"))

	storetest.Refused(t, s.RemoveLabel(ctx, "a", store.LabelPending), store.ErrNotFound)
	storetest.Refused(t, s.SetLabel(ctx, "a", "custom", 6), store.ErrNotFound)
	storetest.Refused(t, s.SetLabel(ctx, "b", "custom", 1), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Label("other"))), store.ErrNotFound)
	for _, err := range []error{
		s.RemoveLabel(ctx, "a", store.LabelCurrent),
		s.SetLabel(ctx, "a", "", 1),
		s.SetLabel(ctx, "a", "two words", 1),
	} {
		if !cmp.Equal(err, store.ErrInvalid, equateErrors) {
			t.Errorf("error %v, want %v", err, store.ErrInvalid)
		}
	}
	storetest.Diff(t, "after what was refused", want, labelsOf(t, s, "a"))
}
