package store_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// inState returns a store with the master key mk-1 in that state.
func inState(t *testing.T, state store.KeyState) *storetest.Store {
	t.Helper()
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "other", "one", store.PutOptions{})
	switch state {
	case store.Disabled:
		must(s.DisableKey(ctx, "mk-1"))(t)
	case store.PendingDeletion, store.Destroyed:
		must(s.ScheduleKeyDeletion(ctx, "mk-1", 7*oneDay))(t)
	}
	if state == store.Destroyed {
		s.Clock.Advance(7 * oneDay)
		must(s.Sweep(ctx, false))(t)
	}
	storetest.Diff(t, "state", state, must(s.Key(ctx, "mk-1"))(t).State)
	return s
}

func TestKeyStateAllowsAndRefuses(t *testing.T) {
	states := []store.KeyState{store.Enabled, store.Disabled, store.PendingDeletion, store.Destroyed}
	for _, c := range []struct {
		verb string
		do   func(context.Context, *storetest.Store) error
		want [4]error          // by state
		then [4]store.KeyState // after it, "" if it is as before
	}{
		{"put a new secret under it", func(ctx context.Context, s *storetest.Store) error {
			return storetest.Err(s.Put(ctx, "new", []byte("x"), &store.PutOptions{Key: "mk-1"}))
		}, [4]error{nil, store.ErrKeyUnavailable, store.ErrKeyUnavailable, store.ErrKeyUnavailable}, [4]store.KeyState{}},
		{"set-key to it", func(ctx context.Context, s *storetest.Store) error {
			return storetest.Err(s.SetKey(ctx, "other", "mk-1"))
		}, [4]error{nil, store.ErrKeyUnavailable, store.ErrKeyUnavailable, store.ErrKeyUnavailable}, [4]store.KeyState{}},
		{"rotate to it", func(ctx context.Context, s *storetest.Store) error {
			return storetest.Err(s.StartRotation(ctx, store.RotationSpec{From: "default", To: "mk-1"}))
		}, [4]error{nil, store.ErrKeyUnavailable, store.ErrKeyUnavailable, store.ErrKeyUnavailable}, [4]store.KeyState{}},
		{"key rotate", func(ctx context.Context, s *storetest.Store) error {
			return storetest.Err(s.RotateKey(ctx, "mk-1"))
		}, [4]error{nil, store.ErrKeyState, store.ErrKeyState, store.ErrKeyState}, [4]store.KeyState{}},
		{"key enable", func(ctx context.Context, s *storetest.Store) error {
			return s.EnableKey(ctx, "mk-1")
		}, [4]error{nil, nil, store.ErrKeyState, store.ErrKeyState}, [4]store.KeyState{"", store.Enabled}},
		{"key disable", func(ctx context.Context, s *storetest.Store) error {
			return storetest.Err(s.DisableKey(ctx, "mk-1"))
		}, [4]error{nil, nil, store.ErrKeyState, store.ErrKeyState}, [4]store.KeyState{store.Disabled}},
		{"key delete", func(ctx context.Context, s *storetest.Store) error {
			return storetest.Err(s.ScheduleKeyDeletion(ctx, "mk-1", 0))
		}, [4]error{nil, nil, store.ErrKeyState, store.ErrKeyState}, [4]store.KeyState{store.PendingDeletion, store.PendingDeletion}},
		{"key cancel-deletion", func(ctx context.Context, s *storetest.Store) error {
			return s.CancelKeyDeletion(ctx, "mk-1")
		}, [4]error{store.ErrKeyState, store.ErrKeyState, nil, store.ErrKeyState}, [4]store.KeyState{"", "", store.Disabled}},
		{"key set-default", func(ctx context.Context, s *storetest.Store) error {
			return s.SetDefaultKey(ctx, "mk-1")
		}, [4]error{nil, store.ErrKeyState, store.ErrKeyState, store.ErrKeyState}, [4]store.KeyState{}},
		{"key destroy-version of the primary", func(ctx context.Context, s *storetest.Store) error {
			return s.DestroyKeyVersion(ctx, "mk-1", 1)
		}, [4]error{store.ErrKeyState, store.ErrKeyState, store.ErrKeyState, nil}, [4]store.KeyState{}},
	} {
		for i, state := range states {
			t.Run(c.verb+"/"+string(state), func(t *testing.T) {
				s := inState(t, state)
				before := must(s.Anchor(t.Context()))(t)
				err := c.do(t.Context(), s)
				if !cmp.Equal(err, c.want[i], equateErrors) {
					t.Fatalf("error %v, want %v", err, c.want[i])
				}
				if err != nil {
					storetest.Diff(t, "anchor after a refusal", before, must(s.Anchor(t.Context()))(t))
				}
				then := c.then[i]
				if then == "" {
					then = state
				}
				storetest.Diff(t, "state", then, must(s.Key(t.Context(), "mk-1"))(t).State)
			})
		}
	}
}

// Under a disabled key nothing is read or written, and everything else goes on:
// above all moving away.
func TestSecretUnderDisabledKey(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	must(s.DisableKey(ctx, "mk-1"))(t)
	for verb, err := range map[string]error{
		"get":         storetest.Err(s.Get(ctx, "a")),
		"get version": storetest.Err(s.Get(ctx, "a", store.Version(2))),
		"put":         storetest.Err(s.Put(ctx, "a", []byte("x"), nil)),
		"set-key":     storetest.Err(s.SetKey(ctx, "a", "mk-1")),
	} {
		e := storetest.Refused(t, err, store.ErrKeyUnavailable)
		if e.Remedy != "reseal key enable mk-1" || e.KeyState != store.Disabled {
			t.Errorf("%s: remedy %q, key is %s", verb, e.Remedy, e.KeyState)
		}
	}
	storetest.OK(t, s.SetLabel(ctx, "a", "custom", 1))
	storetest.OK(t, s.SetTags(ctx, "a", map[string]string{"k": "v"}))
	must(s.Show(ctx, "a"))(t)
	must(s.Delete(ctx, "a", 0))(t)
	must(s.Restore(ctx, "a"))(t)
	if report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t); !report.OK || report.VersionsChecked != 5 {
		t.Errorf("verify: %+v", report)
	}
	must(s.SetKey(ctx, "a", "default"))(t)
	wantFive(t, s, "a", "default")
}
