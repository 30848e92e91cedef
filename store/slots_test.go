package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// passphrase opens what newStore makes.
const passphrase = "correct horse"

func options() *store.Options { return &store.Options{KDF: fastKDF, Actor: "tester"} }

func openStore(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *store.Store, name, value, key string) {
	t.Helper()
	if _, err := s.Put(t.Context(), name, []byte(value), &store.PutOptions{Key: key}); err != nil {
		t.Fatal(err)
	}
}

func wantValue(t *testing.T, s *store.Store, name, want string, sel ...store.Selector) {
	t.Helper()
	v, err := s.Get(t.Context(), name, sel...)
	if err != nil {
		t.Errorf("get %s: %v", name, err)
		return
	}
	defer v.Clear()
	if string(v.Bytes()) != want {
		t.Errorf("get %s = %q, want %q", name, v.Bytes(), want)
	}
}

func slotIDs(t *testing.T, s *store.Store) []string {
	t.Helper()
	slots, err := s.Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, sl := range slots {
		ids = append(ids, sl.ID)
	}
	return ids
}

func newKeyFile(t *testing.T) (store.Credential, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "reseal.key")
	cred, err := store.NewKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return cred, path
}

func TestEverySlotOpensTheStore(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	put(t, s, "app/db", "hunter2", "")
	file, path := newKeyFile(t)
	added, err := s.AddSlot(ctx, file, "recovery, in the safe")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddSlot(ctx, store.Passphrase([]byte("second")), ""); err != nil {
		t.Fatal(err)
	}
	slots, err := s.Slots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(added, slots[1]); diff != "" {
		t.Errorf("slot (-added +listed):\n%s", diff)
	}
	for i := range slots {
		if len(slots[i].ID) != 32 {
			t.Errorf("slot id %q is not 32 digits", slots[i].ID)
		}
		slots[i].ID, slots[i].CreatedAt = "", time.Time{}
	}
	want := []store.SlotInfo{
		{Kind: "passphrase", KDF: "argon2id t=1 m=8KiB p=1", Unsealed: true},
		{Kind: "key-file", Label: "recovery, in the safe"},
		{Kind: "passphrase", KDF: "argon2id t=1 m=8KiB p=1"},
	}
	if diff := cmp.Diff(want, slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
	for _, cred := range []store.Credential{store.KeyFile(path), store.Passphrase([]byte("second")), store.Passphrase([]byte(passphrase))} {
		other, err := store.Open(ctx, s.Path(), cred, options())
		if err != nil {
			t.Fatal(err)
		}
		wantValue(t, other, "app/db", "hunter2")
		other.Close()
	}
}

func TestSlotsOfSealedStoreAreListed(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	sealed, err := store.OpenSealed(ctx, s.Path(), options())
	if err != nil {
		t.Fatal(err)
	}
	defer sealed.Close()
	if diff := cmp.Diff(slotIDs(t, s), slotIDs(t, sealed)); diff != "" {
		t.Errorf("slots (-unsealed +sealed):\n%s", diff)
	}
	file, _ := newKeyFile(t)
	if _, err := sealed.AddSlot(ctx, file, ""); !errors.Is(err, store.ErrSealed) {
		t.Errorf("AddSlot on a sealed store: %v", err)
	}
	if err := sealed.RemoveSlot(ctx, slotIDs(t, s)[0]); !errors.Is(err, store.ErrSealed) {
		t.Errorf("RemoveSlot on a sealed store: %v", err)
	}
	if _, err := sealed.Anchor(ctx); !errors.Is(err, store.ErrSealed) {
		t.Errorf("Anchor of a sealed store: %v", err)
	}
}

func TestRemovedSlotNoLongerOpens(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	file, path := newKeyFile(t)
	added, err := s.AddSlot(ctx, file, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveSlot(ctx, strings.ToUpper(added.ID[:8])); err != nil {
		t.Fatal(err)
	}
	if other, err := store.Open(ctx, s.Path(), store.KeyFile(path), options()); !errors.Is(err, store.ErrUnseal) {
		t.Errorf("open with the removed slot: %v, want ErrUnseal", err)
		if err == nil {
			other.Close()
		}
	}
	openStore(t, s.Path())
}

func TestRemoveSlotRefuses(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	id := slotIDs(t, s)[0]
	other := "0" + id[1:]
	if id[0] == '0' {
		other = "1" + id[1:]
	}
	for _, c := range []struct {
		why, id string
		want    error
	}{
		{"the last slot", id, store.ErrInvalid},
		{"too few digits", id[:5], store.ErrInvalid},
		{"empty", "", store.ErrInvalid},
		{"not digits", "recovery", store.ErrInvalid},
		{"longer than an id", id + "00", store.ErrNotFound},
		{"another id", other, store.ErrNotFound},
	} {
		err := s.RemoveSlot(ctx, c.id)
		var e *store.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Remedy == "" {
			t.Errorf("%s: RemoveSlot(%q) = %v, want %v with a remedy", c.why, c.id, err, c.want)
		}
	}
	openStore(t, s.Path())
}

func TestAddSlotRefuses(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	file, path := newKeyFile(t)
	chmod(t, path, 0o644)
	if _, err := s.AddSlot(ctx, file, ""); !errors.Is(err, store.ErrPermissions) {
		t.Errorf("a key file that others can read: %v", err)
	}
	chmod(t, path, 0o600)
	for _, c := range []struct {
		why   string
		cred  store.Credential
		label string
	}{
		{"no credential", store.Credential{}, ""},
		{"an empty passphrase", store.Passphrase(nil), ""},
		{"a label of two lines", file, "a\nb"},
		{"a label of 65 characters", file, strings.Repeat("é", 65)},
		{"a store as key file", store.KeyFile(s.Path()), ""},
	} {
		if _, err := s.AddSlot(ctx, c.cred, c.label); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", c.why, err)
		}
	}
	for i := len(slotIDs(t, s)); i < store.MaxSlots; i++ {
		if _, err := s.AddSlot(ctx, file, strings.Repeat("é", 64)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.AddSlot(ctx, file, ""); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("slot %d: %v, want ErrInvalid", store.MaxSlots+1, err)
	}
	if n := len(slotIDs(t, s)); n != store.MaxSlots {
		t.Errorf("%d slots, want %d", n, store.MaxSlots)
	}
}

func TestAnchorFollowsEveryChange(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	anchor := func() store.Anchor {
		a, err := s.Anchor(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	before := anchor()
	if diff := cmp.Diff(before, anchor()); diff != "" {
		t.Errorf("the anchor moved without a change (-first +second):\n%s", diff)
	}
	put(t, s, "app/db", "hunter2", "")
	after := anchor()
	if after.StoreID != before.StoreID || after.Generation != before.Generation+1 || after.Digest == before.Digest {
		t.Errorf("before a put %+v, after it %+v", before, after)
	}
}
