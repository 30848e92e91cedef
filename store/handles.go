package store

import (
	"sync"
	"sync/atomic"
)

// handles are the open handles of a store, and how often it may have committed.
type handles struct {
	committed atomic.Uint64

	mu     sync.Mutex
	open   map[*Handle]bool
	closed bool
}

// add takes a handle in, unless the store is closed.
func (hs *handles) add(h *Handle) bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.closed {
		return false
	}
	if hs.open == nil {
		hs.open = map[*Handle]bool{}
	}
	hs.open[h] = true
	return true
}

func (hs *handles) remove(h *Handle) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	delete(hs.open, h)
}

// wake makes every handle look again, after a transaction of the store's own.
func (hs *handles) wake() {
	hs.committed.Add(1)
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for h := range hs.open {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// close closes every handle, and lets no more in.
func (hs *handles) close() {
	hs.mu.Lock()
	hs.closed = true
	open := hs.open
	hs.open = nil
	hs.mu.Unlock()
	for h := range open {
		h.Close()
	}
}
