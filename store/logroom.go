package store

import "sync"

// logRoom is how many bytes of envelopes are committed while something is read.
// SQLite begins its write-ahead log anew only when nobody reads an older state:
// a rotation that reads whenever it commits would let the log grow to the size
// of all that it writes.
const logRoom = 4 << 20

// logGate lets a rotation read and write side by side for as long as logRoom
// allows.
type logGate struct {
	read    sync.Mutex // held while something is read
	written int        // since the last commit during which nothing was; one goroutine writes
}

func (g *logGate) reading(read func() error) error {
	g.read.Lock()
	defer g.read.Unlock()
	return read()
}

// writing commits so many bytes.
func (g *logGate) writing(size int, write func() error) error {
	if g.written += size; g.written >= logRoom {
		g.read.Lock()
		defer g.read.Unlock()
		g.written = 0
		return write()
	}
	err := write()
	if g.read.TryLock() {
		g.read.Unlock()
		g.written = 0
	}
	return err
}
