package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"

	"github.com/reseal/reseal/crypto"
)

// state is the row that there is one of: which root key is current, which
// master key is the default, and where the audit chain ends.
type state struct {
	storeID    crypto.ID
	rootID     crypto.ID
	nextRootID []byte        // 16 bytes while a root rotation is under way
	defaultKey sql.NullInt64 // row of the master key for new secrets
	defaultID  []byte        // and its id
	generation int64         // counts committed changes
	auditCount int64
	auditHead  []byte
	createdAt  int64
	tag        []byte
	rows       storedRows
}

const selectState = `
	SELECT
		s.store_id,
		s.root_id,
		s.next_root_id,
		s.default_key,
		k.key_id,
		s.generation,
		s.audit_count,
		s.audit_head,
		s.created_at,
		s.tag,
		s.rows_nonce,
		s.rows_digest,
		s.rows_tag,
		s.secret_rows,
		s.version_rows,
		s.master_key_rows,
		s.tag_rows,
		s.job_rows
	FROM reseal_state AS s
	LEFT JOIN reseal_master_keys AS k ON k.id = s.default_key
	WHERE s.id = 1`

func loadState(ctx context.Context, q querier) (state, error) {
	var st state
	var storeID, rootID []byte
	err := q.QueryRowContext(ctx, selectState).Scan(
		&storeID,
		&rootID,
		&st.nextRootID,
		&st.defaultKey,
		&st.defaultID,
		&st.generation,
		&st.auditCount,
		&st.auditHead,
		&st.createdAt,
		&st.tag,
		&st.rows.nonce,
		&st.rows.masked,
		&st.rows.tag,
		&st.rows.counts[secretRows],
		&st.rows.counts[versionRows],
		&st.rows.counts[keyRows],
		&st.rows.counts[tagRows],
		&st.rows.counts[jobRows],
	)
	if errors.Is(err, sql.ErrNoRows) {
		return st, ErrNotAStore
	}
	copy(st.storeID[:], storeID)
	copy(st.rootID[:], rootID)
	return st, err
}

// checkState refuses a state row that is not of this store and root, or whose
// tag is wrong.
func (r *keyring) checkState(st *state) error {
	if st.storeID != r.storeID {
		return damaged("the file now holds another store")
	}
	if r.roots.key(st.rootID) == nil {
		return ErrRootRotated
	}
	return r.checkTag(st.tag, r.stateRecord(nil, st), "the store's state row was altered")
}

// updateState leaves out the root keys and the default key.
const updateState = `
	UPDATE reseal_state
	SET generation = ?, audit_count = ?, audit_head = ?, tag = ?,
		rows_nonce = ?, rows_digest = ?, rows_tag = ?, secret_rows = ?, version_rows = ?, master_key_rows = ?, tag_rows = ?, job_rows = ?
	WHERE id = 1`

// saveState writes the state row with its tag.
func (t *tx) saveState() error {
	st := &t.state
	tag, err := t.s.keys.tag(t.s.keys.stateRecord(nil, st))
	if err != nil {
		return err
	}
	st.tag = tag
	if err := t.s.keys.saveRows(st, &t.rows); err != nil {
		return err
	}
	n := &st.rows.counts
	if t.saved.sameKeys(st) {
		return t.execOne(updateState,
			st.generation, st.auditCount, st.auditHead, tag,
			st.rows.nonce, st.rows.masked, st.rows.tag, n[secretRows], n[versionRows], n[keyRows], n[tagRows], n[jobRows])
	}
	return t.execOne(`
		UPDATE reseal_state
		SET root_id = ?, next_root_id = ?, default_key = ?, generation = ?, audit_count = ?, audit_head = ?, tag = ?,
			rows_nonce = ?, rows_digest = ?, rows_tag = ?, secret_rows = ?, version_rows = ?, master_key_rows = ?, tag_rows = ?, job_rows = ?
		WHERE id = 1`,
		st.rootID[:], st.nextRootID, st.defaultKey, st.generation, st.auditCount, st.auditHead, tag,
		st.rows.nonce, st.rows.masked, st.rows.tag, n[secretRows], n[versionRows], n[keyRows], n[tagRows], n[jobRows])
}

// sameKeys reports whether two states name the same root keys and default key:
// to write these again has SQLite look up what they refer to.
func (st *state) sameKeys(other *state) bool {
	return st.rootID == other.rootID && bytes.Equal(st.nextRootID, other.nextRootID) && st.defaultKey == other.defaultKey
}

// stable reports whether no root rotation is under way; changes to master keys
// and slots wait for its end.
func (t *tx) stable() error {
	if len(t.state.nextRootID) > 0 {
		return &Error{Op: "change keys", Err: ErrRootRotating, Remedy: "reseal unseal rotate-root"}
	}
	return nil
}

func (st *state) isDefault(k *masterKey) bool {
	return st.defaultKey.Valid && bytes.Equal(st.defaultID, k.id[:])
}

// RootRotating reports whether a root rotation is unfinished: RotateRoot
// finishes it. It works on a sealed store.
func (s *Store) RootRotating(ctx context.Context) (bool, error) {
	var st state
	err := s.read(ctx, func(q querier) (err error) { st, err = loadState(ctx, q); return err })
	return len(st.nextRootID) > 0, err
}
