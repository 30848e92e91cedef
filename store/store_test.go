package store_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/store"
)

// fastKDF is Argon2id with the least it may cost.
func fastKDF() crypto.KDF {
	k := crypto.DefaultKDF()
	k.Time, k.Memory, k.Threads = 1, 8, 1
	return k
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Create(t.Context(), filepath.Join(t.TempDir(), "reseal.db"), store.Passphrase([]byte("correct horse")), &store.Options{KDF: fastKDF, Actor: "tester"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSetKeyMovesEveryVersion(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if err := s.CreateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"one", "two", "three"} {
		if _, err := s.Put(ctx, "app/db", []byte(v), &store.PutOptions{Key: "mk-1"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.SetKey(ctx, "app/db", "default"); err != nil {
		t.Fatal(err)
	}
	info, err := s.Show(ctx, "app/db")
	if err != nil {
		t.Fatal(err)
	}
	for i := range info.Versions {
		info.Versions[i].CreatedAt = time.Time{}
	}
	want := []store.VersionInfo{
		{Version: 1, EffectiveKey: "default", EffectiveKeyVersion: 1},
		{Version: 2, Labels: []string{"previous"}, EffectiveKey: "default", EffectiveKeyVersion: 1},
		{Version: 3, Labels: []string{"current"}, EffectiveKey: "default", EffectiveKeyVersion: 1},
	}
	if diff := cmp.Diff(want, info.Versions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	for i, v := range []string{"one", "two", "three"} {
		got, err := s.Get(ctx, "app/db", store.Version(uint64(i+1)))
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Bytes()) != v {
			t.Errorf("version %d = %q, want %q", i+1, got.Bytes(), v)
		}
	}
	if _, err := s.ScheduleKeyDeletion(ctx, "mk-1", 0); err != nil {
		t.Error(err)
	}
	if _, err := s.ScheduleKeyDeletion(ctx, "default", 0); err == nil {
		t.Error("a key with dependents was scheduled for deletion")
	} else {
		t.Log(err)
	}
	if n, err := s.VerifyAudit(ctx); err != nil || n < 5 {
		t.Errorf("VerifyAudit = %d, %v", n, err)
	}
	l, err := s.List(ctx, store.ListOptions{})
	if err != nil || len(l) != 1 {
		t.Errorf("List = %v, %v", l, err)
	}
}
