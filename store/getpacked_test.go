package store_test

import (
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func TestGetIsOneStatement(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	putFive(t, s, "a", "default")
	s.MustPut(t, "plain", "value", store.PutOptions{})
	check := func(when string, name, label string, want bool) {
		t.Helper()
		v, ok, err := store.GetPacked(ctx, s.Store, name, label)
		storetest.OK(t, err)
		if ok != want {
			t.Errorf("%s: label %q of %q in one statement: %v, want %v", when, label, name, ok, want)
		}
		if !ok {
			return
		}
		again := must(s.Get(ctx, name, store.Version(v.Version)))(t) // which takes two
		storetest.Diff(t, when+": the value", string(again.Bytes()), string(v.Bytes()))
		storetest.Diff(t, when+": its date", again.CreatedAt, v.CreatedAt)
	}
	all := func(when string, want bool) {
		t.Helper()
		for label := range labelsOf(t, s, "a") {
			check(when, "a", label, want)
		}
		check(when, "plain", "current", want)
		check(when, "plain", "no-such-label", false)
		check(when, "no/such/secret", "current", false)
	}
	all("as put", true)
	storetest.OK(t, s.CreateKey(ctx, "other"))
	must(s.RotateKey(ctx, "default"))(t)
	must(s.SetKey(ctx, "a", "other"))(t)
	all("under another key", true)
	must(s.DisableKey(ctx, "other"))(t)
	check("key disabled", "a", "current", false)
	check("key disabled", "plain", "current", true)
}
