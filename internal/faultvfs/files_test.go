package faultvfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// files is a folder's, by name.
type files map[string][]byte

func readFiles(t testing.TB, folder string) files {
	t.Helper()
	entries, err := os.ReadDir(folder)
	storetest.OK(t, err)
	all := files{}
	for _, e := range entries {
		all[e.Name()], err = os.ReadFile(filepath.Join(folder, e.Name()))
		storetest.OK(t, err)
	}
	return all
}

// in writes the files to a new folder. The tests make thousands: each is
// removed when it is done with, and not when the test ends.
func (f files) in(t testing.TB) (folder string) {
	t.Helper()
	base := os.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	folder, err := os.MkdirTemp(base, "reseal-fault-")
	storetest.OK(t, err)
	for name, data := range f {
		storetest.OK(t, os.WriteFile(filepath.Join(folder, name), data, 0o600))
	}
	return folder
}

const fileName = "reseal.db"

// start is when the base store is made, later when the operations run: windows
// of 7 days have ended then, those of 30 have not.
var (
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	later = start.Add(10 * 24 * time.Hour)
)

func options(now time.Time) *store.Options {
	return &store.Options{KDF: resealtest.KDF, Actor: "tester", BusyTimeout: 20 * time.Millisecond, Now: func() time.Time { return now }}
}

func openIn(ctx context.Context, folder string) (*store.Store, error) {
	return store.Open(ctx, filepath.Join(folder, fileName), resealtest.Credential(), options(later))
}

// baseStore is what most operations begin with: secrets with several versions
// and labels, one of many pages, deleted ones, and keys in every state.
func baseStore(t testing.TB) files {
	t.Helper()
	ctx := context.Background()
	folder := files{}.in(t)
	defer os.RemoveAll(folder)
	s, err := store.Create(ctx, filepath.Join(folder, fileName), resealtest.Credential(), options(start))
	storetest.OK(t, err)
	text := "what it is for"
	for _, step := range []func() error{
		func() error { return s.CreateKey(ctx, "mk-1") },
		func() error { return s.CreateKey(ctx, "mk-2") },
		func() error { return s.CreateKey(ctx, "spare") },
		func() error { return s.CreateKey(ctx, "due") },
		func() error { return s.CreateKey(ctx, "off") },
		func() error { return storetest.Err(s.DisableKey(ctx, "off")) },
		func() error { return storetest.Err(s.AddSlot(ctx, resealtest.Credential(), "second")) },
		func() error { return storetest.Err(s.RotateKey(ctx, "spare")) },
		func() error { return putMany(ctx, s, "app/db", "mk-1", 5) },
		func() error { return s.SetLabel(ctx, "app/db", "custom", 2) },
		func() error { return putMany(ctx, s, "app/mail", "mk-1", 2) },
		func() error {
			return storetest.Err(s.Put(ctx, "app/large", []byte(strings.Repeat("large ", 3000)), &store.PutOptions{Description: &text, Tags: map[string]string{"team": "red"}}))
		},
		func() error { return putMany(ctx, s, "app/deleted", "mk-2", 2) },
		func() error { return putMany(ctx, s, "app/due", "mk-1", 2) },
		func() error { return storetest.Err(s.Delete(ctx, "app/deleted", 30*24*time.Hour)) },
		func() error { return storetest.Err(s.Delete(ctx, "app/due", 7*24*time.Hour)) },
		func() error { return storetest.Err(s.ScheduleKeyDeletion(ctx, "due", 7*24*time.Hour)) },
		s.Close,
	} {
		storetest.OK(t, step())
	}
	return readFiles(t, folder)
}

func putMany(ctx context.Context, s *store.Store, name, key string, n int) error {
	for i := range n {
		if _, err := s.Put(ctx, name, fmt.Appendf(nil, "%s value %d", name, i+1), &store.PutOptions{Key: key}); err != nil {
			return err
		}
	}
	return nil
}

// dump tells all that a caller can learn of a store, a line a fact. Damage is an
// error.
func dump(ctx context.Context, s *store.Store) ([]string, error) { return dumpAll(ctx, s, false) }

// dumpAll does, and takes what is damaged for a fact too if that is expected.
func dumpAll(ctx context.Context, s *store.Store, damaged bool) ([]string, error) {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	keys, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		say("key %s is %s, primary %d, default %v", k.Name, k.State, k.PrimaryVersion, k.Default)
		for _, v := range k.Versions {
			say("key %s version %d is %s", k.Name, v.Version, v.State)
		}
	}
	for _, deleted := range []bool{false, true} {
		list, err := s.List(ctx, store.ListOptions{Deleted: deleted})
		if err != nil {
			return nil, err
		}
		for _, sec := range list {
			info, err := s.Show(ctx, sec.Name)
			if err != nil {
				return nil, err
			}
			if err := dumpSecret(ctx, s, info, deleted, damaged, say); err != nil {
				return nil, err
			}
		}
	}
	slots, err := s.Slots(ctx)
	for _, sl := range slots {
		say("slot %s %q", sl.Kind, sl.Label)
	}
	slices.Sort(lines)
	return lines, err
}

func dumpSecret(ctx context.Context, s *store.Store, info *store.SecretInfo, deleted, damaged bool, say func(string, ...any)) error {
	say("%s under %s, current %d, deleted %v, %q, %v", info.Name, info.ConfiguredKey, info.CurrentVersion, deleted, info.Description, info.Tags)
	for _, v := range info.Versions {
		say("%s version %d is wrapped by %s version %d", info.Name, v.Version, v.EffectiveKey, v.EffectiveKeyVersion)
		for _, l := range v.Labels {
			say("%s %s is %d", info.Name, l, v.Version)
		}
		if deleted {
			continue
		}
		value, err := s.Get(ctx, info.Name, store.Version(v.Version))
		if errors.Is(err, store.ErrKeyUnavailable) {
			say("%s version %d is unavailable", info.Name, v.Version)
			continue
		}
		if damaged && errors.Is(err, store.ErrDamaged) {
			say("%s version %d is damaged", info.Name, v.Version)
			continue
		}
		if err != nil {
			return err
		}
		say("%s version %d is %q", info.Name, v.Version, value.Bytes())
	}
	return nil
}

var errFound = errors.New("verify found")

// checked opens the store in a folder, verifies all of it and dumps it.
func checked(ctx context.Context, folder string) ([]string, error) {
	if _, err := os.Lstat(filepath.Join(folder, fileName)); errors.Is(err, os.ErrNotExist) {
		return []string{"no store"}, nil
	}
	s, err := openIn(ctx, folder)
	if errors.Is(err, store.ErrNotAStore) {
		return []string{"a file that is no store"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("it does not open: %w", err)
	}
	defer s.Close()
	report, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if !report.OK {
		return nil, fmt.Errorf("%w: %+v", errFound, report.Failures)
	}
	if _, err := s.VerifyAudit(ctx); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return dump(ctx, s)
}
