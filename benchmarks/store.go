package benchmarks

import (
	"context"
	"database/sql"
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

func fill(ctx context.Context, s *store.Store, from, n int, value []byte) error {
	for at := from; at < from+n; at += 1000 {
		err := s.Update(ctx, func(tx *sql.Tx) error {
			for i := at; i < min(at+1000, from+n); i++ {
				if _, err := s.PutTx(ctx, tx, secretName(i), value, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
