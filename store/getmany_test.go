package store_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func TestGetManyIsManyGets(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	must(s.PutMany(ctx, list(apps(600)...)))(t)
	must(s.PutMany(ctx, list(apps(600)...)))(t)
	var names []string
	for i := range 600 {
		names = append(names, app((i*7)%600).name)
	}
	names = append(names, names[0])
	for _, sel := range [][]store.Selector{nil, {store.Label(store.LabelPrevious)}, {store.Version(2)}} {
		values := must(s.GetMany(ctx, names, sel...))(t)
		storetest.Diff(t, "values", len(names), len(values))
		for i, v := range values {
			want := must(s.Get(ctx, names[i], sel...))(t)
			if v.Name != names[i] || v.Version != want.Version || string(v.Bytes()) != string(want.Bytes()) || !v.CreatedAt.Equal(want.CreatedAt) {
				t.Errorf("value %d is of %q version %d", i, v.Name, v.Version)
			}
		}
	}
}

func TestGetManyFailsWhole(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	must(s.PutMany(ctx, list(apps(3)...)))(t)
	s.MustPut(t, "deleted", "x", store.PutOptions{})
	must(s.Delete(ctx, "deleted", 0))(t)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		name string
		sel  []store.Selector
		want error
	}{
		"deleted":    {ctx, "deleted", nil, store.ErrDeleted},
		"missing":    {ctx, "missing", nil, store.ErrNotFound},
		"no name":    {ctx, "", nil, store.ErrInvalid},
		"no label":   {ctx, "app/1", []store.Selector{store.Label("blue")}, store.ErrNotFound},
		"no version": {ctx, "app/1", []store.Selector{store.Version(9)}, store.ErrNotFound},
		"selectors":  {ctx, "app/1", []store.Selector{store.Version(1), store.Version(1)}, store.ErrInvalid},
		"cancelled":  {cancelled, "app/1", nil, context.Canceled},
	} {
		if values, err := s.GetMany(c.ctx, []string{"app/0", c.name}, c.sel...); !errors.Is(err, c.want) || values != nil {
			t.Errorf("%s: GetMany = %v, %v", name, values, err)
		}
	}
	if values, err := s.GetMany(ctx, nil); values != nil || err != nil {
		t.Errorf("GetMany of nothing = %v, %v", values, err)
	}
	must(s.DisableKey(ctx, store.DefaultKeyName))(t)
	if _, err := s.GetMany(ctx, []string{"app/0"}); !errors.Is(err, store.ErrKeyUnavailable) {
		t.Errorf("GetMany = %v", err)
	}
}

// GetMany, which reads otherwise, tells all that Get tells of what it cannot give.
func TestGetManyFailsAsGetDoes(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, s *resealtest.Store){
		"key disabled": func(t *testing.T, s *resealtest.Store) { must(s.DisableKey(t.Context(), "mk-1"))(t) },
		"deleted":      func(t *testing.T, s *resealtest.Store) { must(s.Delete(t.Context(), "a", 0))(t) },
		"record altered": func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_secrets SET next_number = 99 WHERE name = 'a'`)
		},
		"key altered": func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`)
		},
		"value altered": func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_secret_versions SET sealed = zeroblob(100) WHERE number > 1`)
		},
		"wrap altered": func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_data_keys SET wrapped = zeroblob(108) WHERE id > 1`)
		},
		"data key missing": func(t *testing.T, s *resealtest.Store) { s.Exec(t, `DELETE FROM reseal_data_keys WHERE id > 1`) },
		"version of another secret": func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `
				DROP TRIGGER reseal_secret_versions_identity;
				UPDATE reseal_secret_versions SET secret = 1, number = number + 10 WHERE number > 1`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
			s.MustPut(t, "whole", "x", store.PutOptions{})
			storetest.OK(t, s.CreateKey(ctx, "mk-1"))
			putFive(t, s, "a", "mk-1")
			spoil(t, s)
			_, one := s.Get(ctx, "a")
			_, many := s.GetMany(ctx, []string{"whole", "a"})
			var want, got *store.Error
			if !errors.As(one, &want) || !errors.As(many, &got) {
				t.Fatalf("get: %v; GetMany: %v", one, many)
			}
			storetest.Diff(t, "error", one.Error(), many.Error())
			want.Err, got.Err = nil, nil
			storetest.Diff(t, "facts", *want, *got)
		})
	}
}

// All values are of one moment, however many others put meanwhile.
func TestGetManyIsOfOneMoment(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	names := []string{"a", "b", "c"}
	put := func(value string) error {
		var in []store.Item
		for _, n := range names {
			in = append(in, store.NewItem(n, []byte(value), nil))
		}
		_, err := s.PutMany(ctx, in)
		return err
	}
	if err := put("start"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 200 {
			if err := put(string(app(i).value)); err != nil {
				t.Error(err)
				break
			}
		}
		close(stop)
	})
	for reading := true; reading; {
		select {
		case <-stop:
			reading = false
		default:
		}
		values := must(s.GetMany(ctx, names))(t)
		if slices.ContainsFunc(values, func(v store.Value) bool { return string(v.Bytes()) != string(values[0].Bytes()) }) {
			t.Fatal("values of different moments")
		}
	}
	writer.Wait()
}

func TestGetManyIsAudited(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Store: store.Options{AuditReads: true}}), t.Context()
	must(s.PutMany(ctx, list(apps(2)...)))(t)
	must(s.GetMany(ctx, []string{"app/1", "app/0"}))(t)
	got := actions(t, s.Store)
	storetest.Diff(t, "events", []string{"get app/1 ", "get app/0 "}, got[len(got)-2:])
}
