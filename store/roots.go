package store

import (
	"slices"
	"sync/atomic"

	"github.com/reseal/reseal/crypto"
)

// roots is the root keys that a process holds: one, and after a rotation of its
// own the older ones too, for what began to read before. Every row names the
// root key that wrapped it, so that none is ever tried. It is safe for
// concurrent use.
type roots struct {
	held atomic.Pointer[[]heldRoot] // replaced, never changed
}

type heldRoot struct {
	id  crypto.ID
	key *crypto.Key
}

func (r *roots) all() []heldRoot {
	if p := r.held.Load(); p != nil {
		return *p
	}
	return nil
}

// key returns the root key of that id, or nil.
func (r *roots) key(id crypto.ID) *crypto.Key {
	for _, h := range r.all() {
		if h.id == id {
			return h.key
		}
	}
	return nil
}

func (r *roots) add(id crypto.ID, key *crypto.Key) {
	for {
		old := r.held.Load()
		held := append(slices.Clone(r.all()), heldRoot{id, key})
		if r.held.CompareAndSwap(old, &held) {
			return
		}
	}
}

func (r *roots) clear() {
	for _, h := range r.all() {
		h.key.Clear()
	}
}
