package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// tx is one write transaction of the store: its own, or a savepoint in a
// caller's. It carries the time, the state row, and the events that commit
// with it.
type tx struct {
	q      querier
	s      *Store
	ctx    context.Context // without cancellation: statements are short, loops ask live
	live   context.Context
	now    int64 // Unix milliseconds
	state  state
	rows   rowSet
	events []event
	memo   memo
	// joined says that the transaction is the caller's and may still be rolled
	// back: nothing may be remembered from it.
	joined bool

	last        *lastWrite // what the writer knew when it last committed, or nil
	dataVersion int64      // of the file in this transaction; only where the writer may remember
	saved       state      // the state row as it is in the file
}

// write runs fn in an immediate transaction of the store's own and commits it
// if fn returns nil. Only one runs at a time in the process: puts and rotation
// batches queue here in turn, which SQLite's busy handler does not do fairly.
func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	if err := s.needUnsealed(); err != nil {
		return err
	}
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	_, err := s.writeLocked(ctx, fn)
	return err
}

// writeLocked is write for the holder of writeLock. begun says that it had the
// file's lock too.
func (s *Store) writeLocked(ctx context.Context, fn func(*tx) error) (begun bool, err error) {
	last := s.last
	err = s.withLock(ctx, func(q querier, conn *sql.Conn) error {
		var t *tx
		err := s.immediately(ctx, q, conn, func(q querier) error {
			begun, t = true, s.newTx(ctx, q)
			t.last = last
			if err := t.begin(); err != nil {
				return err
			}
			if err := fn(t); err != nil {
				return err
			}
			return t.finish()
		})
		if err == nil {
			s.last = t.asLast()
		}
		return err
	})
	return begun, err
}

// exclusively runs fn between BEGIN IMMEDIATE and COMMIT on the writer's
// connection.
func (s *Store) exclusively(ctx context.Context, fn func(querier) error) error {
	return s.onWriter(ctx, func(q querier, conn *sql.Conn) error { return s.immediately(ctx, q, conn, fn) })
}

// immediately runs fn between BEGIN IMMEDIATE and COMMIT. ctx ends the wait for
// another process's lock.
func (s *Store) immediately(ctx context.Context, q querier, conn *sql.Conn, fn func(querier) error) error {
	if !s.own {
		return s.inHost(ctx, conn, fn)
	}
	free := context.WithoutCancel(ctx)
	if err := s.untilFree(ctx, func() error { _, err := q.ExecContext(ctx, "BEGIN IMMEDIATE"); return err }); err != nil {
		q.ExecContext(free, "ROLLBACK") // cancelled just after it began
		return err
	}
	committed := false
	defer func() { // also when the host's clock or logger panics
		if committed {
			return
		}
		q.ExecContext(free, "ROLLBACK") // a full disk or an I/O error may have done so already
	}()
	if err := s.guarded(q, fn); err != nil {
		return err
	}
	_, err := q.ExecContext(free, "COMMIT")
	committed = err == nil
	return err
}

// takeLock changes nothing, but it is a write.
const takeLock = `UPDATE reseal_state SET id = id WHERE 0`

// inHost is immediately on a connection of the host's. The host's pool says how a
// transaction begins; if it is deferred, its first statement gets the lock, and
// waits for it as BEGIN IMMEDIATE would.
func (s *Store) inHost(ctx context.Context, conn *sql.Conn, fn func(querier) error) error {
	sqlTx, end, err := beginUpdate(ctx, conn)
	if err != nil {
		return err
	}
	defer func() { // also when the host's clock or logger panics
		// A full disk or an I/O error may have rolled back already.
		if err := end(); err != nil && !errors.Is(err, sql.ErrTxDone) {
			discard(conn)
		}
	}()
	q := s.prepared.in(sqlTx)
	if _, err := q.ExecContext(ctx, takeLock); err != nil {
		return err
	}
	if err := s.guarded(q, fn); err != nil {
		return err
	}
	return sqlTx.Commit()
}

// tryEvery is how often a writer tries to get the file's lock from another
// process. SQLite's own handler soon tries ten times a second only, and misses
// the pauses of a process that writes batch after batch.
const tryEvery = time.Millisecond

// untilFree begins a transaction as soon as no other process writes, for as long
// as ctx lives and BusyTimeout lasts. On a host's connection it is SQLite that
// waits, for as long as the host has said.
func (s *Store) untilFree(ctx context.Context, begin func() error) error {
	for began := time.Now(); ; {
		err := begin()
		if !s.own || !isBusy(err) || time.Since(began) >= s.opts.BusyTimeout {
			return err
		}
		select {
		case <-time.After(tryEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// guarded runs fn with secure_delete on, for connections that are not the
// store's own and may have it off.
func (s *Store) guarded(q querier, fn func(querier) error) (err error) {
	if s.own && q == querier(s.writer) {
		return fn(q)
	}
	restore, err := secureDelete(q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return fn(q)
}

// secureDelete turns secure_delete on, which SQLite allows inside a
// transaction, and returns what puts it back.
func secureDelete(q querier) (restore func() error, err error) {
	ctx := context.Background()
	was, err := pragma(ctx, q, "secure_delete")
	if err != nil {
		return nil, err
	}
	if was == "1" {
		return func() error { return nil }, nil
	}
	if _, err := pragma(ctx, q, "secure_delete = 1"); err != nil {
		return nil, err
	}
	if was == "2" {
		was = "FAST" // a number other than 0 is 1
	}
	return func() error {
		_, err := pragma(ctx, q, "secure_delete = "+was)
		return err
	}, nil
}

// onWriter lends the writer's connection.
func (s *Store) onWriter(ctx context.Context, fn func(querier, *sql.Conn) error) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	return s.withLock(ctx, fn)
}

func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.writeLock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) unlock() { <-s.writeLock }

// withLock lends the writer's connection to the holder of writeLock. What was
// remembered of the last write is void then: fn may change anything.
func (s *Store) withLock(ctx context.Context, fn func(querier, *sql.Conn) error) error {
	s.last = nil
	if s.closed.Load() {
		return ErrClosed
	}
	if err := s.sameFile(0); err != nil {
		return err
	}
	defer s.handles.wake()
	if s.own {
		return sqlError(fn(s.writer, s.writer.Conn))
	}
	c, err := s.db.Conn(ctx)
	if err != nil {
		return sqlError(err)
	}
	defer c.Close()
	return sqlError(fn(c, c))
}

// join runs fn in a savepoint of the caller's transaction. It takes no lock,
// no other connection, and remembers nothing; if fn fails, the caller's
// transaction is as it was before.
func (s *Store) join(ctx context.Context, caller *sql.Tx, fn func(*tx) error) error {
	if err := s.needUnsealed(); err != nil {
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var q querier
	if caller == s.updating.Load() {
		q = s.writer // the same connection, with its prepared statements
	} else {
		q = s.inCaller(caller)
	}
	t := s.newTx(ctx, q)
	t.joined = true
	if err := t.savepoint(); err != nil {
		return sqlError(err)
	}
	err := s.guarded(t.q, func(querier) error {
		if err := t.begin(); err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		return t.finish()
	})
	if err != nil {
		if fromSQLite(err) {
			s.joined.Store(nil) // a statement may not have been prepared
		}
		_, rerr := t.exec("ROLLBACK TO reseal")
		if rerr != nil {
			// A full disk or an I/O error has rolled back the whole transaction.
			return sqlError(errors.Join(err, fmt.Errorf("the caller's transaction was rolled back: %w", rerr)))
		}
	}
	if _, rerr := t.exec("RELEASE reseal"); rerr != nil && err == nil {
		err = rerr
	}
	return sqlError(err)
}

const beginTx = "BEGIN"

// savepoint begins the store's part of the caller's transaction. SQLite may
// have ended that transaction, when the disk is full for one, without
// database/sql knowing: a savepoint would then be a transaction of its own, and
// its release a commit that the caller cannot take back.
func (t *tx) savepoint() error {
	_, err := t.exec(beginTx)
	if p, ok := t.q.(*preparing); ok && err != nil && !fromSQLite(err) {
		t.q = p.querier // of another pool than the store's, where nothing is prepared
		_, err = t.exec(beginTx)
	}
	if err == nil {
		_, err = t.exec("ROLLBACK")
		return errors.Join(fmt.Errorf("the caller's transaction has ended: %w", sql.ErrTxDone), err)
	}
	_, err = t.exec("SAVEPOINT reseal")
	return err
}

func (s *Store) newTx(ctx context.Context, q querier) *tx {
	return &tx{q: q, s: s, ctx: context.WithoutCancel(ctx), live: ctx, now: s.now()}
}

// begin checks the schema, and reads and checks the state row and the set of
// rows, unless nobody has changed the file since the writer last did.
func (t *tx) begin() error {
	if same, err := t.sameAsLast(); same || err != nil {
		return err
	}
	if err := t.sameSchema(); err != nil {
		return err
	}
	if err := t.beginState(); err != nil {
		return err
	}
	return t.beginRows()
}

func (t *tx) beginState() error {
	st, err := loadState(t.ctx, t.q)
	if err != nil {
		return err
	}
	t.state, t.saved = st, st
	return t.s.keys.checkState(&st)
}

// finish writes the events and the state row. A transaction without events
// changed nothing and writes nothing.
func (t *tx) finish() error {
	if len(t.events) == 0 {
		return nil
	}
	if err := t.writeEvents(); err != nil {
		return err
	}
	t.state.generation++
	return t.saveState()
}

func (t *tx) exec(query string, args ...any) (sql.Result, error) {
	return t.q.ExecContext(t.ctx, query, args...)
}

// execOne runs a statement that must change exactly one row.
func (t *tx) execOne(query string, args ...any) error {
	res, err := t.exec(query, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return damaged("a statement changed %d rows instead of 1", n)
	}
	return nil
}

func (t *tx) queryRow(query string, args ...any) *sql.Row {
	return t.q.QueryRowContext(t.ctx, query, args...)
}

// time returns the transaction's time.
func (t *tx) time() time.Time { return fromMillis(t.now) }

// read lends a connection for statements that each see their own snapshot.
func (s *Store) read(ctx context.Context, fn func(querier) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	if !s.own {
		err := sqlError(fn(s.prepared.pool(s.db)))
		if err != nil && s.closed.Load() {
			return ErrClosed // by another goroutine, with the statements that are prepared
		}
		return err
	}
	if err := s.sameFile(time.Second); err != nil {
		return err
	}
	select {
	case s.readers.lent <- struct{}{}:
		defer func() { <-s.readers.lent }()
		p, err := s.readers.take(ctx)
		if err != nil {
			return sqlError(err)
		}
		defer s.readers.giveBack(p)
		return sqlError(fn(p))
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return ErrClosed
	}
}

// snapshot runs fn in a read transaction: its statements see one state of the
// file. It ends also when the host's code panics in fn: a reader that stayed in
// it would give values of that moment from then on.
func (s *Store) snapshot(ctx context.Context, fn func(querier) error) error {
	return s.read(ctx, func(q querier) (err error) {
		if !s.own {
			c, err := s.db.Conn(ctx)
			if err != nil {
				return err
			}
			defer c.Close()
			q = c
		}
		// Not cancelled: it waits for nothing, and a connection whose BEGIN was
		// reported as cancelled just after it took effect would stay in it.
		free := context.WithoutCancel(ctx)
		if _, err := q.ExecContext(free, "BEGIN"); err != nil {
			return err
		}
		defer func() {
			if _, rerr := q.ExecContext(free, "ROLLBACK"); rerr != nil && err == nil {
				err = rerr
			}
		}()
		return fn(q)
	})
}

// Update runs fn in one immediate transaction on the store's own file and
// commits it if fn returns nil: the verbs whose names end in Tx join it. When
// ctx is cancelled meanwhile, nothing is committed and the error is ctx's. A
// host that gave its own database to New begins its own transactions.
func (s *Store) Update(ctx context.Context, fn func(*sql.Tx) error) error {
	return s.onWriter(ctx, func(_ querier, conn *sql.Conn) error {
		var sqlTx *sql.Tx
		var end func() error
		err := s.untilFree(ctx, func() (err error) { sqlTx, end, err = beginUpdate(ctx, conn); return err })
		if err != nil {
			return err
		}
		defer end()
		if s.own {
			// Before the caller changes anything: what is found now the verbs need not
			// look for again, and what is wrong they tell. Where SQLite could not read,
			// there is no transaction any more.
			if err := s.newTx(ctx, s.writer).sameSchema(); cannotRead(err) {
				return err
			}
			s.updating.Store(sqlTx)
			defer s.updating.Store(nil)
		}
		if err := firstError(fn(sqlTx), ctx.Err()); err != nil {
			return err
		}
		return sqlTx.Commit()
	})
}

// beginUpdate begins a transaction that waits for the lock for as long as ctx
// lives, and that only its owner ends from then on. database/sql rolls a
// transaction back in the middle of whatever runs in it when the context that
// began it is cancelled, and the statements after that, on the same connection,
// would each commit by itself.
func beginUpdate(ctx context.Context, conn *sql.Conn) (sqlTx *sql.Tx, end func() error, err error) {
	begin, cancel := context.WithCancel(context.WithoutCancel(ctx))
	waiting := context.AfterFunc(ctx, cancel)
	sqlTx, err = conn.BeginTx(begin, nil)
	if err == nil && !waiting() {
		sqlTx.Rollback()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, nil, firstError(ctx.Err(), err)
	}
	return sqlTx, func() error { defer cancel(); return sqlTx.Rollback() }, nil
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
