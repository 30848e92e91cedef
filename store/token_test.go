package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// equateErrors compares errors as errors.Is does.
var equateErrors = cmpopts.EquateErrors()

func TestTokenMakesPutRepeatable(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-2"))
	first := s.MustPut(t, "a", "one", store.PutOptions{Token: "t-1"})
	s.MustPut(t, "a", "two", store.PutOptions{})
	must(s.SetKey(ctx, "a", "mk-2"))(t)
	before := must(s.Anchor(ctx))(t)

	again := s.MustPut(t, "a", "one", store.PutOptions{Token: "t-1"})
	want := first
	want.Created, want.Replayed, want.Key = false, true, "mk-2"
	storetest.Diff(t, "replayed put", want, again)
	storetest.Diff(t, "anchor", before, must(s.Anchor(ctx))(t))
	if got := s.MustGet(t, "a"); got != "two" {
		t.Errorf("a replayed put moved current to %q", got)
	}

	e := storetest.Refused(t, storetest.Err(s.Put(ctx, "a", []byte("uno"), &store.PutOptions{Token: "t-1"})), store.ErrTokenConflict)
	if e.Version != 1 || strings.Contains(e.Error(), "uno") || strings.Contains(e.Error(), "one") {
		t.Errorf("conflict: %v", e)
	}
	storetest.Diff(t, "anchor", before, must(s.Anchor(ctx))(t))

	// A token is the secret's own, and is gone with its version.
	if got := s.MustPut(t, "b", "other", store.PutOptions{Token: "t-1"}); got.Replayed {
		t.Error("another secret's token was replayed")
	}
	s.MustPut(t, "a", "three", store.PutOptions{})
	if n := must(s.Prune(ctx, "a", 0))(t); n != 1 {
		t.Fatalf("pruned %d versions", n)
	}
	got := s.MustPut(t, "a", "other", store.PutOptions{Token: "t-1"})
	if got.Replayed || got.Version != 4 {
		t.Errorf("put with the token of a pruned version: %+v", got)
	}
}

func TestTokenOfUnavailableVersionIsNotGuessed(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	s.MustPut(t, "a", "one", store.PutOptions{Token: "t-1"})
	must(s.DisableKey(ctx, "default"))(t)
	storetest.Refused(t, storetest.Err(s.Put(ctx, "a", []byte("one"), &store.PutOptions{Token: "t-1"})), store.ErrKeyUnavailable)
	storetest.OK(t, s.EnableKey(ctx, "default"))
	if got := s.MustPut(t, "a", "one", store.PutOptions{Token: "t-1"}); !got.Replayed {
		t.Errorf("put: %+v", got)
	}
}

func TestTokensOfBadShapeAreRefused(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	for _, token := range []string{strings.Repeat("x", 65), "a\x00b", "a\nb", "\xff"} {
		_, err := s.Put(ctx, "a", []byte("v"), &store.PutOptions{Token: token})
		if !cmp.Equal(err, store.ErrInvalid, equateErrors) {
			t.Errorf("token %q: %v", token, err)
		}
	}
	s.MustPut(t, "a", "v", store.PutOptions{Token: strings.Repeat("é", 64)})
}
