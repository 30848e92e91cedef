package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/reseal/reseal/crypto"
)

// MaxSlots is how many unseal slots a root key may have.
const MaxSlots = 16

// minSlotPrefix is how many digits of a slot's id name it at least.
const minSlotPrefix = 6

// SlotInfo is an unseal slot: one way to obtain the root key.
type SlotInfo struct {
	ID        string // 32 hexadecimal digits
	Kind      string // "passphrase" or "key-file"
	Label     string
	KDF       string // how a passphrase becomes a key, with its costs; "" for a key file
	CreatedAt time.Time
	Unsealed  bool // this Store was unsealed with it
}

// Slots returns the unseal slots of the root key, oldest first; of a sealed
// store too.
func (s *Store) Slots(ctx context.Context) ([]SlotInfo, error) {
	var out []SlotInfo
	err := s.snapshot(ctx, func(q querier) error {
		st, err := loadState(ctx, q)
		if err != nil {
			return err
		}
		slots, err := loadSlots(ctx, q, st.rootID)
		out = s.slotInfos(slots)
		return err
	})
	return out, err
}

func (s *Store) slotInfos(slots []slot) []SlotInfo {
	var out []SlotInfo
	for _, sl := range slots {
		out = append(out, s.slotInfo(sl))
	}
	return out
}

func (s *Store) slotInfo(sl slot) SlotInfo {
	info := SlotInfo{ID: sl.id.String(), Kind: sl.kind, Label: sl.label, CreatedAt: fromMillis(sl.createdAt)}
	if sl.kdfName != "" {
		info.KDF = fmt.Sprintf("%s t=%d m=%dKiB p=%d", sl.kdfName, sl.kdf.Time, sl.kdf.Memory, sl.kdf.Threads)
	}
	info.Unsealed = s.keys != nil && s.keys.slotID == sl.id
	return info
}

// AddSlot adds a way to obtain the root key: with cred, from now on, the store
// opens too. A label, at most 64 characters, says what it is for; "" is none. A
// store has at most MaxSlots. The passphrase or key file itself is not stored
// anywhere: keep it where the store is not.
//
// Errors: ErrInvalid, ErrRootRotating, ErrPermissions for a key file that others
// can read.
func (s *Store) AddSlot(ctx context.Context, cred Credential, label string) (SlotInfo, error) {
	if err := firstError(s.needUnsealed(), checkSlotLabel(label)); err != nil {
		return SlotInfo{}, err
	}
	sl, err := s.sealRoot(ctx, cred, label)
	if err != nil {
		return SlotInfo{}, err
	}
	err = s.write(ctx, func(t *tx) error { return t.addSlot(sl) })
	if err != nil {
		return SlotInfo{}, err
	}
	return s.slotInfo(sl), nil
}

func checkSlotLabel(label string) error {
	if !plainText(label) || utf8.RuneCountInString(label) > 64 {
		return invalid("slot label: at most 64 characters without control characters")
	}
	return nil
}

// sealRoot makes a slot of the current root key. It holds no lock: deriving a
// key from a passphrase takes a third of a second.
func (s *Store) sealRoot(ctx context.Context, cred Credential, label string) (slot, error) {
	var st state
	err := s.read(ctx, func(q querier) (err error) {
		if st, err = loadState(ctx, q); err == nil {
			err = s.keys.checkState(&st)
		}
		return err
	})
	if err != nil {
		return slot{}, err
	}
	sl := slot{id: crypto.NewID(), rootID: st.rootID, label: label, createdAt: s.now()}
	return newSlot(sl, cred, st.storeID, s.keys.roots.key(st.rootID), s.opts.KDF)
}

func (t *tx) addSlot(sl slot) error {
	if err := t.stable(); err != nil {
		return err
	}
	if sl.rootID != t.state.rootID {
		return ErrRootRotated
	}
	slots, err := loadSlots(t.ctx, t.q, sl.rootID)
	if err != nil {
		return err
	}
	if len(slots) >= MaxSlots {
		return &Error{Op: "add unseal slot", Err: ErrInvalid, Detail: fmt.Sprintf("there are %d, the most a store may have", len(slots)), Remedy: "reseal unseal list"}
	}
	t.audit(event{action: "slot-add", detail: map[string]any{"slot": sl.id.String(), "slot_kind": sl.kind, "label": sl.label}})
	return t.insertSlot(sl)
}

// RemoveSlot removes an unseal slot, by its id or the first digits of it, at
// least 6. The last one is refused.
//
// It does not revoke what an older copy of the file gives: with that copy and
// the slot's passphrase or key file, the root key can still be had, and
// everything in this store opened that was wrapped under that root key. When
// somebody must lose access, use RotateRoot, and put new values.
//
// Errors: ErrNotFound, ErrInvalid, ErrRootRotating.
func (s *Store) RemoveSlot(ctx context.Context, id string) error {
	err := s.write(ctx, func(t *tx) error { return t.removeSlot(id) })
	if err == nil {
		s.retired(ctx, "the removed unseal slot")
	}
	return err
}

func (t *tx) removeSlot(id string) error {
	if err := t.stable(); err != nil {
		return err
	}
	slots, err := loadSlots(t.ctx, t.q, t.state.rootID)
	if err != nil {
		return err
	}
	sl, err := slotByID("remove unseal slot", slots, id)
	if err != nil {
		return err
	}
	if len(slots) == 1 {
		return &Error{Op: "remove unseal slot", Err: ErrInvalid, Detail: "it is the last one, without it nothing opens the store", Remedy: "reseal unseal add"}
	}
	t.audit(event{action: "slot-remove", detail: map[string]any{"slot": sl.id.String(), "slot_kind": sl.kind, "label": sl.label, detailWraps: slotMarks([]slot{sl})}})
	return t.execOne(`DELETE FROM reseal_unseal_slots WHERE id = ?`, sl.row)
}

// slotByID returns the slot that id names, whole or by its first digits.
func slotByID(op string, slots []slot, id string) (slot, error) {
	id = strings.ToLower(id)
	if len(id) < minSlotPrefix || strings.Trim(id, "0123456789abcdef") != "" {
		return slot{}, &Error{Op: op, Err: ErrInvalid, Detail: fmt.Sprintf("%q is not a slot's id: give at least the first %d of its hexadecimal digits", id, minSlotPrefix), Remedy: "reseal unseal list"}
	}
	var found []slot
	for _, sl := range slots {
		if strings.HasPrefix(hex.EncodeToString(sl.id[:]), id) {
			found = append(found, sl)
		}
	}
	switch len(found) {
	case 0:
		return slot{}, &Error{Op: op, Err: ErrNotFound, Detail: fmt.Sprintf("there is no unseal slot %q", id), Remedy: "reseal unseal list"}
	case 1:
		return found[0], nil
	}
	return slot{}, &Error{Op: op, Err: ErrInvalid, Detail: fmt.Sprintf("%q begins the ids of %d unseal slots", id, len(found)), Remedy: "reseal unseal list"}
}
