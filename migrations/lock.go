package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lockSuffix is added to a database's path for the name of its lock file.
const lockSuffix = ".migrate-lock"

var errHeld = errors.New("lock is held")

// lock takes the migration lock of the database at path, waiting up to wait for
// others to release it. A database in memory, path "", has none.
//
// The lock spares processes that start at once a queue inside SQLite, where the
// busy timeout is the caller's and may be zero. That only one of them migrates
// rests on the write transaction, which looks at the version again.
func lock(ctx context.Context, path string, wait time.Duration) (unlock func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	deadline := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		unlock, err := tryLock(path + lockSuffix)
		if !errors.Is(err, errHeld) {
			return unlock, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w: another process has been migrating it for %v (lock file %q)", ErrBusy, wait, path+lockSuffix)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the migration lock %q: %w", path+lockSuffix, ctx.Err())
		case <-time.After(pause):
		}
	}
}
