package store

import (
	"context"
	"database/sql"
	"fmt"
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
	pages := fmt.Sprint(-readerPages(n))
	settings := append(connProfile(busy, false, true), profile{"cache_size", pages, pages})
	db, err := openPool(path, n, settings)
	if err != nil {
		return nil, err
	}
	return &readers{db: db, settings: settings, lent: make(chan struct{}, n)}, nil
}

// readerPages is how many KiB of pages each of n readers may keep. With SQLite's
// 2 MB a get of one of a million secrets reads seven pages of the file, with 5 MB
// those five that are the last of each tree. Together the readers keep at most
// 64 MB, or 2 MB each.
func readerPages(n int) int { return max(2000, min(5000, 64_000/n)) }

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
