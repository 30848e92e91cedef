package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/reseal/reseal/crypto"
)

// Anchor says how far a store has come, to be kept outside it. No record inside
// a file can show that the whole file was replaced by an older copy of itself;
// an anchor kept elsewhere can: see Options.Anchor. Take anchors often: what came
// after the last one can be rolled back unseen.
type Anchor struct {
	StoreID    string // 32 hexadecimal digits
	Generation int64  // counts committed changes
	Digest     string // 64 hexadecimal digits, of the store's authenticated state
	AuditCount int64  // how many audit events there were
	AuditHead  string // 64 hexadecimal digits, the MAC of the last of them
}

// Anchor returns the anchor of the store as it is now. The digest covers the
// state record: the root key's id, the default key, the number of changes and
// the head of the audit trail, which covers every change before it. It tells
// nothing about a secret or key.
func (s *Store) Anchor(ctx context.Context) (Anchor, error) {
	if err := s.needUnsealed(); err != nil {
		return Anchor{}, err
	}
	var a Anchor
	err := s.read(ctx, func(q querier) error {
		st, err := loadState(ctx, q)
		if err != nil {
			return err
		}
		a = anchorOf(&st)
		return s.keys.checkState(&st)
	})
	if err != nil {
		return Anchor{}, err
	}
	return a, nil
}

func anchorOf(st *state) Anchor {
	digest := sha256.Sum256(crypto.NewRecord(nil, "reseal/v1/anchor").
		ID(st.storeID).
		Number(uint64(st.generation)).
		Raw(st.tag).
		Bytes())
	return Anchor{
		StoreID:    st.storeID.String(),
		Generation: st.generation,
		Digest:     hex.EncodeToString(digest[:]),
		AuditCount: st.auditCount,
		AuditHead:  hex.EncodeToString(st.auditHead),
	}
}

// CheckAnchor refuses, with ErrRolledBack, a store that has not come to where the
// anchor was taken, or has come elsewhere: an older copy, also one that was
// changed since, in which case the audit trail does not lead through the anchor.
// It reads the audit events since the anchor.
func (s *Store) CheckAnchor(ctx context.Context, a Anchor) error {
	if err := s.needUnsealed(); err != nil {
		return err
	}
	head, err := hex.DecodeString(a.AuditHead)
	if err != nil || len(head) != 32 || a.AuditCount < 0 {
		return invalid("anchor: it is not one that reseal made")
	}
	return s.snapshot(ctx, func(q querier) error {
		st, err := loadState(ctx, q)
		if err != nil {
			return err
		}
		if err := s.keys.checkState(&st); err != nil {
			return err
		}
		if err := a.compare(&st); err != nil {
			return err
		}
		_, err = s.keys.checkChainFrom(ctx, q, &st, a.AuditCount, head)
		if errors.Is(err, ErrDamaged) { // and not a disk that cannot be read, or the end of ctx
			err = fmt.Errorf("%w: its audit trail does not lead through the anchor: %w", ErrRolledBack, err)
		}
		return err
	})
}

// compare refuses a state that is not the anchor's or a later one.
func (a Anchor) compare(st *state) error {
	now := anchorOf(st)
	switch {
	case now.StoreID != a.StoreID:
		return fmt.Errorf("%w: the anchor is of store %s, and this is store %s", ErrRolledBack, a.StoreID, now.StoreID)
	case now.Generation < a.Generation:
		return fmt.Errorf("%w: it is at generation %d, and was at %d when the anchor was taken", ErrRolledBack, now.Generation, a.Generation)
	case now.Generation == a.Generation && now != a:
		return fmt.Errorf("%w: it is at the anchor's generation %d with another content", ErrRolledBack, now.Generation)
	}
	return nil
}
