package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/reseal/reseal/crypto"
)

// CreateKey makes an enabled master key with one version. Names are 1 to 64 of
// A-Za-z0-9_+=.@- and never reused, not even after destruction.
func (s *Store) CreateKey(ctx context.Context, name string) error {
	return s.write(ctx, func(t *tx) error { return t.createKey(name) })
}

// CreateKeyTx is CreateKey in the caller's transaction.
func (s *Store) CreateKeyTx(ctx context.Context, caller *sql.Tx, name string) error {
	return s.join(ctx, caller, func(t *tx) error { return t.createKey(name) })
}

// RotateKey gives an enabled master key a new version, which becomes its
// primary, and returns its number. Data keys stay under the older versions
// until a rotation moves them.
func (s *Store) RotateKey(ctx context.Context, name string) (version uint64, err error) {
	err = s.write(ctx, func(t *tx) error { version, err = t.rotateKey(name); return err })
	return version, err
}

// RotateKeyTx is RotateKey in the caller's transaction.
func (s *Store) RotateKeyTx(ctx context.Context, caller *sql.Tx, name string) (version uint64, err error) {
	err = s.join(ctx, caller, func(t *tx) error { version, err = t.rotateKey(name); return err })
	return version, err
}

// DisableKey disables a master key: what it wraps cannot be read until it is
// enabled, or moved to another key. It returns what depends on the key. It also
// accepts a key whose record was altered by other means, and writes the record
// anew: disabled is the safe state to look at it in.
func (s *Store) DisableKey(ctx context.Context, name string) (d Dependents, err error) {
	err = s.write(ctx, func(t *tx) error { d, err = t.disableKey(name); return err })
	return d, err
}

// DisableKeyTx is DisableKey in the caller's transaction.
func (s *Store) DisableKeyTx(ctx context.Context, caller *sql.Tx, name string) (d Dependents, err error) {
	err = s.join(ctx, caller, func(t *tx) error { d, err = t.disableKey(name); return err })
	return d, err
}

// EnableKey enables a disabled master key.
func (s *Store) EnableKey(ctx context.Context, name string) error {
	return s.write(ctx, func(t *tx) error { return t.enableKey(name) })
}

// EnableKeyTx is EnableKey in the caller's transaction.
func (s *Store) EnableKeyTx(ctx context.Context, caller *sql.Tx, name string) error {
	return s.join(ctx, caller, func(t *tx) error { return t.enableKey(name) })
}

// ScheduleKeyDeletion permits Sweep to destroy a master key after a window of 7
// to 30 days (0 is 30) and returns when. A key that has dependents is refused
// with ErrDependents, which lists them. Nothing is destroyed by the date alone.
func (s *Store) ScheduleKeyDeletion(ctx context.Context, name string, window time.Duration) (at time.Time, err error) {
	err = s.write(ctx, func(t *tx) error { at, err = t.scheduleKeyDeletion(name, window); return err })
	return at, err
}

// ScheduleKeyDeletionTx is ScheduleKeyDeletion in the caller's transaction.
func (s *Store) ScheduleKeyDeletionTx(ctx context.Context, caller *sql.Tx, name string, window time.Duration) (at time.Time, err error) {
	err = s.join(ctx, caller, func(t *tx) error { at, err = t.scheduleKeyDeletion(name, window); return err })
	return at, err
}

// CancelKeyDeletion takes a scheduled deletion back, also past its date as long
// as no sweep has run. The key is then disabled.
func (s *Store) CancelKeyDeletion(ctx context.Context, name string) error {
	return s.write(ctx, func(t *tx) error { return t.cancelKeyDeletion(name) })
}

// CancelKeyDeletionTx is CancelKeyDeletion in the caller's transaction.
func (s *Store) CancelKeyDeletionTx(ctx context.Context, caller *sql.Tx, name string) error {
	return s.join(ctx, caller, func(t *tx) error { return t.cancelKeyDeletion(name) })
}

// SetDefaultKey names the enabled master key of new secrets.
func (s *Store) SetDefaultKey(ctx context.Context, name string) error {
	return s.write(ctx, func(t *tx) error { return t.setDefaultKey(name) })
}

// SetDefaultKeyTx is SetDefaultKey in the caller's transaction.
func (s *Store) SetDefaultKeyTx(ctx context.Context, caller *sql.Tx, name string) error {
	return s.join(ctx, caller, func(t *tx) error { return t.setDefaultKey(name) })
}

// DestroyKeyVersion destroys the material of one version of a master key that
// is not its primary, at once and for good. A version that still wraps a data
// key is refused with ErrDependents, also when the data key's row was made to
// name another: the wrap of every data key is opened first, in a transaction
// that only reads.
func (s *Store) DestroyKeyVersion(ctx context.Context, name string, version uint64) error {
	if err := s.needUnsealed(); err != nil {
		return err
	}
	if err := s.snapshot(ctx, func(q querier) error { return s.refuseNeeded(ctx, q, name, version) }); err != nil {
		return err
	}
	err := s.write(ctx, func(t *tx) error { return t.destroyKeyVersion(name, version) })
	if err == nil {
		s.retired(ctx, "the wrap of a destroyed master key version")
		s.forgetDestroyed(ctx)
	}
	return err
}

func (t *tx) createKey(name string) error {
	if err := checkKeyName(name); err != nil {
		return err
	}
	if err := t.stable(); err != nil {
		return err
	}
	_, err := loadKeyByName(t.ctx, t.q, name)
	if err == nil {
		return &Error{Op: "create", Key: name, Err: ErrExists, Detail: "key names are never reused", Remedy: "reseal key list"}
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	_, err = t.insertKey(name)
	return err
}

// insertKey writes a master key with its first version.
func (t *tx) insertKey(name string) (*masterKey, error) {
	k := &masterKey{id: crypto.NewID(), name: name, state: Enabled, createdAt: t.now}
	res, err := t.exec(`
		INSERT INTO reseal_master_keys (key_id, name, state, primary_version, created_at, tag)
		VALUES (?, ?, ?, 1, ?, zeroblob(32))`, k.id[:], name, k.state, t.now)
	if err != nil {
		return nil, err
	}
	if k.row, err = res.LastInsertId(); err != nil {
		return nil, err
	}
	if err := firstError(t.addVersion(k), t.rows.change(t.s.keys, keyRows, 1, k.id[:])); err != nil {
		return nil, err
	}
	t.audit(event{action: "key-create", key: name, detail: map[string]any{"key_id": k.id.String(), "version": 1}})
	return k, t.saveKey(k)
}

// addVersion makes the next version of k and its primary, with its wrap under
// the root. The caller saves k.
func (t *tx) addVersion(k *masterKey) error {
	v := keyVersion{number: 1, createdAt: t.now}
	if n := len(k.versions); n > 0 {
		v.number = k.versions[n-1].number + 1
	}
	res, err := t.exec(`
		INSERT INTO reseal_master_key_versions (master_key, number, created_at)
		VALUES (?, ?, ?)`, k.row, v.number, t.now)
	if err != nil {
		return err
	}
	if v.row, err = res.LastInsertId(); err != nil {
		return err
	}
	ring := t.s.keys
	material := crypto.NewKey()
	defer material.Clear()
	root := t.state.rootID
	wrapped, err := ring.roots.key(root).Wrap(nil, material, crypto.AppendMasterContext(nil, ring.storeID, root, k.id, v.number))
	if err != nil {
		return err
	}
	if _, err := t.exec(`
		INSERT INTO reseal_master_key_wraps (master_key_version, root_id, wrapped)
		VALUES (?, ?, ?)`, v.row, root[:], wrapped); err != nil {
		return err
	}
	k.versions = append(k.versions, v)
	k.primary = v.number
	return nil
}

func (t *tx) rotateKey(name string) (uint64, error) {
	if err := t.stable(); err != nil {
		return 0, err
	}
	k, err := t.keyByName(name)
	if err != nil {
		return 0, err
	}
	if k.state != Enabled {
		return 0, t.stateError("rotate", k, "only an enabled key is rotated", enableRemedy(k, k.state))
	}
	if err := t.addVersion(k); err != nil {
		return 0, err
	}
	t.audit(event{action: "key-rotate", key: name, detail: map[string]any{"version": k.primary}})
	return k.primary, t.saveKey(k)
}

func (t *tx) stateError(op string, k *masterKey, detail, remedy string) error {
	return &Error{Op: op, Key: k.name, KeyState: k.state, DeletionAt: fromMillis(k.deletionAt), Err: ErrKeyState, Detail: detail, Remedy: remedy}
}

// setState changes a key's state with its event.
func (t *tx) setState(k *masterKey, state KeyState, deletionAt int64, action string) error {
	return t.setStateWith(k, state, deletionAt, action, map[string]any{})
}

// setStateWith is setState with more to tell in the event.
func (t *tx) setStateWith(k *masterKey, state KeyState, deletionAt int64, action string, detail map[string]any) error {
	detail["from_state"], detail["state"] = k.state, state
	k.state, k.deletionAt = state, deletionAt
	if deletionAt != 0 {
		detail["deletion_at"] = fromMillis(deletionAt).Format(time.RFC3339)
	}
	t.audit(event{action: action, key: k.name, detail: detail})
	return t.saveKey(k)
}

func (t *tx) disableKey(name string) (Dependents, error) {
	if err := t.stable(); err != nil {
		return Dependents{}, err
	}
	k, err := loadKeyByName(t.ctx, t.q, name)
	if err != nil {
		return Dependents{}, err
	}
	altered := t.s.keys.checkKey(k) != nil
	switch {
	case k.state == Destroyed:
		return Dependents{}, t.stateError("disable", k, "a destroyed key stays destroyed", "reseal key list")
	case k.state == PendingDeletion && !altered:
		return Dependents{}, t.stateError("disable", k, "its deletion is scheduled", "reseal key cancel-deletion "+name)
	}
	if altered {
		if err := t.proveKey(k); err != nil {
			return Dependents{}, err
		}
	}
	d, err := dependents(t.ctx, t.q, k, 0)
	if err != nil || (k.state == Disabled && !altered) {
		return d, err
	}
	action := "key-disable"
	if altered {
		action = "key-disable-altered"
	}
	return d, t.setState(k, Disabled, 0, action)
}

// proveKey opens the wrap of every version of a key whose record is wrong: the
// key's id and version numbers are in the contexts, so that what opens is what
// it says it is. A primary that does not exist falls back to the newest.
func (t *tx) proveKey(k *masterKey) error {
	for _, v := range k.versions {
		if v.destroyedAt == 0 {
			if _, err := t.unwrap(k, v); err != nil {
				return err
			}
		}
	}
	if _, ok := k.byNumber(k.primary); !ok && len(k.versions) > 0 {
		k.primary = k.versions[len(k.versions)-1].number
	}
	return nil
}

func (t *tx) enableKey(name string) error {
	if err := t.stable(); err != nil {
		return err
	}
	k, err := t.keyByName(name)
	if err != nil {
		return err
	}
	switch k.state {
	case Enabled:
		return nil
	case Disabled:
		return t.setState(k, Enabled, 0, "key-enable")
	case PendingDeletion:
		return t.stateError("enable", k, "its deletion is scheduled", enableRemedy(k, k.state))
	}
	return t.stateError("enable", k, "a destroyed key stays destroyed", "reseal key list")
}

func (t *tx) scheduleKeyDeletion(name string, d time.Duration) (time.Time, error) {
	ms, err := window(d)
	if err != nil {
		return time.Time{}, err
	}
	if err := t.stable(); err != nil {
		return time.Time{}, err
	}
	k, err := t.keyByName(name)
	if err != nil {
		return time.Time{}, err
	}
	switch k.state {
	case PendingDeletion:
		return time.Time{}, t.stateError("schedule deletion of", k, "it is scheduled already", "reseal key cancel-deletion "+name)
	case Destroyed:
		return time.Time{}, t.stateError("schedule deletion of", k, "a destroyed key stays destroyed", "reseal key list")
	}
	if err := t.refuseDependents("schedule deletion of", k, 0); err != nil {
		return time.Time{}, err
	}
	at := t.now + ms
	return fromMillis(at), t.setState(k, PendingDeletion, at, "key-schedule-deletion")
}

func (t *tx) cancelKeyDeletion(name string) error {
	if err := t.stable(); err != nil {
		return err
	}
	k, err := t.keyByName(name)
	if err != nil {
		return err
	}
	if k.state != PendingDeletion {
		return t.stateError("cancel the deletion of", k, "no deletion is scheduled", "reseal key show "+name)
	}
	return t.setState(k, Disabled, 0, "key-cancel-deletion")
}

func (t *tx) setDefaultKey(name string) error {
	k, err := t.keyByName(name)
	if err != nil {
		return err
	}
	if k.state != Enabled {
		return t.stateError("set as default", k, "only an enabled key can be the default", enableRemedy(k, k.state))
	}
	if t.state.isDefault(k) {
		return nil
	}
	t.state.defaultKey = sql.NullInt64{Int64: k.row, Valid: true}
	t.state.defaultID = k.id[:]
	t.audit(event{action: "key-set-default", key: name})
	return nil
}

func (t *tx) destroyKeyVersion(name string, number uint64) error {
	if err := t.stable(); err != nil {
		return err
	}
	k, err := t.keyByName(name)
	if err != nil {
		return err
	}
	v, ok := k.byNumber(number)
	if !ok {
		return &Error{Op: "destroy version of", Key: name, KeyState: k.state, Err: ErrNotFound,
			Detail: fmt.Sprintf("there is no version %d", number), Remedy: "reseal key show " + name}
	}
	if v.destroyedAt != 0 {
		return nil
	}
	if number == k.primary {
		return t.stateError("destroy version of", k, "version "+formatNumber(number)+" is the primary", "reseal key rotate "+name)
	}
	if err := t.refuseDependents("destroy version of", k, v.row); err != nil {
		return err
	}
	marks, err := t.destroyMaterial(k, v)
	if err != nil {
		return err
	}
	t.audit(event{action: "key-destroy-version", key: name, detail: map[string]any{"version": number, detailWraps: marks}})
	return t.saveKey(k)
}

// destroyMaterial marks a version destroyed and deletes its wraps, which the
// schema allows in this order only. It returns the marks of the wraps, for the
// event. The caller saves k.
func (t *tx) destroyMaterial(k *masterKey, v keyVersion) (marks []string, err error) {
	marks, err = texts(t.ctx, t.q, `
		SELECT lower(hex(substr(wrapped, 5, 8)))
		FROM reseal_master_key_wraps
		WHERE master_key_version = ?
		ORDER BY id`, v.row)
	if err != nil {
		return nil, err
	}
	if err := t.execOne(`
		UPDATE reseal_master_key_versions
		SET destroyed_at = ?
		WHERE id = ?`, t.now, v.row); err != nil {
		return nil, err
	}
	if _, err := t.exec(`DELETE FROM reseal_master_key_wraps WHERE master_key_version = ?`, v.row); err != nil {
		return nil, err
	}
	for i := range k.versions {
		if k.versions[i].row == v.row {
			k.versions[i].destroyedAt = t.now
		}
	}
	return marks, nil
}

// refuseDependents is ErrDependents with the list, if anything needs the key
// or, when version is not 0, that version of it.
func (t *tx) refuseDependents(op string, k *masterKey, version int64) error {
	d, err := dependents(t.ctx, t.q, k, version)
	if err != nil {
		return err
	}
	held := d.Any()
	remedy := "reseal rotate run --from " + k.name + " --to OTHER-KEY"
	if version != 0 {
		held = d.Versions > 0
		remedy = "reseal rotate run --key " + k.name
	} else if held && d.Secrets+d.DeletedSecrets+d.Versions+d.Configured == 0 {
		remedy = "reseal key set-default OTHER-KEY"
		if len(d.Jobs) > 0 {
			remedy = "reseal rotate status"
		}
	}
	if !held {
		return nil
	}
	return &Error{Op: op, Key: k.name, KeyState: k.state, Err: ErrDependents, Detail: d.String(), Dependents: &d, Remedy: remedy}
}
