package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/reseal/reseal/crypto"
)

// nextRoot is a root key that was read back from its slots' rows.
type nextRoot struct {
	id    crypto.ID
	key   *crypto.Key
	slots []slot
}

// addRoot is phase one: a new root key, its slots and wraps beside the old ones.
// The new key is only in the file afterwards.
func (s *Store) addRoot(ctx context.Context, p *rootPlan) error {
	next := nextRoot{id: crypto.NewID(), key: crypto.NewKey()}
	defer next.key.Clear()
	for _, old := range p.kept {
		if err := ctx.Err(); err != nil {
			return err
		}
		sl := slot{id: old.id, rootID: next.id, label: old.label, createdAt: old.createdAt}
		sl, err := newSlot(sl, p.creds[old.id], s.keys.storeID, next.key, s.opts.KDF)
		if err != nil {
			return err
		}
		next.slots = append(next.slots, sl)
	}
	return s.write(ctx, func(t *tx) error { return t.addRoot(p, next) })
}

func (t *tx) addRoot(p *rootPlan, next nextRoot) error {
	if err := t.unmoved(p); err != nil {
		return err
	}
	if err := t.stable(); err != nil {
		return err
	}
	if err := t.insertRoot(next.id, next.key); err != nil {
		return err
	}
	for _, sl := range next.slots {
		if err := t.insertSlot(sl); err != nil {
			return err
		}
	}
	n, err := t.wrapMasterKeys(next)
	if err != nil {
		return err
	}
	t.state.nextRootID = next.id[:]
	t.audit(event{action: "root-rotate-begin", detail: map[string]any{
		"from_root": p.rootID.String(), "to_root": next.id.String(), "slots": len(next.slots), "dropped_slots": len(p.dropped), "master_key_versions": n,
		detailWraps: slotMarks(append(slices.Clone(p.kept), p.dropped...)),
	}})
	return nil
}

// unmoved makes sure that root key and slots are what the plan was made from.
func (t *tx) unmoved(p *rootPlan) error {
	slots, err := loadSlots(t.ctx, t.q, t.state.rootID)
	if err != nil {
		return err
	}
	if t.state.rootID != p.rootID || !sameSlots(slots, p.planned()) {
		return &Error{Op: opRotateRoot, Err: ErrBusy, Detail: "the root key or its unseal slots were changed by somebody else meanwhile", Remedy: "reseal unseal list"}
	}
	return nil
}

// abandonRoot removes the next root key of an unfinished rotation, if there is
// one.
func (t *tx) abandonRoot() error {
	if len(t.state.nextRootID) == 0 {
		return nil
	}
	t.audit(event{action: "root-rotate-abandon", detail: map[string]any{"to_root": fmt.Sprintf("%x", t.state.nextRootID)}})
	id := t.state.nextRootID
	t.state.nextRootID = nil
	return t.deleteRoot(id)
}

// deleteRoot deletes a root key that is not the current one, with its slots and
// wraps. The schema keeps a master key version's only wrap.
func (t *tx) deleteRoot(id []byte) error {
	for _, query := range []string{
		`DELETE FROM reseal_unseal_slots WHERE root_id = ?`,
		`DELETE FROM reseal_master_key_wraps WHERE root_id = ?`,
		`DELETE FROM reseal_root_keys WHERE root_id = ?`,
	} {
		if _, err := t.exec(query, id); err != nil {
			return err
		}
	}
	return nil
}

// wrapMasterKeys wraps every master key version that is not destroyed under the
// next root key too, and returns how many.
func (t *tx) wrapMasterKeys(next nextRoot) (int, error) {
	n := 0
	err := t.eachMasterKeyVersion(func(k *masterKey, v keyVersion) error {
		n++
		return t.wrapVersion(k, v, next)
	})
	return n, err
}

// eachMasterKeyVersion calls fn for those that are not destroyed. A key whose
// record was altered stops it: which of its versions count is not certain then.
func (t *tx) eachMasterKeyVersion(fn func(*masterKey, keyVersion) error) error {
	keys, err := loadAllKeys(t.ctx, t.q)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := t.s.keys.checkKey(k); err != nil {
			return err
		}
		for _, v := range k.versions {
			if v.destroyedAt != 0 {
				continue
			}
			if err := fn(k, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) wrapVersion(k *masterKey, v keyVersion, next nextRoot) error {
	ring, from := t.s.keys, t.state.rootID
	old, err := t.wrapUnder(k, v, from)
	if err != nil {
		return err
	}
	wrapped, err := crypto.Rewrap(nil, ring.roots.key(from), next.key, old,
		crypto.AppendMasterContext(nil, ring.storeID, from, k.id, v.number),
		crypto.AppendMasterContext(nil, ring.storeID, next.id, k.id, v.number))
	if err != nil {
		return ring.wrapError(k, v, err)
	}
	_, err = t.exec(`
		INSERT INTO reseal_master_key_wraps (master_key_version, root_id, wrapped)
		VALUES (?, ?, ?)`, v.row, next.id[:], wrapped)
	return err
}

// wrapUnder reads the wrap of a master key version under one root key.
func (t *tx) wrapUnder(k *masterKey, v keyVersion, root crypto.ID) ([]byte, error) {
	var wrapped []byte
	err := t.queryRow(`
		SELECT COALESCE((
			SELECT wrapped
			FROM reseal_master_key_wraps
			WHERE master_key_version = ? AND root_id = ?), x'')`, v.row, root[:]).Scan(&wrapped)
	if err == nil && len(wrapped) == 0 {
		err = missingWrap(k, v, false)
	}
	return wrapped, err
}

// provedRoot reads the next root key's slots back from their rows and opens each
// with its credential. That each gives the same key is proved by the wrap of the
// integrity key, which commits to the root key that opens it.
func (s *Store) provedRoot(ctx context.Context, p *rootPlan) (nextRoot, error) {
	var next nextRoot
	var wrapped []byte
	var st state
	err := s.snapshot(ctx, func(q querier) (err error) {
		if st, err = loadState(ctx, q); err != nil {
			return err
		}
		if len(st.nextRootID) == 0 {
			return &Error{Op: opRotateRoot, Err: ErrBusy, Detail: "somebody else ended the rotation meanwhile", Remedy: "reseal unseal list"}
		}
		copy(next.id[:], st.nextRootID)
		if next.slots, err = loadSlots(ctx, q, next.id); err != nil {
			return err
		}
		wrapped, err = loadIntegrityWrap(ctx, q, next.id)
		return err
	})
	if err != nil {
		return next, err
	}
	if !slices.EqualFunc(next.slots, p.kept, func(a, b slot) bool { return a.id == b.id }) {
		return next, damaged("the unseal slots of the new root key are not those of the old one")
	}
	for _, sl := range next.slots {
		root, err := s.openSlot(ctx, sl, p.creds[sl.id])
		if err == nil {
			err = s.proveIntegrity(wrapped, next.id, root)
		}
		if next.key == nil {
			next.key = root
		} else if root != nil {
			root.Clear()
		}
		if err != nil {
			next.clear()
			return next, err
		}
	}
	return next, nil
}

func (n *nextRoot) clear() {
	if n.key != nil {
		n.key.Clear()
	}
}

// proveIntegrity makes sure that root gives the store's integrity key.
func (s *Store) proveIntegrity(wrapped []byte, rootID crypto.ID, root *crypto.Key) error {
	key, err := openIntegrity(wrapped, s.keys.storeID, rootID, root)
	if err != nil {
		return err
	}
	defer key.Clear()
	if !key.Equal(s.keys.integrity) {
		return damaged("the new root key gives another integrity key")
	}
	return nil
}

// switchRoot is phase two: the next root key becomes the current one, and the
// old one goes with its slots and wraps. It returns how many master key versions
// there are.
func (s *Store) switchRoot(ctx context.Context, p *rootPlan, next nextRoot) (n int, err error) {
	held := false
	err = s.write(ctx, func(t *tx) error {
		if n, err = t.switchRoot(p, next); err != nil {
			return err
		}
		// Before the commit, so that nobody in this process meets a root key
		// that it does not hold.
		s.keys.roots.add(next.id, next.key)
		held = true
		return nil
	})
	if !held {
		next.clear()
	}
	return n, err
}

func (t *tx) switchRoot(p *rootPlan, next nextRoot) (int, error) {
	if err := t.unmoved(p); err != nil {
		return 0, err
	}
	slots, err := loadSlots(t.ctx, t.q, next.id)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(t.state.nextRootID, next.id[:]) || !sameSlots(slots, next.slots) {
		return 0, &Error{Op: opRotateRoot, Err: ErrBusy, Detail: "the new root key or its slots were changed by somebody else meanwhile", Remedy: "reseal unseal list"}
	}
	n := 0
	if err := t.eachMasterKeyVersion(func(k *masterKey, v keyVersion) error {
		n++
		return t.proveVersion(k, v, next)
	}); err != nil {
		return 0, err
	}
	t.state.rootID, t.state.nextRootID = next.id, nil
	if err := t.saveState(); err != nil { // the schema guards what is current
		return 0, err
	}
	t.audit(event{action: "root-rotate", detail: map[string]any{
		"from_root": p.rootID.String(), "to_root": next.id.String(), "slots": len(next.slots), "dropped_slots": len(p.dropped), "master_key_versions": n,
		detailWraps: slotMarks(append(slices.Clone(p.kept), p.dropped...)),
	}})
	return n, t.deleteRoot(p.rootID[:])
}

// proveVersion makes sure that the wraps of a master key version under the old
// and the next root key, as they are in the file, give the same key.
func (t *tx) proveVersion(k *masterKey, v keyVersion, next nextRoot) error {
	old, err := t.openUnder(k, v, t.state.rootID, t.s.keys.roots.key(t.state.rootID))
	if err != nil {
		return err
	}
	defer old.Clear()
	moved, err := t.openUnder(k, v, next.id, next.key)
	if err != nil {
		return err
	}
	defer moved.Clear()
	if !old.Equal(moved) {
		return &Error{Op: opRotateRoot, Key: k.name, KeyState: k.versionState(v), Err: ErrDamaged,
			Detail: fmt.Sprintf("master key version %d is another one under the new root key", v.number)}
	}
	return nil
}

func (t *tx) openUnder(k *masterKey, v keyVersion, rootID crypto.ID, root *crypto.Key) (*crypto.Key, error) {
	wrapped, err := t.wrapUnder(k, v, rootID)
	if err != nil {
		return nil, err
	}
	key, err := root.Unwrap(wrapped, crypto.AppendMasterContext(nil, t.s.keys.storeID, rootID, k.id, v.number))
	if err != nil {
		return nil, t.s.keys.wrapError(k, v, err)
	}
	return key, nil
}
