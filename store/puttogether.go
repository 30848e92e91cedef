package store

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"sync/atomic"
)

// putQueue is the puts that wait for the write lock. Whoever gets the lock
// writes all of them in one transaction: what makes a write durable, which is
// most of what a put costs, is paid once for all of them. One that waits for
// nobody is written alone and at once.
type putQueue struct {
	mu      sync.Mutex
	waiting []*waitingPut
}

type waitingPut struct {
	put
	ctx  context.Context
	done chan struct{} // closed when res and err are final
	res  PutResult
	err  error
}

// maxTogether is how many bytes of values are written in one transaction, so
// that many large ones do not hold the lock, and memory, for long.
const maxTogether = 4 << 20

func (q *putQueue) add(w ...*waitingPut) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w...)
}

// withdraw takes a put back, unless somebody is writing it.
func (q *putQueue) withdraw(w *waitingPut) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.waiting)
	q.waiting = slices.DeleteFunc(q.waiting, func(o *waitingPut) bool { return o == w })
	return len(q.waiting) < n
}

// take takes the first puts out of the queue.
func (q *putQueue) take() []*waitingPut {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.waiting) && (n == 0 || size+len(q.waiting[n].value) <= maxTogether) {
		size += len(q.waiting[n].value)
		n++
	}
	taken := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return taken
}

// putTogether queues a put and returns when it is written, by this goroutine or
// by another's that had the lock.
func (s *Store) putTogether(ctx context.Context, p put) (PutResult, error) {
	if err := ctx.Err(); err != nil {
		return PutResult{}, err
	}
	w := &waitingPut{put: p, ctx: ctx, done: make(chan struct{})}
	s.puts.add(w)
	cancelled := ctx.Done()
	for {
		select {
		case <-w.done:
			return w.res, w.err
		case s.writeLock <- struct{}{}:
			s.leadPuts(w)
		case <-cancelled:
			if s.puts.withdraw(w) {
				return PutResult{}, ctx.Err()
			}
			cancelled = nil // it is being written, and what has begun is finished
		}
	}
}

// leadPuts writes the first puts of the queue, unless own was written meanwhile,
// and gives the lock back. If the host's code panics in one of them, those that
// are not written go back into the queue, for their own callers.
func (s *Store) leadPuts(own *waitingPut) {
	defer func() { <-s.writeLock }()
	select {
	case <-own.done:
		return
	default:
	}
	left := s.puts.take()
	defer func() {
		s.puts.add(slices.DeleteFunc(left, func(w *waitingPut) bool { return w == own })...)
	}()
	if len(left) > 1 && s.writePuts(left) {
		finish(left...)
		left = nil
	}
	for len(left) > 0 {
		left[0].err = s.writeOne(left[0])
		finish(left[0])
		left = left[1:]
	}
}

func finish(puts ...*waitingPut) {
	for _, w := range puts {
		close(w.done)
	}
}

// writeOne writes a put in a transaction of its own.
func (s *Store) writeOne(w *waitingPut) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return s.withLock(w.ctx, func(q querier, conn *sql.Conn) error {
		return s.immediately(w.ctx, q, conn, func(q querier) error {
			t := s.newTx(w.ctx, q)
			if err := t.begin(); err != nil {
				return err
			}
			var err error
			if w.res, err = t.put(w.put); err != nil {
				return err
			}
			return t.finish()
		})
	})
}

// writePuts writes all puts in one transaction and reports whether it did. One
// that is refused before it wrote anything has its error and does not concern
// the others. If anything else fails nothing is written, and each is tried by
// itself.
func (s *Store) writePuts(group []*waitingPut) bool {
	ctx, stop := anyOf(group)
	defer stop()
	err := s.withLock(ctx, func(q querier, conn *sql.Conn) error {
		return s.immediately(ctx, q, conn, func(q querier) error {
			t := s.newTx(ctx, q)
			if err := t.begin(); err != nil {
				return err
			}
			for _, w := range group {
				if err := t.putOneOf(w); err != nil {
					return err
				}
			}
			return t.finish()
		})
	})
	return err == nil
}

// putOneOf writes one put of several. Its error is the transaction's.
func (t *tx) putOneOf(w *waitingPut) error {
	if w.err = w.ctx.Err(); w.err != nil {
		return nil
	}
	plan, err := t.planPut(w.put)
	w.res, w.err = plan.res, sqlError(err)
	if err != nil || plan.res.Replayed {
		return nil
	}
	w.res, err = t.writePut(plan)
	return err
}

// anyOf returns a context that is cancelled when those of all puts are.
func anyOf(group []*waitingPut) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(group[0].ctx))
	var left atomic.Int64
	left.Store(int64(len(group)))
	stops := make([]func() bool, 0, len(group))
	for _, w := range group {
		stops = append(stops, context.AfterFunc(w.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		}))
	}
	return ctx, func() {
		for _, s := range stops {
			s()
		}
		cancel()
	}
}
