package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/reseal/reseal/crypto"
)

// RotateRootOptions says what becomes of the unseal slots. Each one is in
// Credentials or in Drop, named by its id or the first digits of it, at least 6.
type RotateRootOptions struct {
	// Credentials opens each slot that is kept: the new root key is wrapped
	// under it anew.
	Credentials map[string]Credential

	// Drop names the slots that are not carried over to the new root key.
	Drop []string
}

// RotateRootResult says what RotateRoot did.
type RotateRootResult struct {
	Kept              []SlotInfo
	Dropped           []SlotInfo
	MasterKeyVersions int  // wrapped under the new root key
	Resumed           bool // an unfinished rotation was finished, not a new one made

	// Truncated says that the database's log was emptied, so that the retired
	// wraps are in neither the log nor the rows of the file. It is false while
	// somebody reads an older snapshot, and in a host's database. What SQLite
	// leaves in unused parts of pages only a VACUUM clears.
	Truncated bool
}

// RotateRoot replaces the root key. Master keys stay what they are and are
// wrapped under the new root key, as is the integrity key; data keys and values
// are not touched. No slot is lost by being forgotten: one that is neither kept
// nor dropped by name is refused.
//
// It has two phases, each one transaction. The first adds the new root key, its
// slots and wraps beside the old ones. The second reads the new slots back,
// proves with their credentials that each gives the new root key, and with it
// that every new wrap gives the same master key as the old one, and only then
// removes the old ones. Between the two the store works with the old root key,
// but changes to master keys and slots are ErrRootRotating; after a crash there
// RotateRoot finishes what it can prove, or else begins again.
//
// Afterwards this Store goes on; every other process that has the store open
// gets ErrRootRotated and must open it again. Older copies of the file open with
// the old slots as before: rotation does not revoke what they give. When the
// root key may have leaked together with a copy, put new values.
//
// Errors: ErrInvalid, ErrNotFound, ErrUnseal for a credential that does not
// open its slot, ErrDamaged, ErrBusy when slots changed meanwhile.
func (s *Store) RotateRoot(ctx context.Context, o RotateRootOptions) (RotateRootResult, error) {
	if err := s.needUnsealed(); err != nil {
		return RotateRootResult{}, err
	}
	p, err := s.planRoot(ctx, o)
	if err != nil {
		return RotateRootResult{}, err
	}
	res, err := s.finishRoot(ctx, p)
	if errors.Is(err, errUnfinished) {
		res, err = s.newRoot(ctx, p)
	}
	if err != nil {
		return RotateRootResult{}, err
	}
	res.Dropped = s.slotInfos(p.dropped)
	res.Truncated = s.retired(ctx, "wraps under the old root key")
	return res, nil
}

// errUnfinished says that there is no unfinished rotation, or none that can be
// proved with the slots of the plan.
var errUnfinished = errors.New("no rotation of the root key to finish")

// finishRoot finishes what an earlier rotation began, if it can be proved.
func (s *Store) finishRoot(ctx context.Context, p *rootPlan) (RotateRootResult, error) {
	next, err := s.provedRoot(ctx, p)
	if err != nil {
		return RotateRootResult{}, fmt.Errorf("%w: %w", errUnfinished, err)
	}
	n, err := s.switchRoot(ctx, p, next)
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", errUnfinished, err)
	}
	return RotateRootResult{Kept: s.slotInfos(next.slots), MasterKeyVersions: n, Resumed: true}, err
}

// newRoot runs both phases. What an earlier rotation left is removed first, in
// a transaction of its own: if a master key's record is what stops the rotation,
// it can then be repaired.
func (s *Store) newRoot(ctx context.Context, p *rootPlan) (RotateRootResult, error) {
	if err := s.write(ctx, func(t *tx) error { return t.abandonRoot() }); err != nil {
		return RotateRootResult{}, err
	}
	if err := s.addRoot(ctx, p); err != nil {
		return RotateRootResult{}, err
	}
	next, err := s.provedRoot(ctx, p)
	if err != nil {
		return RotateRootResult{}, err
	}
	n, err := s.switchRoot(ctx, p, next)
	return RotateRootResult{Kept: s.slotInfos(next.slots), MasterKeyVersions: n}, err
}

// rootPlan is what a rotation does with each slot of the current root key.
type rootPlan struct {
	rootID  crypto.ID
	kept    []slot
	creds   map[crypto.ID]Credential // by slot id, of the kept ones
	dropped []slot
}

// planRoot sorts the slots, and opens each one that is kept.
func (s *Store) planRoot(ctx context.Context, o RotateRootOptions) (*rootPlan, error) {
	var st state
	var slots []slot
	err := s.snapshot(ctx, func(q querier) (err error) {
		if st, err = loadState(ctx, q); err != nil {
			return err
		}
		if err = s.keys.checkState(&st); err != nil {
			return err
		}
		slots, err = loadSlots(ctx, q, st.rootID)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := &rootPlan{rootID: st.rootID, creds: map[crypto.ID]Credential{}}
	if err := p.choose(slots, o); err != nil {
		return nil, err
	}
	for _, sl := range p.kept {
		root, err := s.openSlot(ctx, sl, p.creds[sl.id])
		if err != nil {
			return nil, err
		}
		root.Clear()
	}
	return p, nil
}

const opRotateRoot = "rotate root key"

func (p *rootPlan) choose(slots []slot, o RotateRootOptions) error {
	for id, cred := range o.Credentials {
		sl, err := slotByID(opRotateRoot, slots, id)
		if err != nil {
			return err
		}
		if _, twice := p.creds[sl.id]; twice {
			return invalid("unseal slot %s is given twice", sl.id)
		}
		p.creds[sl.id] = cred
	}
	dropped := map[crypto.ID]bool{}
	for _, id := range o.Drop {
		sl, err := slotByID(opRotateRoot, slots, id)
		if err != nil {
			return err
		}
		dropped[sl.id] = true
	}
	for _, sl := range slots {
		_, kept := p.creds[sl.id]
		switch {
		case kept && dropped[sl.id]:
			return invalid("unseal slot %s is both kept and dropped", sl.id)
		case kept:
			p.kept = append(p.kept, sl)
		case dropped[sl.id]:
			p.dropped = append(p.dropped, sl)
		default:
			return &Error{Op: opRotateRoot, Err: ErrInvalid, Detail: "no credential is given for " + sl.String() + ", and it is not to be dropped",
				Remedy: "reseal unseal rotate-root --slot " + sl.id.String() + "=FILE"}
		}
	}
	if len(p.kept) == 0 {
		return &Error{Op: opRotateRoot, Err: ErrInvalid, Detail: "no unseal slot is kept, nothing would open the store", Remedy: "reseal unseal list"}
	}
	return nil
}

// String names a slot in errors.
func (s *slot) String() string {
	if s.label == "" {
		return fmt.Sprintf("unseal slot %s (%s)", s.id, s.kind)
	}
	return fmt.Sprintf("unseal slot %s (%s, %q)", s.id, s.kind, s.label)
}

// openSlot opens one slot, without a lock: a passphrase takes a third of a
// second.
func (s *Store) openSlot(ctx context.Context, sl slot, cred Credential) (*crypto.Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cred.key == nil {
		return nil, invalid("the credential of %s is empty", sl.String())
	}
	root, err := sl.open(cred, s.keys.storeID)
	if err != nil && notThisSlot(err) {
		return nil, &Error{Op: opRotateRoot, Err: ErrUnseal, Detail: sl.String(), Remedy: "reseal unseal list"}
	}
	return root, err
}

// same reports whether two reads gave the same slot, bytes included.
func (s *slot) same(other slot) bool {
	return s.row == other.row && s.id == other.id && s.rootID == other.rootID && s.kind == other.kind &&
		s.kdfName == other.kdfName && s.kdf.Time == other.kdf.Time && s.kdf.Memory == other.kdf.Memory && s.kdf.Threads == other.kdf.Threads &&
		bytes.Equal(s.kdf.Salt, other.kdf.Salt) && bytes.Equal(s.wrapped, other.wrapped)
}

func sameSlots(a, b []slot) bool {
	return slices.EqualFunc(a, b, func(x, y slot) bool { return x.same(y) })
}

// planned returns the slots of the current root key as the plan found them.
func (p *rootPlan) planned() []slot {
	all := slices.Concat(p.kept, p.dropped)
	slices.SortFunc(all, func(a, b slot) int { return cmp.Compare(a.row, b.row) })
	return all
}
