package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/reseal/reseal/crypto"
)

// Anchor says how far a store has come, to be kept outside it. No record inside
// a file can show that the whole file was replaced by an older copy of itself;
// an anchor kept elsewhere can.
//
// Compare a new anchor of the store with the kept one: a lower Generation, or
// the same Generation with another Digest, is an older or a forked copy. A
// higher one is what goes on from it, or an older copy that was changed more
// often since: take anchors often, and more often than the store could be
// changed unseen.
type Anchor struct {
	StoreID    string // 32 hexadecimal digits
	Generation int64  // counts committed changes
	Digest     string // 64 hexadecimal digits, of the store's authenticated state
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
	return Anchor{StoreID: st.storeID.String(), Generation: st.generation, Digest: hex.EncodeToString(digest[:])}
}
