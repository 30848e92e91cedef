package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/reseal/reseal/crypto"
)

// keyring is what an unsealed store holds in memory: the root key, the
// integrity key, and what was read and proved before. The caches hold only
// committed, immutable things: a master key version's material with the wrap
// it came from, and a master key's row with its tag.
type keyring struct {
	storeID   crypto.ID
	slotID    crypto.ID // the unseal slot that opened; zero in a store that is being made
	roots     roots
	integrity *crypto.Key

	mu        sync.RWMutex
	materials map[int64]material // by row of the master key version
	keys      map[int64]*masterKey
	cleared   bool
}

type material struct {
	wrapped []byte
	key     *crypto.Key
}

func newKeyring(storeID, rootID crypto.ID, root, integrity *crypto.Key) *keyring {
	r := &keyring{
		storeID:   storeID,
		integrity: integrity,
		materials: map[int64]material{},
		keys:      map[int64]*masterKey{},
	}
	r.roots.add(rootID, root)
	return r
}

func (r *keyring) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleared = true
	r.roots.clear()
	r.integrity.Clear()
	for _, m := range r.materials {
		m.key.Clear()
	}
	clear(r.materials)
	clear(r.keys)
}

// masterKey is a master key's row with its versions.
type masterKey struct {
	row        int64
	id         crypto.ID
	name       string
	state      KeyState
	primary    uint64
	deletionAt int64
	createdAt  int64
	tag        []byte
	versions   []keyVersion // by number
}

type keyVersion struct {
	row         int64
	number      uint64
	createdAt   int64
	destroyedAt int64
}

func (k *masterKey) versionState(v keyVersion) KeyState {
	if v.destroyedAt != 0 {
		return Destroyed
	}
	return k.state
}

func (k *masterKey) byNumber(n uint64) (keyVersion, bool) {
	i := slices.IndexFunc(k.versions, func(v keyVersion) bool { return v.number == n })
	if i < 0 {
		return keyVersion{}, false
	}
	return k.versions[i], true
}

func (k *masterKey) byRow(row int64) (keyVersion, bool) {
	i := slices.IndexFunc(k.versions, func(v keyVersion) bool { return v.row == row })
	if i < 0 {
		return keyVersion{}, false
	}
	return k.versions[i], true
}

// One statement reads a key with its versions, so that they are of one moment.
const selectKeys = `
	SELECT
		k.id,
		k.key_id,
		k.name,
		k.state,
		k.primary_version,
		COALESCE(k.deletion_at, 0),
		k.created_at,
		k.tag,
		COALESCE(v.id, 0),
		COALESCE(v.number, 0),
		COALESCE(v.created_at, 0),
		COALESCE(v.destroyed_at, 0)
	FROM reseal_master_keys AS k
	LEFT JOIN reseal_master_key_versions AS v ON v.master_key = k.id`

const (
	keyByRow = ` WHERE k.id = ?`
	keyOrder = ` ORDER BY k.name, v.number`
)

// loadKeys reads the master keys that where chooses, by name, unchecked.
func loadKeys(ctx context.Context, q querier, where string, args ...any) ([]*masterKey, error) {
	rows, err := q.QueryContext(ctx, selectKeys+where+keyOrder, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []*masterKey
	for rows.Next() {
		var k masterKey
		var v keyVersion
		var id []byte
		if err := rows.Scan(
			&k.row,
			&id,
			&k.name,
			&k.state,
			&k.primary,
			&k.deletionAt,
			&k.createdAt,
			&k.tag,
			&v.row,
			&v.number,
			&v.createdAt,
			&v.destroyedAt,
		); err != nil {
			return nil, err
		}
		copy(k.id[:], id)
		if n := len(keys); n == 0 || keys[n-1].row != k.row {
			keys = append(keys, &k)
		}
		if last := keys[len(keys)-1]; v.row != 0 {
			last.versions = append(last.versions, v)
		}
	}
	return keys, rows.Err()
}

func loadAllKeys(ctx context.Context, q querier) ([]*masterKey, error) {
	return loadKeys(ctx, q, "")
}

// loadKey reads the master key of that row, unchecked.
func loadKey(ctx context.Context, q querier, row int64) (*masterKey, error) {
	return oneKey(fmt.Sprintf("row %d", row))(loadKeys(ctx, q, keyByRow, row))
}

// loadKeyByName reads the master key of that name, unchecked.
func loadKeyByName(ctx context.Context, q querier, name string) (*masterKey, error) {
	k, err := oneKey(name)(loadKeys(ctx, q, ` WHERE k.name = CAST(? AS TEXT)`, name))
	if err == nil && k.name != name {
		return nil, misled("key names", name)
	}
	return k, err
}

func oneKey(what string) func([]*masterKey, error) (*masterKey, error) {
	return func(keys []*masterKey, err error) (*masterKey, error) {
		if err == nil && len(keys) == 0 {
			err = &Error{Op: "find", Key: what, Err: ErrNotFound, Remedy: "reseal key list"}
		}
		if err != nil {
			return nil, err
		}
		return keys[0], nil
	}
}

// checkKey refuses a master key whose record tag is wrong: its name, state,
// primary version, dates or versions were changed by other means than reseal.
func (r *keyring) checkKey(k *masterKey) error {
	err := r.checkTag(k.tag, r.masterKeyRecord(nil, k), "the master key's record was altered")
	if err == nil {
		return nil
	}
	return &Error{Op: "check", Key: k.name, KeyState: k.state, Err: err, Remedy: "reseal key disable " + k.name}
}

// checkedKey returns the master key of that row, checked, and whether it had to
// be loaded. same is what the caller's statement read of the row, so that the one
// from memory is used only while the file still says the same.
func (r *keyring) checkedKey(ctx context.Context, q querier, row int64, same *masterKey) (k *masterKey, loaded bool, err error) {
	r.mu.RLock()
	k = r.keys[row]
	r.mu.RUnlock()
	if k != nil && k.state == same.state && k.primary == same.primary && k.deletionAt == same.deletionAt && bytes.Equal(k.tag, same.tag) {
		return k, false, nil
	}
	if k, err = loadKey(ctx, q, row); err != nil {
		return nil, true, err
	}
	return k, true, r.checkKey(k)
}

func (r *keyring) rememberKey(k *masterKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[k.row] = k
}

// cached returns the material of a master key version if it is in memory,
// without asking the file.
func (r *keyring) cached(row int64) *crypto.Key {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.materials[row].key
}

// unwrap returns the material of version v of k, from its wrap in the file. The
// one in memory is used only if it came from the same wrap.
func (r *keyring) unwrap(ctx context.Context, q querier, k *masterKey, v keyVersion, remember bool) (*crypto.Key, error) {
	rootID, wrapped, err := r.loadWrap(ctx, q, k, v)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	m := r.materials[v.row]
	r.mu.RUnlock()
	if m.key != nil && bytes.Equal(m.wrapped, wrapped) {
		return m.key, nil
	}
	key, err := r.roots.key(rootID).Unwrap(wrapped, crypto.AppendMasterContext(nil, r.storeID, rootID, k.id, v.number))
	if err != nil {
		return nil, r.wrapError(k, v, err)
	}
	if remember {
		key = r.remember(v.row, wrapped, key)
	}
	return key, nil
}

// remember keeps key with the wrap it came from, and returns the one to use: of
// the same key there is only one copy in memory.
func (r *keyring) remember(row int64, wrapped []byte, key *crypto.Key) *crypto.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cleared {
		key.Clear()
		return key
	}
	if m, ok := r.materials[row]; ok && m.key.Equal(key) {
		key.Clear()
		key = m.key
	}
	r.materials[row] = material{wrapped: wrapped, key: key}
	return key
}

// forgetDestroyed clears the material of master key versions that were
// destroyed. A reader that was about to use it for what it read before reads
// again.
func (s *Store) forgetDestroyed(ctx context.Context) {
	err := s.read(context.WithoutCancel(ctx), func(q querier) error {
		rows, err := numbers(ctx, q, `SELECT id FROM reseal_master_key_versions WHERE destroyed_at IS NOT NULL`)
		s.keys.forget(rows)
		return err
	})
	if err != nil {
		s.opts.Logger.Warn("a destroyed master key version stays in memory until the store is closed", "error", err)
	}
}

func (r *keyring) forget(rows []int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range rows {
		if m, ok := r.materials[row]; ok {
			m.key.Clear()
			delete(r.materials, row)
		}
	}
}

func (r *keyring) wrapError(k *masterKey, v keyVersion, err error) error {
	if errors.Is(err, crypto.ErrCleared) {
		return ErrClosed
	}
	return &Error{Op: "unwrap", Key: k.name, KeyState: k.versionState(v), Err: ErrDamaged,
		Detail: fmt.Sprintf("master key version %d: %v", v.number, err)}
}

const selectWraps = `
	SELECT root_id, wrapped
	FROM reseal_master_key_wraps
	WHERE master_key_version = ?
	ORDER BY id`

// loadWrap reads the wrap of a master key version under a root key that this
// process holds. While the root key rotates there are two.
func (r *keyring) loadWrap(ctx context.Context, q querier, k *masterKey, v keyVersion) (rootID crypto.ID, wrapped []byte, err error) {
	rows, err := q.QueryContext(ctx, selectWraps, v.row)
	if err != nil {
		return rootID, nil, err
	}
	defer rows.Close()
	others := false
	for rows.Next() {
		var id []byte
		if err := rows.Scan(&id, &wrapped); err != nil {
			return rootID, nil, err
		}
		copy(rootID[:], id)
		if r.roots.key(rootID) != nil {
			return rootID, wrapped, nil
		}
		others = true
	}
	if err := rows.Err(); err != nil {
		return rootID, nil, err
	}
	return rootID, nil, missingWrap(k, v, others)
}

// missingWrap is the error of a master key version without a wrap that this
// process can open. Other wraps are there when the root key was rotated.
func missingWrap(k *masterKey, v keyVersion, others bool) error {
	switch {
	case others:
		return ErrRootRotated
	case v.destroyedAt != 0:
		return &Error{Op: "unwrap", Key: k.name, KeyState: Destroyed, Err: ErrKeyUnavailable,
			Detail: fmt.Sprintf("master key version %d is destroyed", v.number)}
	}
	return &Error{Op: "unwrap", Key: k.name, KeyState: k.state, Err: ErrDamaged,
		Detail: fmt.Sprintf("master key version %d has no wrap", v.number)}
}

// lookup reads and checks the master key that a statement named by row, for
// use in this transaction.
func (t *tx) key(row int64) (*masterKey, error) {
	k, err := loadKey(t.ctx, t.q, row)
	if err != nil {
		return nil, err
	}
	return k, t.s.keys.checkKey(k)
}

func (t *tx) keyByName(name string) (*masterKey, error) {
	k, err := loadKeyByName(t.ctx, t.q, name)
	if err != nil {
		return nil, err
	}
	return k, t.s.keys.checkKey(k)
}

// wrapper returns the primary version of an enabled master key with its
// material, read in this transaction: a process that remembers a version which
// another has disabled or destroyed meanwhile is stopped here.
func (t *tx) wrapper(k *masterKey) (keyVersion, *crypto.Key, error) {
	v, ok := k.byNumber(k.primary)
	if !ok {
		return v, nil, &Error{Op: "use", Key: k.name, KeyState: k.state, Err: ErrDamaged, Detail: "its primary version is missing"}
	}
	if state := k.versionState(v); state != Enabled {
		return v, nil, &Error{
			Op:         "use",
			Key:        k.name,
			KeyState:   state,
			DeletionAt: fromMillis(k.deletionAt),
			Err:        ErrKeyUnavailable,
			Remedy:     enableRemedy(k, state),
		}
	}
	key, err := t.unwrap(k, v)
	return v, key, err
}

// unwrap returns the material of any version of k, whatever its state.
func (t *tx) unwrap(k *masterKey, v keyVersion) (*crypto.Key, error) {
	return t.s.keys.unwrap(t.ctx, t.q, k, v, !t.joined)
}

// enableRemedy is the command that makes a key usable again.
func enableRemedy(k *masterKey, state KeyState) string {
	switch state {
	case Disabled:
		return "reseal key enable " + k.name
	case PendingDeletion:
		return "reseal key cancel-deletion " + k.name + " && reseal key enable " + k.name
	}
	return "reseal key list"
}

// saveKey writes a master key's row with its tag, from the row and versions as
// they now are.
func (t *tx) saveKey(k *masterKey) error {
	tag, err := t.s.keys.tag(t.s.keys.masterKeyRecord(nil, k))
	if err != nil {
		return err
	}
	k.tag = tag
	return t.execOne(`
		UPDATE reseal_master_keys
		SET state = ?, primary_version = ?, deletion_at = ?, tag = ?
		WHERE id = ?`, k.state, k.primary, orNull(k.deletionAt), tag, k.row)
}

// orNull is ms, or NULL when it is 0.
func orNull(ms int64) sql.NullInt64 { return sql.NullInt64{Int64: ms, Valid: ms != 0} }
