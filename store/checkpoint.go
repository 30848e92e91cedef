package store

import (
	"context"
	"database/sql"
	"time"
)

// truncateLog moves the write-ahead log into the file and empties it, so that
// what was retired is in neither; with secure_delete the file's own copy was
// overwritten before. It reports whether that was done: a reader of an older
// snapshot prevents it, and in a host's database it is the host's to do. Writers
// are not made to wait for readers.
func (s *Store) truncateLog(ctx context.Context) (done bool, err error) {
	if !s.own {
		return false, nil
	}
	for range 10 {
		err := s.onWriter(ctx, func(q querier, _ *sql.Conn) error {
			done, err = tryTruncateLog(context.WithoutCancel(ctx), q)
			return err
		})
		if done || err != nil {
			return done, err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false, nil
		}
	}
	return false, nil
}

// tryTruncateLog does not wait, on a connection without a busy timeout. That a
// reader prevents it is an answer in the row, not an error.
func tryTruncateLog(ctx context.Context, q querier) (done bool, err error) {
	var busy, pages, moved int64
	err = q.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	return busy == 0, err
}

// retired empties the log after something was retired, and says so in the
// program's log when it could not.
func (s *Store) retired(ctx context.Context, what string) bool {
	done, err := s.truncateLog(ctx)
	if !done {
		s.opts.Logger.Warn(what+" may remain in the database's log until it is checkpointed", "error", err)
	}
	return done
}
