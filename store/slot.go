package store

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/reseal/reseal/crypto"
)

// slot is an unseal slot's row: the root key wrapped under what a credential
// gives.
type slot struct {
	row       int64
	id        crypto.ID
	rootID    crypto.ID
	kind      string
	label     string
	kdfName   string
	kdf       crypto.KDF
	wrapped   []byte
	createdAt int64
}

func loadSlots(ctx context.Context, q querier, rootID crypto.ID) ([]slot, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT id, slot_id, root_id, kind, label, kdf, time, memory, threads, salt, wrapped, created_at
		FROM reseal_unseal_slots
		WHERE root_id = ?
		ORDER BY id`, rootID[:])
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []slot
	for rows.Next() {
		var s slot
		var id, root []byte
		var time, memory, threads int64
		if err := rows.Scan(
			&s.row,
			&id,
			&root,
			&s.kind,
			&s.label,
			&s.kdfName,
			&time,
			&memory,
			&threads,
			&s.kdf.Salt,
			&s.wrapped,
			&s.createdAt,
		); err != nil {
			return nil, err
		}
		// A number out of range stays out of bounds, and spoils its own slot only.
		s.kdf.Time = uint32(min(max(time, 0), math.MaxUint32))
		s.kdf.Memory = uint32(min(max(memory, 0), math.MaxUint32))
		s.kdf.Threads = uint8(min(max(threads, 0), math.MaxUint8))
		copy(s.id[:], id)
		copy(s.rootID[:], root)
		out = append(out, s)
	}
	return out, rows.Err()
}

func (s *slot) context(storeID crypto.ID) []byte {
	return crypto.AppendRootContext(nil, storeID, s.rootID, s.id, s.kind, s.kdfName, s.kdf)
}

// newSlot completes s, which has its ids, label and date: root wrapped under
// what cred gives.
func newSlot(s slot, cred Credential, storeID crypto.ID, root *crypto.Key, kdf func() crypto.KDF) (slot, error) {
	s.kind = cred.kind
	switch cred.kind {
	case slotPassphrase:
		s.kdfName, s.kdf = crypto.KDFArgon2id, kdf()
	case slotKeyFile:
		s.kdf.Salt = []byte{}
	default:
		return s, invalid("no credential: give a passphrase or a key file")
	}
	key, err := cred.key(s.kdf)
	if err != nil {
		return s, err
	}
	defer key.Clear()
	if s.wrapped, err = key.Wrap(nil, root, s.context(storeID)); err != nil {
		return s, err
	}
	return s, key.CheckWrap(s.wrapped, s.context(storeID))
}

// open returns the root key if cred is this slot's.
func (s *slot) open(cred Credential, storeID crypto.ID) (*crypto.Key, error) {
	if cred.kind != s.kind {
		return nil, crypto.ErrWrongKeyOrContext
	}
	key, err := cred.key(s.kdf)
	if err != nil {
		return nil, err
	}
	defer key.Clear()
	return key.Unwrap(s.wrapped, s.context(storeID))
}

func (t *tx) insertSlot(s slot) error {
	_, err := t.exec(`
		INSERT INTO reseal_unseal_slots (slot_id, root_id, kind, label, kdf, time, memory, threads, salt, wrapped, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		s.id[:], s.rootID[:], s.kind, s.label, s.kdfName, s.kdf.Time, s.kdf.Memory, s.kdf.Threads, s.kdf.Salt, s.wrapped, s.createdAt)
	return err
}

// unseal finds the slot that cred opens and returns what an unsealed store
// holds. A credential carries no id, so it is tried on each slot of its kind;
// the envelope commits to its key, so that each try is a plain yes or no. It is
// the only place where a key is tried on more than one row.
func unseal(ctx context.Context, q querier, cred Credential) (*keyring, error) {
	st, err := loadState(ctx, q)
	if err != nil {
		return nil, err
	}
	slotID, root, err := openRoot(ctx, q, cred, st.storeID, st.rootID)
	if err != nil {
		return nil, err
	}
	integrity, err := loadIntegrity(ctx, q, st.storeID, st.rootID, root)
	if err != nil {
		return nil, err
	}
	ring := newKeyring(st.storeID, st.rootID, root, integrity)
	ring.slotID = slotID
	return ring, ring.checkState(&st)
}

// checkCredential refuses one that opens no slot, before a schema that is behind
// is brought up for it: the next process may be one of the older release. It
// reads only what the first schema had. What else is wrong, unseal tells.
func checkCredential(ctx context.Context, q querier, cred Credential) error {
	if err := cred.usable(); err != nil {
		return err
	}
	var storeID, rootID []byte
	err := q.QueryRowContext(ctx, `SELECT store_id, root_id FROM reseal_state WHERE id = 1`).Scan(&storeID, &rootID)
	if err != nil || len(storeID) != len(crypto.ID{}) || len(rootID) != len(crypto.ID{}) {
		return nil
	}
	_, root, err := openRoot(ctx, q, cred, crypto.ID(storeID), crypto.ID(rootID))
	switch {
	case err == nil:
		root.Clear()
	case errors.Is(err, ErrUnseal), errors.Is(err, ErrInvalid):
		return err
	}
	return nil
}

func openRoot(ctx context.Context, q querier, cred Credential, storeID, rootID crypto.ID) (slotID crypto.ID, root *crypto.Key, err error) {
	if cred.key == nil {
		return slotID, nil, invalid("no credential: give a passphrase or a key file")
	}
	if err := cred.usable(); err != nil {
		return slotID, nil, err
	}
	slots, err := loadSlots(ctx, q, rootID)
	if err != nil {
		return slotID, nil, err
	}
	for _, s := range slots {
		root, err := s.open(cred, storeID)
		if err == nil {
			return s.id, root, nil
		}
		if !notThisSlot(err) {
			return slotID, nil, err
		}
	}
	return slotID, nil, ErrUnseal
}

// notThisSlot says that a credential does not open a slot, or that the slot's
// row is damaged: another slot may open.
func notThisSlot(err error) bool { return isEnvelopeError(err) || errors.Is(err, crypto.ErrKDF) }

func loadIntegrity(ctx context.Context, q querier, storeID, rootID crypto.ID, root *crypto.Key) (*crypto.Key, error) {
	wrapped, err := loadIntegrityWrap(ctx, q, rootID)
	if err != nil {
		return nil, err
	}
	return openIntegrity(wrapped, storeID, rootID, root)
}

func loadIntegrityWrap(ctx context.Context, q querier, rootID crypto.ID) ([]byte, error) {
	var wrapped []byte
	err := q.QueryRowContext(ctx, `
		SELECT integrity_wrapped
		FROM reseal_root_keys
		WHERE root_id = ?`, rootID[:]).Scan(&wrapped)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, damaged("the integrity key is missing")
	}
	return wrapped, err
}

func openIntegrity(wrapped []byte, storeID, rootID crypto.ID, root *crypto.Key) (*crypto.Key, error) {
	key, err := root.Unwrap(wrapped, crypto.AppendIntegrityContext(nil, storeID, rootID))
	if err != nil {
		return nil, damaged("the integrity key does not open: %v", err)
	}
	return key, nil
}

func isEnvelopeError(err error) bool {
	return errors.Is(err, crypto.ErrFormat) || errors.Is(err, crypto.ErrWrongKeyOrContext) || errors.Is(err, crypto.ErrDamaged)
}
