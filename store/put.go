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
// Errors: ErrInvalid, ErrDeleted, ErrKeyUnavailable, ErrConfiguredKey,
// ErrTokenConflict, ErrNotFound for an unknown key, ErrBusy, ErrDiskFull.
func (s *Store) Put(ctx context.Context, name string, value []byte, opts *PutOptions) (PutResult, error) {
	var res PutResult
	p, err := s.newPut(name, value, opts)
	if err != nil {
		return res, err
	}
	err = s.write(ctx, func(t *tx) error { res, err = t.put(p); return err })
	return res, err
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

func (t *tx) put(p put) (PutResult, error) {
	sec, err := loadSecret(t.ctx, t.q, p.name)
	if err != nil {
		return PutResult{}, err
	}
	res := PutResult{Name: p.name}
	if sec != nil {
		if err := t.s.keys.checkSecret(sec); err != nil {
			return res, err
		}
		if err := refuseDeleted("put", sec); err != nil {
			return res, err
		}
		if p.Token != "" {
			replayed, err := t.replay(&res, sec, p)
			if replayed || err != nil {
				return res, err
			}
		}
	}
	k, err := t.keyForPut(&res, sec, p)
	if err != nil {
		return res, err
	}
	if sec == nil {
		sec, err = t.insertSecret(p.name, k)
	} else if sec.tombstone() {
		sec.setKey(k)
		res.Created = true
	}
	if err != nil {
		return res, err
	}
	if err := t.insertVersion(&res, sec, k, p); err != nil {
		return res, err
	}
	return res, t.describe(sec, p)
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
		return t.keyByName(p.Key)
	}
	if !t.state.defaultKey.Valid {
		return nil, &Error{Op: "put", Secret: p.name, Err: ErrNotFound, Detail: "the store has no default key", Remedy: "reseal key set-default KEY"}
	}
	return t.key(t.state.defaultKey.Int64)
}

// putKey reads and checks the master key of a row for a put.
func (t *tx) putKey(row int64, sec *secret) (*masterKey, error) {
	k, err := t.key(row)
	var e *Error
	if sec != nil && errors.As(err, &e) {
		e.Secret, e.ConfiguredKey = sec.name, sec.keyName
	}
	return k, err
}

// openJobTarget returns the row of the master key that an open rotation job
// moves secrets like name to from k, or 0: a new secret there would be behind
// the job's back.
func (t *tx) openJobTarget(k *masterKey, name string) (int64, error) {
	var to int64
	err := t.queryRow(`
		SELECT to_key
		FROM reseal_rotation_jobs
		WHERE state IN ('running', 'paused') AND from_key = ?1 AND to_key <> ?1 AND substr(?2, 1, length(prefix)) = prefix`,
		k.row, name).Scan(&to)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return to, err
}

func (sec *secret) setKey(k *masterKey) {
	sec.keyRow = sql.NullInt64{Int64: k.row, Valid: true}
	sec.keyID, sec.keyName = k.id[:], k.name
}

// insertSecret makes the row of a new secret. Its tag is written with its first
// version, in the same transaction.
func (t *tx) insertSecret(name string, k *masterKey) (*secret, error) {
	sec := &secret{id: crypto.NewID(), name: name, nextNumber: 1, createdAt: t.now}
	sec.setKey(k)
	res, err := t.exec(`
		INSERT INTO reseal_secrets (secret_id, name, master_key, next_number, version_count, created_at, updated_at, tag)
		VALUES (?, ?, ?, 1, 0, ?, ?, zeroblob(32))`, sec.id[:], name, k.row, t.now, t.now)
	if err != nil {
		return nil, err
	}
	if sec.row, err = res.LastInsertId(); err != nil {
		return nil, err
	}
	return sec, t.rows.change(t.s.keys, secretRows, 1, sec.id[:])
}

// insertVersion seals the value as the secret's next version and moves the
// labels to it. The ids that the contexts name are chosen here, inside the
// transaction.
func (t *tx) insertVersion(res *PutResult, sec *secret, k *masterKey, p put) error {
	kv, wrapper, err := t.wrapper(k)
	if err != nil {
		return putKeyError(err, sec)
	}
	number, id := sec.nextNumber, crypto.NewID()
	ring := t.s.keys
	sealed, wrapped, err := wrapper.SealValue(nil, nil, p.value,
		crypto.AppendValueContext(nil, ring.storeID, sec.id, sec.name, number, id),
		crypto.AppendDataKeyContext(nil, ring.storeID, id, k.id, kv.number))
	if err != nil {
		return err
	}
	ins, err := t.exec(`
		INSERT INTO reseal_secret_versions (version_id, secret, number, created_at, token, sealed)
		VALUES (?, ?, ?, ?, NULLIF(?, ''), ?)`, id[:], sec.row, number, t.now, p.Token, sealed)
	if err != nil {
		return err
	}
	row, err := ins.LastInsertId()
	if err := firstError(err, t.rows.change(ring, versionRows, 1, id[:])); err != nil {
		return err
	}
	if _, err := t.exec(`
		INSERT INTO reseal_data_keys (id, master_key_version, wrapped, made_at)
		VALUES (?, ?, ?, ?)`, row, kv.row, wrapped, max(0, t.now)); err != nil {
		return err
	}
	sec.nextNumber++
	sec.versionCount++
	v := label{version: row, versionID: id, number: number}
	if err := t.moveLabel(sec, p.Label, v); err != nil {
		return err
	}
	if number == 1 || res.Created {
		if err := t.moveLabel(sec, LabelCurrent, v); err != nil {
			return err
		}
	}
	res.Version, res.Key, res.KeyVersion = number, k.name, kv.number
	t.audit(event{action: "put", secret: sec.name, key: k.name, detail: map[string]any{
		"version": number, "version_id": id.String(), "label": p.Label, "key_version": kv.number,
	}})
	return t.saveSecret(sec)
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
