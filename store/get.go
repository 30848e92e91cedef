package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/reseal/reseal/crypto"
)

// Selector chooses a version of a secret. The zero Selector is
// Label(LabelCurrent).
type Selector struct {
	number uint64
	label  string
}

// Version selects the version of that number.
func Version(number uint64) Selector { return Selector{number: number} }

// Label selects the version that a staging label points to.
func Label(label string) Selector { return Selector{label: label} }

// Get returns a secret's value: of its current version, or of the one that a
// selector names. The value is the caller's; clear it when it is used.
//
// Errors: ErrNotFound, ErrDeleted, ErrKeyUnavailable, ErrDamaged; each a *Error
// that names the keys and the command that fixes it.
func (s *Store) Get(ctx context.Context, name string, sel ...Selector) (Value, error) {
	which, err := one(sel)
	if err != nil {
		return Value{}, err
	}
	if err := firstError(s.needUnsealed(), CheckName(name)); err != nil {
		return Value{}, err
	}
	var v Value
	err = s.read(ctx, func(q querier) error {
		w := view{s: s, ctx: context.WithoutCancel(ctx), q: q, remember: true}
		v, err = w.getByName(name, which)
		return err
	})
	if err == nil && s.opts.AuditReads {
		err = s.write(ctx, func(t *tx) error { t.auditRead(v); return nil })
	}
	if err != nil {
		v.Clear()
		return Value{}, err
	}
	return v, nil
}

// GetTx is Get in the caller's transaction: it sees what the transaction has
// written.
func (s *Store) GetTx(ctx context.Context, caller *sql.Tx, name string, sel ...Selector) (Value, error) {
	which, err := one(sel)
	if err != nil {
		return Value{}, err
	}
	if err := CheckName(name); err != nil {
		return Value{}, err
	}
	var v Value
	err = s.join(ctx, caller, func(t *tx) error {
		v, err = t.view().getByName(name, which)
		if err == nil && s.opts.AuditReads {
			t.auditRead(v)
		}
		return err
	})
	return v, err
}

func (t *tx) auditRead(v Value) {
	t.audit(event{action: "get", secret: v.Name, detail: map[string]any{"version": v.Version}})
}

func one(sel []Selector) (Selector, error) {
	switch len(sel) {
	case 0:
		return Label(LabelCurrent), nil
	case 1:
		if sel[0].number == 0 && sel[0].label == "" {
			return Label(LabelCurrent), nil
		}
		return sel[0], nil
	}
	return Selector{}, invalid("more than one selector: name a version or a label")
}

// view reads values on one connection. What it read of keys may be remembered
// unless it sees what a caller's transaction has not committed.
type view struct {
	s        *Store
	ctx      context.Context
	q        querier
	remember bool
	ahead    map[int64]*stored // secret versions that were read ahead, by row
}

func (t *tx) view() view { return view{s: t.s, ctx: t.ctx, q: t.q, remember: !t.joined} }

// errMoved is returned when what the first statement read has moved on before
// the next: a label, and its version was removed; the number of versions; or a
// data key, and its master key version was destroyed.
var errMoved = errors.New("moved on")

// getByName reads again when what it read first has moved on.
func (w view) getByName(name string, sel Selector) (Value, error) {
	if sel.label != "" {
		if v, err := w.getPacked(name, sel.label); settled(err) {
			return v, err
		}
	}
	for range 10 {
		v, err := w.tryByName(name, sel)
		if !errors.Is(err, errMoved) {
			return v, err
		}
	}
	return Value{}, &Error{Op: "get", Secret: name, Err: ErrDamaged, Detail: "its labels or versions are not those that its record tells of", Remedy: "reseal explain " + name}
}

func (w view) tryByName(name string, sel Selector) (Value, error) {
	sec, err := w.secret(name)
	if err != nil {
		return Value{}, err
	}
	return w.getChecked(sec, sel)
}

// getChecked is get of a secret that was read and is to be checked.
func (w view) getChecked(sec *secret, sel Selector) (Value, error) {
	if err := firstError(w.s.keys.checkSecret(sec), refuseDeleted("get", sec)); err != nil {
		return Value{}, err
	}
	return w.get("get", sec, sel)
}

// secret reads a secret that is there, unchecked. In a transaction that writes,
// where many names are looked up that are not there yet, it does not look twice
// for one that is not found.
func (w view) secret(name string) (*secret, error) {
	sec, err := loadSecret(w.ctx, w.q, name)
	if err == nil && sec == nil && w.remember {
		return nil, w.s.absent(w.ctx, w.q, name)
	}
	if err == nil && (sec == nil || sec.tombstone()) {
		err = noSecret(name)
	}
	return sec, err
}

// stored is a secret version as it lies in the file, with the row of the master
// key that wraps its data key.
type stored struct {
	dataKey
	sealed []byte
	key    masterKey // row, state, primary, deletionAt and tag only
}

func (w view) get(op string, sec *secret, sel Selector) (Value, error) {
	v, err := w.find(op, sec, sel)
	if err != nil {
		return Value{}, err
	}
	k, kv, err := w.usableKey(op, sec, v)
	if err != nil {
		return Value{}, err
	}
	value, err := w.open(sec, v, k, kv)
	if errors.Is(err, crypto.ErrCleared) && !w.s.closed.Load() {
		return Value{}, errMoved
	}
	if err != nil {
		return Value{}, w.s.versionError(op, sec, &v.dataKey, k, kv, err)
	}
	return Value{
		Name:      sec.name,
		Version:   v.number,
		CreatedAt: fromMillis(v.createdAt),
		bytes:     func() []byte { return value },
	}, nil
}

const selectStored = `
	SELECT
		v.id,
		v.version_id,
		v.number,
		v.created_at,
		v.sealed,
		COALESCE(d.master_key_version, 0),
		d.wrapped,
		COALESCE(k.id, 0),
		COALESCE(k.state, ''),
		COALESCE(k.primary_version, 0),
		COALESCE(k.deletion_at, 0),
		k.tag
	FROM reseal_secret_versions AS v
	LEFT JOIN reseal_data_keys AS d ON d.id = v.id
	LEFT JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
	LEFT JOIN reseal_master_keys AS k ON k.id = kv.master_key
	WHERE `

// Once ANALYZE has run, SQLite plans a join again for every new value of a
// parameter that it compares with an indexed column, which takes several times as
// long as the read. A column with a plus sign uses no index, and a CAST is no
// parameter.
const (
	storedByRow    = selectStored + `v.id = ? AND +v.secret = ?`
	storedByNumber = selectStored + `v.number = CAST(? AS INTEGER) AND v.secret = CAST(? AS INTEGER)`
)

// find reads the version that sel names. A label's version id is what the
// secret's tag covers, so the row must carry the same one.
func (w view) find(op string, sec *secret, sel Selector) (*stored, error) {
	if sel.label == "" {
		v, err := scanStored(w.q.QueryRowContext(w.ctx, storedByNumber, sel.number, sec.row))
		if errors.Is(err, sql.ErrNoRows) {
			return nil, w.noVersion(op, sec, sel.number)
		}
		if err == nil && v.number != sel.number {
			err = misled("version numbers", formatNumber(sel.number))
		}
		return v, err
	}
	l, ok := sec.label(sel.label)
	if !ok {
		return nil, noLabel(op, sec, sel.label)
	}
	v, err := w.ahead[l.version], error(nil)
	if v == nil {
		v, err = scanStored(w.q.QueryRowContext(w.ctx, storedByRow, l.version, sec.row))
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errMoved // since the secret's row was read
	}
	if err == nil && (v.versionID != l.versionID || v.number != l.number) {
		err = damaged("label %q points to another version than the secret's record says", sel.label)
	}
	return v, err
}

// noVersion returns the error of a version that was not found: errMoved if the
// secret does not have as many versions as its record says, or has this one
// after all. It takes from the index of numbers, which may be damaged, only
// which rows there are.
func (w view) noVersion(op string, sec *secret, number uint64) error {
	var n int64
	var there bool
	err := w.q.QueryRowContext(w.ctx, `
		SELECT count(*), COALESCE(max(v.number = ?1), 0)
		FROM (SELECT id FROM reseal_secret_versions WHERE secret = ?2) AS i
		CROSS JOIN reseal_secret_versions AS v NOT INDEXED ON v.id = i.id AND v.secret = ?2`, number, sec.row).Scan(&n, &there)
	switch {
	case err != nil:
		return err
	case n != sec.versionCount || there:
		return errMoved
	}
	return noVersion(op, sec, number)
}

func scanStored(row interface{ Scan(...any) error }) (*stored, error) {
	var v stored
	var id []byte
	err := row.Scan(
		&v.row,
		&id,
		&v.number,
		&v.createdAt,
		&v.sealed,
		&v.keyVersion,
		&v.wrapped,
		&v.key.row,
		&v.key.state,
		&v.key.primary,
		&v.key.deletionAt,
		&v.key.tag,
	)
	copy(v.versionID[:], id)
	return &v, err
}

// usableKey returns the master key version that really wraps v's data key, if
// its state lets values be read.
func (w view) usableKey(op string, sec *secret, v *stored) (*masterKey, keyVersion, error) {
	if v.key.row == 0 {
		return nil, keyVersion{}, &Error{Op: op, Secret: sec.name, Version: v.number, Labels: sec.labelsOf(v.row), ConfiguredKey: sec.keyName,
			Err: ErrDamaged, Detail: "its data key, or the master key version that wraps it, is missing", Remedy: "reseal explain " + sec.name}
	}
	k, loaded, err := w.s.keys.checkedKey(w.ctx, w.q, v.key.row, &v.key)
	if k == nil {
		return nil, keyVersion{}, err
	}
	if loaded && err == nil && w.remember {
		w.s.keys.rememberKey(k)
	}
	kv, ok := k.byRow(v.keyVersion)
	if err == nil && !ok {
		err = damaged("master key version is missing")
	}
	if err != nil {
		return k, kv, w.s.versionError(op, sec, &v.dataKey, k, kv, err)
	}
	if state := k.versionState(kv); state != Enabled {
		return k, kv, w.s.versionError(op, sec, &v.dataKey, k, kv, ErrKeyUnavailable)
	}
	return k, kv, nil
}

// open unwraps the data key and opens the value.
func (w view) open(sec *secret, v *stored, k *masterKey, kv keyVersion) ([]byte, error) {
	wrapper := w.s.keys.cached(kv.row)
	if wrapper == nil {
		var err error
		if wrapper, err = w.s.keys.unwrap(w.ctx, w.q, k, kv, w.remember); err != nil {
			return nil, err
		}
	}
	var buf [384]byte
	var small [192]byte
	return wrapper.OpenValue(nil, v.sealed, v.wrapped,
		crypto.AppendValueContext(buf[:0], w.s.keys.storeID, sec.id, sec.name, v.number, v.versionID),
		crypto.AppendDataKeyContext(small[:0], w.s.keys.storeID, v.versionID, k.id, kv.number))
}

// versionError is the error of a secret version that cannot be read, with
// every fact there is about its keys and the command that helps.
func (s *Store) versionError(op string, sec *secret, v *dataKey, k *masterKey, kv keyVersion, err error) error {
	if errors.Is(err, crypto.ErrCleared) {
		return ErrClosed
	}
	e := &Error{
		Op:                  op,
		Secret:              sec.name,
		Version:             v.number,
		Labels:              sec.labelsOf(v.row),
		ConfiguredKey:       sec.keyName,
		EffectiveKey:        k.name,
		EffectiveKeyVersion: kv.number,
		KeyState:            k.versionState(kv),
		DeletionAt:          fromMillis(k.deletionAt),
		Err:                 err,
	}
	var inner *Error
	var layer *crypto.LayerError
	switch {
	case errors.Is(err, ErrKeyUnavailable):
		e.Err, e.Remedy = ErrKeyUnavailable, enableRemedy(k, e.KeyState)
	case errors.As(err, &layer):
		e.Err, e.Detail, e.Remedy = ErrDamaged, layer.Error(), "reseal explain "+sec.name
	case errors.As(err, &inner):
		e.Err, e.Detail = inner.Err, inner.Detail
		e.Remedy = "reseal set-key " + sec.name + " OTHER-KEY"
	}
	return e
}

// effective returns the master key version that wraps a data key, unchecked.
func (t *tx) effective(d dataKey) (*masterKey, keyVersion, error) {
	return effective(t.ctx, t.q, d)
}

func effective(ctx context.Context, q querier, d dataKey) (*masterKey, keyVersion, error) {
	var row int64
	err := q.QueryRowContext(ctx, `
		SELECT master_key
		FROM reseal_master_key_versions
		WHERE id = ?`, d.keyVersion).Scan(&row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, keyVersion{}, damaged("version %d: its data key, or the master key version that wraps it, is missing", d.number)
	}
	if err != nil {
		return nil, keyVersion{}, err
	}
	k, err := loadKey(ctx, q, row)
	if err != nil {
		return nil, keyVersion{}, err
	}
	kv, _ := k.byRow(d.keyVersion)
	return k, kv, nil
}

func formatNumber(n uint64) string { return strconv.FormatUint(n, 10) }
