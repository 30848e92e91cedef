package benchmarks

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/reseal/reseal/store"
)

// valueSize is the length of the values in stores.
const valueSize = 1 << 10

// rotatedKey is the master key under which benchmarks put their secrets.
const rotatedKey = "app"

func secretName(i int) string { return fmt.Sprintf("app/service-%03d/secret-%07d", i%100, i) }

// newStore makes an empty store in dir, with the key rotatedKey as the default.
func newStore(ctx context.Context, dir string) (*store.Store, error) {
	cred, err := store.NewKeyFile(filepath.Join(dir, "key"))
	if err != nil {
		return nil, err
	}
	s, err := store.Create(ctx, filepath.Join(dir, "reseal.db"), cred, nil)
	if err != nil {
		return nil, err
	}
	if err := s.CreateKey(ctx, rotatedKey); err != nil {
		return nil, err
	}
	return s, s.SetDefaultKey(ctx, rotatedKey)
}

// filledStore makes a store of n secrets with values of that length.
func filledStore(ctx context.Context, dir string, n, length int) (*store.Store, error) {
	s, err := newStore(ctx, dir)
	if err != nil {
		return nil, err
	}
	return s, fill(ctx, s, 0, n, make([]byte, length))
}

// fill puts n secrets, a few thousand in a transaction.
func fill(ctx context.Context, s *store.Store, from, n int, value []byte) error {
	for at := from; at < from+n; at += 2000 {
		if _, err := s.PutMany(ctx, items(at, min(2000, from+n-at), value)); err != nil {
			return err
		}
	}
	return nil
}

// items are n new secrets, all with the same value.
func items(from, n int, value []byte) []store.Item {
	out := make([]store.Item, n)
	for i := range out {
		out[i] = store.NewItem(secretName(from+i), value, nil)
	}
	return out
}
