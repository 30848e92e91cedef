package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// datesOf returns when each data key was made, in the order of the rows.
func datesOf(t *testing.T, s *resealtest.Store) (out []time.Time) {
	t.Helper()
	rows := must(s.Raw(t).Query(`SELECT made_at FROM reseal_data_keys ORDER BY id`))(t)
	defer rows.Close()
	for rows.Next() {
		var ms int64
		storetest.OK(t, rows.Scan(&ms))
		out = append(out, time.UnixMilli(ms).UTC())
	}
	storetest.OK(t, rows.Err())
	return out
}

func TestRewrapKeepsTheDateOfADataKey(t *testing.T) {
	s := resealtest.New(t, nil)
	first := s.Clock.Now()
	must(s.Put(t.Context(), "a", []byte("one"), nil))(t)
	s.Clock.Advance(time.Hour)
	must(s.Put(t.Context(), "a", []byte("two"), nil))(t)
	s.Clock.Advance(time.Hour)
	must(s.RotateKey(t.Context(), store.DefaultKeyName))(t)
	if moved := must(s.SetKey(t.Context(), "a", store.DefaultKeyName))(t); moved.Rewrapped != 2 {
		t.Fatalf("SetKey = %+v", moved)
	}
	if diff := cmp.Diff([]time.Time{first, first.Add(time.Hour)}, datesOf(t, s)); diff != "" {
		t.Errorf("dates of the data keys (-want +got):\n%s", diff)
	}
}
