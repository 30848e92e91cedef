package store

import (
	"context"
	"errors"
	"runtime"
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
	ctx   context.Context
	stage atomic.Int32
	done  chan struct{} // closed when res and err are final
	res   PutResult
	err   error
}

// The stages of a waiting put. Until somebody has the file's lock and writes it,
// its caller may withdraw it.
const (
	putWaits int32 = iota
	putWritten
	putWithdrawn
)

// claim makes the put its writer's, unless its caller has withdrawn it.
func (w *waitingPut) claim() bool {
	return w.stage.CompareAndSwap(putWaits, putWritten) || w.stage.Load() == putWritten
}

// maxTogether is how many bytes of values are written in one transaction, so
// that many large ones do not hold the lock, and memory, for long.
const maxTogether = 4 << 20

func (q *putQueue) add(w *waitingPut) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
}

// putBack puts those that were taken and not written back into the queue.
func (q *putQueue) putBack(puts []*waitingPut) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range puts {
		w.stage.CompareAndSwap(putWritten, putWaits)
		if w.stage.Load() == putWaits {
			q.waiting = append(q.waiting, w)
		}
	}
}

// drop takes a put out for good.
func (q *putQueue) drop(w *waitingPut) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.stage.Store(putWithdrawn)
	q.waiting = slices.DeleteFunc(q.waiting, func(o *waitingPut) bool { return o == w })
}

// withdraw takes a put back, unless somebody is writing it.
func (q *putQueue) withdraw(w *waitingPut) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.stage.CompareAndSwap(putWaits, putWithdrawn) {
		return false
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(o *waitingPut) bool { return o == w })
	return true
}

// gather lets the goroutines that can run do so for as long as that adds puts:
// those whose puts were just written often have the next at hand, and would come
// a moment too late to be written with the others.
func (q *putQueue) gather() {
	for had := -1; ; {
		q.mu.Lock()
		n := len(q.waiting)
		q.mu.Unlock()
		if n <= had {
			return
		}
		had = n
		runtime.Gosched()
	}
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
	defer s.unlock()
	select {
	case <-own.done:
		return
	default:
	}
	s.puts.gather()
	left, panics := s.puts.take(), true
	defer func() {
		if panics { // own's caller is told so, and nobody may write it later
			s.puts.drop(own)
		}
		s.puts.putBack(left)
	}()
	if len(left) > 1 {
		left = s.leadSeveral(own, left)
	}
	for len(left) > 0 {
		left[0].err = s.writeOne(left[0])
		finish(left[0])
		left = left[1:]
	}
	panics = false
}

// leadSeveral writes the puts in one transaction, and returns those that are
// left to be tried each by itself. If own's context ends before the transaction
// begins, the others go back into the queue. If it cannot begin, because the file
// is locked or closed, that is the error of each.
func (s *Store) leadSeveral(own *waitingPut, group []*waitingPut) (left []*waitingPut) {
	begun, err := s.writePuts(own.ctx, group)
	switch {
	case err == nil:
	case begun:
		return group
	case own.ctx.Err() != nil:
		if i := slices.Index(group, own); i >= 0 {
			group = slices.Delete(group, i, i+1)
			own.err = own.ctx.Err()
			finish(own)
		}
		s.puts.putBack(group)
		return nil
	default:
		for _, w := range group {
			w.err = err
		}
	}
	finish(group...)
	return nil
}

func finish(puts ...*waitingPut) {
	for _, w := range puts {
		close(w.done)
	}
}

// writeOne writes a put in a transaction of its own.
func (s *Store) writeOne(w *waitingPut) error {
	if err := w.ctx.Err(); err != nil || !w.claim() {
		return err
	}
	_, err := s.writeLocked(w.ctx, func(t *tx) (err error) {
		w.res, err = t.put(w.put)
		t.memo.holds = true
		return err
	})
	return err
}

// writePuts writes all puts in one transaction, which waits for the file's lock
// for as long as ctx lives. One that is refused before it wrote anything has its
// error and does not concern the others. If anything else fails nothing is
// written; begun says that the lock was had, and that each may be tried by itself.
func (s *Store) writePuts(ctx context.Context, group []*waitingPut) (begun bool, err error) {
	puts := make([]put, len(group))
	for i, w := range group {
		puts[i] = w.put
	}
	return s.writeLocked(ctx, func(t *tx) error {
		if err := t.readAhead(puts); err != nil {
			return err
		}
		for _, w := range group {
			if err := t.putOneOf(w); err != nil {
				return err
			}
		}
		t.memo.holds = true
		return nil
	})
}

// putOneOf writes one put of several. Its error is the transaction's.
func (t *tx) putOneOf(w *waitingPut) error {
	if !w.claim() {
		return nil
	}
	if w.err = w.ctx.Err(); w.err != nil {
		return nil
	}
	plan, err := t.planPut(w.put)
	if err != nil && !refusal(err) {
		return err
	}
	w.res, w.err = plan.res, err
	if err != nil || plan.res.Replayed {
		return nil
	}
	w.res, err = t.writePut(plan)
	t.memo.secrets[w.name] = plan.sec
	return err
}

// refusal reports whether an error is about what was to be done, and not about
// the transaction. An error of SQLite is never taken for one: where it cannot
// read a page it has rolled the transaction back, and each statement after that
// would be durable by itself.
func refusal(err error) bool {
	var e *Error
	return !fromSQLite(err) && (errors.As(err, &e) || errors.Is(err, ErrDamaged))
}
