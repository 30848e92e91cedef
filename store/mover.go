package store

import (
	"errors"

	"github.com/reseal/reseal/crypto"
)

// mover rewraps or replaces data keys under the primary version of one master
// key. It lives as long as one transaction and looks each key version up once
// in it.
type mover struct {
	t        *tx
	to       *masterKey
	kv       keyVersion
	wrapper  *crypto.Key
	sources  map[int64]*source
	replaced replaced
	retired  []byte // the wraps that were replaced, by rotations, one after the other
	bytes    int    // of sealed values that were written one by one
}

// source is a master key version that wraps data keys now. Its key may be
// disabled, pending deletion, or have an altered record.
type source struct {
	key      *masterKey
	version  keyVersion
	material *crypto.Key
	altered  bool  // the record tag of its key is wrong
	err      error // why it cannot unwrap, nil if it can
}

func (t *tx) mover(to *masterKey) (*mover, error) {
	kv, wrapper, err := t.wrapper(to)
	if err != nil {
		return nil, err
	}
	return &mover{t: t, to: to, kv: kv, wrapper: wrapper, sources: map[int64]*source{}}, nil
}

// source returns the master key version of that row. Its key is nil if there is
// none.
func (m *mover) source(row int64) *source {
	if s := m.sources[row]; s != nil {
		return s
	}
	s := new(source)
	m.sources[row] = s
	if s.key, s.version, s.err = m.t.effective(dataKey{keyVersion: row}); s.err != nil {
		s.key = nil
		return s
	}
	s.altered = m.t.s.keys.checkKey(s.key) != nil
	s.material, s.err = m.t.unwrap(s.key, s.version)
	return s
}

// moved is a data key with the new wrap that is to replace its old one.
type moved struct {
	dataKey
	from    *source
	wrapped []byte
}

// rewrap makes a new wrap of a data key, proved to open, and writes nothing.
func (m *mover) rewrap(dst []byte, from *source, versionID crypto.ID, wrapped []byte) ([]byte, error) {
	if from.err != nil {
		return dst, from.err
	}
	keys, err := crypto.NewMover(from.material, m.wrapper)
	if err != nil {
		return dst, err
	}
	defer keys.Close()
	return m.rewrapWith(keys, dst, from, versionID, wrapped)
}

// rewrapWith is rewrap with the keys of a source that has them.
func (m *mover) rewrapWith(keys *crypto.Mover, dst []byte, from *source, versionID crypto.ID, wrapped []byte) ([]byte, error) {
	var old, target [192]byte
	store := m.t.s.keys.storeID
	return keys.Rewrap(dst, wrapped,
		crypto.AppendDataKeyContext(old[:0], store, versionID, from.key.id, from.version.number),
		crypto.AppendDataKeyContext(target[:0], store, versionID, m.to.id, m.kv.number))
}

// prove opens the wrap of a data key that is recorded as under the target: a
// row that was edited to say so would let the key that it really needs be
// destroyed.
func (m *mover) prove(d dataKey) error {
	var buf [192]byte
	return m.wrapper.CheckWrap(d.wrapped, crypto.AppendDataKeyContext(buf[:0], m.t.s.keys.storeID, d.versionID, m.to.id, m.kv.number))
}

// prepare makes new wraps for all versions of a checked secret that are not
// under the target yet. It writes nothing, so that a version which does not
// open leaves the secret whole under its old key.
func (m *mover) prepare(sec *secret) ([]moved, error) {
	versions, err := m.load(sec)
	if err != nil {
		return nil, err
	}
	var out []moved
	for _, d := range versions {
		if err := m.t.live.Err(); err != nil {
			return nil, err
		}
		next, err := m.move(d)
		if err != nil {
			return nil, m.versionError(sec, d, m.source(d.keyVersion), err)
		}
		if next == nil {
			continue
		}
		out = append(out, *next)
	}
	return out, nil
}

// move makes a new wrap for a data key; nil for one that is under the target.
func (m *mover) move(d dataKey) (*moved, error) {
	from := m.source(d.keyVersion)
	wrapped, err := m.moveFrom(from, d)
	if err != nil {
		if from, err = m.find(d, err); err == nil {
			wrapped, err = m.rewrap(nil, from, d.versionID, d.wrapped)
		}
	}
	if err != nil || wrapped == nil {
		return nil, err
	}
	return &moved{dataKey: d, from: from, wrapped: wrapped}, nil
}

// moveFrom makes a new wrap for a data key that is where its row says, or
// proves that it needs none.
func (m *mover) moveFrom(from *source, d dataKey) ([]byte, error) {
	if d.keyVersion == m.kv.row {
		return nil, m.prove(d)
	}
	return m.rewrap(nil, from, d.versionID, d.wrapped)
}

// load reads all versions of a checked secret, and refuses if one is missing.
func (m *mover) load(sec *secret) ([]dataKey, error) {
	versions, err := loadDataKeys(m.t.ctx, m.t.q, sec.row)
	if err == nil && int64(len(versions)) != sec.versionCount {
		err = &Error{Op: "set-key", Secret: sec.name, ConfiguredKey: sec.keyName, Err: ErrDamaged,
			Detail: plural(sec.versionCount, "version") + " expected, " + plural(int64(len(versions)), "version") + " found", Remedy: "reseal explain " + sec.name}
	}
	return versions, err
}

func (m *mover) versionError(sec *secret, d dataKey, from *source, err error) error {
	if from.key == nil {
		if !errors.Is(err, ErrDamaged) {
			return err
		}
		return &Error{Op: "set-key", Secret: sec.name, Version: d.number, Labels: sec.labelsOf(d.row), ConfiguredKey: sec.keyName,
			Err: ErrDamaged, Detail: "its data key, or the master key version that wraps it, is missing", Remedy: discardRemedy(sec, d)}
	}
	err = m.t.s.versionError("set-key", sec, &d, from.key, from.version, err)
	var e *Error
	if errors.As(err, &e) {
		e.Remedy = from.remedy(sec.name, d.number)
	}
	return err
}

// remedy is the command that helps with a version whose wrap does not open: a
// wrap that is damaged or whose key is gone can be given up, but one whose
// master key is damaged could come back with a backup.
func (s *source) remedy(name string, number uint64) string {
	verb := "discard "
	if s.err != nil && !errors.Is(s.err, ErrKeyUnavailable) && s.key != nil {
		verb = "explain "
	}
	return "reseal " + verb + name + " --version " + formatNumber(number)
}

func (m *mover) result(sec *secret) SetKeyResult {
	return SetKeyResult{Name: sec.name, From: sec.keyName, To: m.to.name, KeyVersion: m.kv.number, Versions: int(sec.versionCount)}
}

// write puts the new wraps in place of the old ones and makes the target the
// secret's configured key.
func (m *mover) write(sec *secret, versions []moved, action string) (SetKeyResult, error) {
	res := m.result(sec)
	res.Rewrapped = len(versions)
	if res.From == res.To && res.Rewrapped == 0 {
		return res, nil
	}
	detail := map[string]any{}
	for _, v := range versions {
		if err := m.put(v); err != nil {
			return res, err
		}
		if v.from.altered {
			detail["altered_key"] = v.from.key.name
		}
		if v.from.version.row != v.keyVersion {
			detail["misplaced"] = true
		}
	}
	return res, m.conclude(sec, res, action, detail)
}

// put puts a new wrap in place of the old one, only over the bytes that were
// read.
func (m *mover) put(v moved) error {
	return m.t.execOne(`
		UPDATE reseal_data_keys
		SET wrapped = ?, master_key_version = ?
		WHERE id = ? AND master_key_version = ? AND wrapped = ?`, v.wrapped, m.kv.row, v.row, v.keyVersion, v.dataKey.wrapped)
}

// conclude makes the target the configured key of a secret whose versions have
// moved.
func (m *mover) conclude(sec *secret, res SetKeyResult, action string, detail map[string]any) error {
	detail["from_key"], detail["to_key"], detail["to_version"] = res.From, res.To, res.KeyVersion
	detail["rewrapped"] = res.Rewrapped
	m.t.audit(event{action: action, secret: sec.name, key: m.to.name, detail: detail})
	sec.setKey(m.to)
	return m.t.saveSecret(sec)
}
