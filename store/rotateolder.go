package store

import (
	"context"
	"time"
)

// RotateKeyOlder gives an enabled master key a new version if its primary is
// older than age, and returns the number of its primary and whether it is new.
// Of several processes that ask at once, one makes the version.
func (s *Store) RotateKeyOlder(ctx context.Context, name string, age time.Duration) (version uint64, rotated bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		k, err := t.keyByName(name)
		if err != nil {
			return err
		}
		v, ok := k.byNumber(k.primary)
		if ok && t.now-v.createdAt < age.Milliseconds() {
			version = v.number
			return nil
		}
		version, err = t.rotateKey(name)
		rotated = err == nil
		return err
	})
	return version, rotated, err
}
