package faultvfs

import (
	"fmt"
	"slices"
	"sync"

	sqlite3 "modernc.org/sqlite/lib"
)

// Kind is a kind of call of SQLite to its file system.
type Kind int

// The kinds that can fail. Locks that are given back, and what SQLite only asks
// about the device, cannot.
const (
	Open Kind = iota
	Read
	Write
	Truncate
	Sync
	Size
	Delete
	Access
	Lock
	ShmMap
	ShmLock
	kinds
)

// String returns the kind's name.
func (k Kind) String() string {
	return [kinds]string{"open", "read", "write", "truncate", "sync", "size", "delete", "access", "lock", "shm map", "shm lock"}[k]
}

// How is the way in which a call fails.
type How int

// The ways to fail.
const (
	IOError How = iota // the disk does not answer
	Full               // there is no room
	Busy               // somebody else has the lock
	Short              // half is written, or nothing is there to read
	Lie                // nothing is done and the answer is that it was: what no software survives
	hows
)

// String returns the way's name.
func (h How) String() string {
	return [hows]string{"I/O error", "full disk", "busy", "short", "lie"}[h]
}

// codes is what SQLite is told, of the ways in which each kind can fail.
var codes = map[Kind]map[How]int32{
	Open:     {IOError: sqlite3.SQLITE_CANTOPEN},
	Read:     {IOError: sqlite3.SQLITE_IOERR_READ, Short: sqlite3.SQLITE_IOERR_SHORT_READ},
	Write:    {IOError: sqlite3.SQLITE_IOERR_WRITE, Full: sqlite3.SQLITE_FULL, Short: sqlite3.SQLITE_FULL, Lie: sqlite3.SQLITE_OK},
	Truncate: {IOError: sqlite3.SQLITE_IOERR_TRUNCATE, Lie: sqlite3.SQLITE_OK},
	Sync:     {IOError: sqlite3.SQLITE_IOERR_FSYNC, Lie: sqlite3.SQLITE_OK},
	Size:     {IOError: sqlite3.SQLITE_IOERR_FSTAT},
	Delete:   {IOError: sqlite3.SQLITE_IOERR_DELETE},
	Access:   {IOError: sqlite3.SQLITE_IOERR_ACCESS},
	Lock:     {IOError: sqlite3.SQLITE_IOERR_LOCK, Busy: sqlite3.SQLITE_BUSY},
	ShmMap:   {IOError: sqlite3.SQLITE_IOERR_SHMMAP, Full: sqlite3.SQLITE_IOERR_SHMSIZE},
	ShmLock:  {IOError: sqlite3.SQLITE_IOERR_SHMLOCK, Busy: sqlite3.SQLITE_BUSY},
}

// Hows returns the ways in which a kind of call can fail, without the lie.
func (k Kind) Hows() []How {
	var all []How
	for h := range codes[k] {
		if h != Lie {
			all = append(all, h)
		}
	}
	slices.Sort(all)
	return all
}

// Plan is a call that fails.
type Plan struct {
	At     int // which one, from 1
	How    How
	Sticky bool // and every later one that can fail in this way; if busy, of this kind
}

// String tells the plan.
func (p Plan) String() string {
	if p.Sticky {
		return fmt.Sprintf("%s at call %d and from then on", p.How, p.At)
	}
	return fmt.Sprintf("%s at call %d", p.How, p.At)
}

// verdict is what becomes of a call.
type verdict struct {
	fails bool
	code  int32
	part  float64 // of a write is done all the same
}

// gate decides on every call of the process.
var gate struct {
	sync.Mutex
	counting bool
	calls    []Kind
	plan     Plan // At 0: nothing fails
	first    Kind // of the call that failed first
	fired    int
}

func decide(k Kind) verdict {
	gate.Lock()
	defer gate.Unlock()
	if !gate.counting {
		return verdict{}
	}
	gate.calls = append(gate.calls, k)
	n, p := len(gate.calls), &gate.plan
	if p.At == 0 || n < p.At || n > p.At && !p.Sticky {
		return verdict{}
	}
	code, can := codes[k][p.How]
	if !can || p.How == Busy && gate.fired > 0 && k != gate.first {
		return verdict{}
	}
	if gate.fired++; gate.fired == 1 {
		gate.first = k
	}
	v := verdict{fails: true, code: code}
	if p.How == Short {
		v.part = 0.5
	}
	return v
}

func begin(p Plan) {
	gate.Lock()
	defer gate.Unlock()
	gate.counting, gate.calls, gate.plan, gate.fired = true, nil, p, 0
}

func end() (calls []Kind, fired int) {
	gate.Lock()
	defer gate.Unlock()
	gate.counting = false
	return gate.calls, gate.fired
}

// Count runs fn and returns the calls that it makes.
func Count(fn func()) []Kind {
	begin(Plan{})
	defer end()
	fn()
	calls, _ := end()
	return calls
}

// Inject runs fn while calls fail as planned, and returns how many did.
func Inject(p Plan, fn func()) int {
	begin(p)
	defer end()
	fn()
	_, fired := end()
	return fired
}
