package store_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func TestAnchorRefusesAnOlderCopy(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	s.MustPut(t, "a", "one", store.PutOptions{})
	before := filepath.Join(t.TempDir(), "before.db")
	must(s.Backup(ctx, before))(t)
	first := must(s.Anchor(ctx))(t)
	s.MustPut(t, "a", "two", store.PutOptions{})
	second := must(s.Anchor(ctx))(t)
	for _, a := range []store.Anchor{first, second} {
		storetest.OK(t, s.CheckAnchor(ctx, a))
	}

	open := func(a store.Anchor) error {
		old, err := store.Open(ctx, before, resealtest.Credential(), &store.Options{Anchor: &a})
		if err == nil {
			err = old.Close()
		}
		return err
	}
	wantError(t, open(second), store.ErrRolledBack)

	// An older copy that has been changed as often, and more often, since.
	old := must(store.Open(ctx, before, resealtest.Credential(), nil))(t)
	for i := range 4 {
		must(old.Put(ctx, "a", []byte{byte('0' + i)}, nil))(t)
		wantError(t, old.CheckAnchor(ctx, second), store.ErrRolledBack)
	}
	storetest.OK(t, old.Close())
	wantError(t, open(second), store.ErrRolledBack)

	other := resealtest.New(t, nil)
	wantError(t, other.CheckAnchor(ctx, first), store.ErrRolledBack)
	wantError(t, s.CheckAnchor(ctx, store.Anchor{}), store.ErrInvalid)
}

func TestReplacedFileIsNoticed(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced by a copy": func(path string) error {
			if err := copyFile(path, path+".copy"); err != nil {
				return err
			}
			return os.Rename(path+".copy", path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			path := filepath.Join(t.TempDir(), "reseal.db")
			s := must(store.Create(ctx, path, resealtest.Credential(), &store.Options{KDF: resealtest.KDF}))(t)
			defer s.Close()
			must(s.Put(ctx, "a", []byte("one"), nil))(t)
			storetest.OK(t, replace(path))
			wantError(t, storetest.Err(s.Put(ctx, "a", []byte("two"), nil)), store.ErrReplaced)
			wantError(t, s.Update(context.Background(), nil), store.ErrReplaced)
		})
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	_, err = io.Copy(out, in)
	return err
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
