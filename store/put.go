package store

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"

	"github.com/reseal/reseal/crypto"
)

// Put makes a new version of the secret called name, and the secret if there
// is none: 1 byte to Options.MaxValue. The value is sealed under a fresh data
// key, which the primary version of the secret's master key wraps. Put does not
// keep or clear value.
//
// Puts that wait for each other are written in one transaction, and durable
// with one write to the disk: each as if it were alone.
//
// Errors: ErrInvalid, ErrDeleted, ErrKeyUnavailable, ErrConfiguredKey,
// ErrTokenConflict, ErrNotFound for an unknown key, ErrBusy, ErrDiskFull.
func (s *Store) Put(ctx context.Context, name string, value []byte, opts *PutOptions) (PutResult, error) {
	p, err := s.newPut(name, value, opts)
	if err != nil {
		return PutResult{}, err
	}
	if err := s.needUnsealed(); err != nil {
		return PutResult{}, err
	}
	return s.putTogether(ctx, p)
}

// PutTx is Put in the caller's transaction: the version is there when the
// caller commits, and was never there when the caller rolls back.
func (s *Store) PutTx(ctx context.Context, caller *sql.Tx, name string, value []byte, opts *PutOptions) (PutResult, error) {
	var res PutResult
	p, err := s.newPut(name, value, opts)
	if err != nil {
		return res, err
	}
	err = s.join(ctx, caller, func(t *tx) error { res, err = t.put(p); return err })
	return res, err
}

// put is one put's checked input.
type put struct {
	name  string
	value []byte
	PutOptions
}

func (s *Store) newPut(name string, value []byte, opts *PutOptions) (put, error) {
	p := put{name: name, value: value}
	if opts != nil {
		p.PutOptions = *opts
	}
	if p.Label == "" {
		p.Label = LabelCurrent
	}
	err := firstError(
		CheckName(name),
		s.checkValue(value),
		checkLabel(p.Label),
		checkToken(p.Token),
		checkTags(p.Tags),
	)
	if err == nil && p.Description != nil {
		err = checkDescription(*p.Description)
	}
	return p, err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// putPlan is a put that was checked: nothing of it is written.
type putPlan struct {
	put
	res PutResult
	sec *secret // with row 0 when it is to be made
	key *masterKey
}

func (t *tx) put(p put) (PutResult, error) {
	plan, err := t.planPut(p)
	if err != nil || plan.res.Replayed {
		return plan.res, err
	}
	return t.writePut(plan)
}

// planPut decides what a put does, and writes nothing.
func (t *tx) planPut(p put) (*putPlan, error) {
	plan := &putPlan{put: p, res: PutResult{Name: p.name}}
	sec, err := t.secretForPut(p.name)
	if err != nil {
		return plan, err
	}
	if sec != nil {
		if err := refuseDeleted("put", sec); err != nil {
			return plan, err
		}
		if p.Token != "" {
			if _, err := t.replay(&plan.res, sec, p); err != nil || plan.res.Replayed {
				return plan, err
			}
		}
	}
	if plan.key, err = t.keyForPut(&plan.res, sec, p); err != nil {
		return plan, err
	}
	switch {
	case sec == nil:
		sec = &secret{id: crypto.NewID(), name: p.name, nextNumber: 1, createdAt: t.now}
		sec.setKey(plan.key)
	case sec.tombstone():
		sec.setKey(plan.key)
		plan.res.Created = true
	}
	plan.sec = sec
	return plan, nil
}

// secretForPut reads and checks the secret of that name; nil if there is none.
func (t *tx) secretForPut(name string) (*secret, error) {
	if sec, known := t.memo.secrets[name]; known {
		return sec, nil
	}
	sec, err := loadSecret(t.ctx, t.q, name)
	if err != nil || sec == nil {
		return nil, err
	}
	return sec, t.s.keys.checkSecret(sec)
}

// keyForPut returns the master key that the new version goes under: the
// configured one of a secret that exists, else the one named or the default.
func (t *tx) keyForPut(res *PutResult, sec *secret, p put) (*masterKey, error) {
	if sec != nil && !sec.tombstone() {
		if p.Key != "" && p.Key != sec.keyName {
			return nil, &Error{Op: "put", Secret: sec.name, ConfiguredKey: sec.keyName, Err: ErrConfiguredKey,
				Remedy: "reseal set-key " + sec.name + " " + p.Key}
		}
		return t.putKey(sec.keyRow.Int64, sec)
	}
	res.Created = sec == nil
	k, err := t.namedKey(p)
	if k == nil {
		return nil, err
	}
	to, jerr := t.openJobTarget(k, p.name)
	if jerr != nil || to == 0 {
		return k, firstError(err, jerr)
	}
	res.Redirected = k.name
	return t.putKey(to, sec)
}

// namedKey returns the master key that a put names for a new secret, or the
// default key. A key whose record was altered comes with an error, which does
// not matter if a rotation job leads away from it.
func (t *tx) namedKey(p put) (*masterKey, error) {
	if p.Key != "" {
		return t.memo.keyByName(t, p.Key)
	}
	if !t.state.defaultKey.Valid {
		return nil, &Error{Op: "put", Secret: p.name, Err: ErrNotFound, Detail: "the store has no default key", Remedy: "reseal key set-default KEY"}
	}
	return t.memo.key(t, t.state.defaultKey.Int64)
}

// putKey reads and checks the master key of a row for a put.
func (t *tx) putKey(row int64, sec *secret) (*masterKey, error) {
	k, err := t.memo.key(t, row)
	var e *Error
	if sec != nil && errors.As(err, &e) {
		e.Secret, e.ConfiguredKey = sec.name, sec.keyName
	}
	return k, err
}

func (sec *secret) setKey(k *masterKey) {
	sec.keyRow = sql.NullInt64{Int64: k.row, Valid: true}
	sec.keyID, sec.keyName = k.id[:], k.name
}

// putKeyError adds the secret to the error of a master key that cannot wrap.
func putKeyError(err error, sec *secret) error {
	var e *Error
	if errors.As(err, &e) {
		e.Op, e.Secret, e.ConfiguredKey, e.Key = "put", sec.name, sec.keyName, ""
	}
	return err
}

// describe writes the description and tags that a put brings.
func (t *tx) describe(sec *secret, p put) error {
	if p.Description != nil {
		if err := t.setDescription(sec, *p.Description); err != nil {
			return err
		}
	}
	return t.setTags(sec, p.Tags)
}

func (t *tx) setDescription(sec *secret, text string) error {
	var old string
	if err := t.queryRow(`SELECT description FROM reseal_secrets WHERE id = ?`, sec.row).Scan(&old); err != nil {
		return err
	}
	for by, d := range map[int64]string{-1: old, 1: text} {
		if d == "" {
			continue
		}
		if err := t.tagRow(sec, by, "", d); err != nil {
			return err
		}
	}
	return t.execOne(`UPDATE reseal_secrets SET description = ? WHERE id = ?`, text, sec.row)
}

// tagRow takes a tag into the set of rows or out of it: by is 1 or -1.
func (t *tx) tagRow(sec *secret, by int64, key, value string) error {
	return t.rows.change(t.s.keys, tagRows, by, sec.id[:], key, value)
}

func (t *tx) setTags(sec *secret, tags map[string]string) error {
	for k, v := range tags {
		if err := firstError(t.dropTag(sec, k), t.tagRow(sec, 1, k, v)); err != nil {
			return err
		}
		if _, err := t.exec(`
			INSERT INTO reseal_tags (secret, key, value)
			VALUES (?, ?, ?)`, sec.row, k, v); err != nil {
			return err
		}
	}
	return nil
}

// dropTag removes a tag, if there is one of that name.
func (t *tx) dropTag(sec *secret, key string) error {
	var value string
	err := t.queryRow(`DELETE FROM reseal_tags WHERE secret = ? AND key = ? RETURNING value`, sec.row, key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.tagRow(sec, -1, key, value)
}

// replay answers a put whose token is known: the version it made, if the value
// is the same. The value is opened and compared in constant time; no hash of a
// value is stored anywhere.
func (t *tx) replay(res *PutResult, sec *secret, p put) (bool, error) {
	var number uint64
	err := t.queryRow(`
		SELECT number
		FROM reseal_secret_versions
		WHERE secret = ? AND token = ?`, sec.row, p.Token).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v, err := t.view().get("put", sec, Version(number))
	if err != nil {
		return false, err
	}
	defer v.Clear()
	if subtle.ConstantTimeCompare(v.Bytes(), p.value) != 1 {
		return false, &Error{Op: "put", Secret: sec.name, Version: number, ConfiguredKey: sec.keyName, Err: ErrTokenConflict,
			Remedy: "reseal get " + sec.name + " --version " + formatNumber(number)}
	}
	keys, err := loadDataKeys(t.ctx, t.q, sec.row)
	if err != nil {
		return false, err
	}
	for _, d := range keys {
		if d.number != number {
			continue
		}
		k, kv, err := t.effective(d)
		if err != nil {
			return false, err
		}
		res.Version, res.Key, res.KeyVersion, res.Replayed = number, k.name, kv.number, true
	}
	return true, nil
}
