package store

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"time"
)

// readers are the store's own connections that only read, at most one a core.
// Which one came back last is lent first: what it has read is in its cache and
// the processor's, and one that is never needed is never connected.
type readers struct {
	db       *sql.DB
	settings []profile
	lent     chan struct{} // has one for each that is lent

	mu   sync.Mutex
	idle []*pinned
}

func openReaders(path string, busy time.Duration) (*readers, error) {
	n := runtime.GOMAXPROCS(0)
	settings := connProfile(busy, false, true)
	db, err := openPool(path, n, settings)
	if err != nil {
		return nil, err
	}
	return &readers{db: db, settings: settings, lent: make(chan struct{}, n)}, nil
}

// take returns a reader, for whom there is room in r.lent.
func (r *readers) take(ctx context.Context) (*pinned, error) {
	r.mu.Lock()
	if last := len(r.idle) - 1; last >= 0 {
		defer r.mu.Unlock()
		p := r.idle[last]
		r.idle = r.idle[:last]
		return p, nil
	}
	r.mu.Unlock()
	p, err := pin(ctx, r.db)
	if err != nil {
		return nil, err
	}
	if err := checkProfile(ctx, p, r.settings); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (r *readers) giveBack(p *pinned) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, p)
}

// close waits for the readers that are lent.
func (r *readers) close() error {
	for range cap(r.lent) {
		r.lent <- struct{}{}
	}
	for _, p := range r.idle {
		p.close()
	}
	return r.db.Close()
}
