package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/reseal/reseal/crypto"
)

// Discard removes one secret version that is proved unopenable: its data key is
// missing or does not unwrap, its value does not open, or its master key
// version is gone, and no other master key version unwraps it. It works on deleted secrets too, so that damage cannot hold
// a master key for ever. A version that opens is ErrOpens, also when its master
// key is disabled. The version's labels go with it: LabelCurrent then points
// nowhere until a put or SetLabel.
//
// A version that the secret's record counts, but whose row is gone, is
// discarded by its number too: the record is then counted anew.
func (s *Store) Discard(ctx context.Context, name string, version uint64) error {
	err := s.write(ctx, func(t *tx) error { return t.discard(name, version) })
	if err == nil {
		s.retired(ctx, "a discarded version")
	}
	return err
}

// DiscardTx is Discard in the caller's transaction.
func (s *Store) DiscardTx(ctx context.Context, caller *sql.Tx, name string, version uint64) error {
	return s.join(ctx, caller, func(t *tx) error { return t.discard(name, version) })
}

func (t *tx) discard(name string, number uint64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	sec, err := t.existing(name)
	if err != nil {
		return err
	}
	versions, err := loadDataKeys(t.ctx, t.q, sec.row)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(versions, func(d dataKey) bool { return d.number == number })
	if i < 0 {
		return t.discardMissing(sec, number, len(versions))
	}
	why, err := t.whyUnopenable(sec, number)
	if err != nil {
		return err
	}
	d := versions[i]
	labels := sec.labelsOf(d.row)
	for _, l := range labels {
		if err := t.dropLabel(sec, l); err != nil {
			return err
		}
	}
	if err := t.removeVersion(d); err != nil {
		return err
	}
	return t.discarded(sec, number, len(versions)-1, map[string]any{"reason": why, "labels": labels})
}

// discardMissing counts a secret's versions anew when the row of one of them is
// gone. One that was pruned or discarded before is not missing.
func (t *tx) discardMissing(sec *secret, number uint64, found int) error {
	if number == 0 || number >= sec.nextNumber || int64(found) >= sec.versionCount {
		return noVersion("discard", sec, number)
	}
	return t.discarded(sec, number, found, map[string]any{"reason": "its row is gone"})
}

// discarded writes the event and the secret's record with its new count.
func (t *tx) discarded(sec *secret, number uint64, count int, detail map[string]any) error {
	detail["version"], detail["counted"], detail["count"] = number, sec.versionCount, count
	sec.versionCount = int64(count)
	t.audit(event{action: "discard", secret: sec.name, key: sec.keyName, detail: detail})
	return t.saveSecret(sec)
}

// whyUnopenable tries to open a version, whatever the state of its master key,
// and returns why it does not open. That it does is ErrOpens; any other error
// means that it cannot be told.
func (t *tx) whyUnopenable(sec *secret, number uint64) (string, error) {
	v, err := scanStored(t.queryRow(storedByNumber, number, sec.row))
	if err != nil {
		return "", err
	}
	if v.number != number {
		return "", misled("version numbers", formatNumber(number))
	}
	if err := t.refuseMisplaced(sec, v.dataKey); err != nil {
		return "", err
	}
	if v.key.row == 0 {
		return missingLink(v.keyVersion), nil
	}
	k, kv, err := t.effective(v.dataKey)
	if err != nil {
		return "", err
	}
	// The key's record may be altered, so nothing of it is remembered.
	w := view{s: t.s, ctx: t.ctx, q: t.q}
	value, err := w.open(sec, v, k, kv)
	if err == nil {
		clear(value)
		return "", t.opens(sec, v, k, kv)
	}
	return damageOf(err)
}

// missingLink says what is missing when a version's master key cannot be found.
func missingLink(keyVersion int64) string {
	if keyVersion == 0 {
		return "its data key is missing"
	}
	return "the master key version that wraps its data key is missing"
}

func (t *tx) opens(sec *secret, v *stored, k *masterKey, kv keyVersion) error {
	e := &Error{
		Op:                  "discard",
		Secret:              sec.name,
		Version:             v.number,
		Labels:              sec.labelsOf(v.row),
		ConfiguredKey:       sec.keyName,
		EffectiveKey:        k.name,
		EffectiveKeyVersion: kv.number,
		KeyState:            k.versionState(kv),
		Err:                 ErrOpens,
		Remedy:              "reseal get " + sec.name + " --version " + formatNumber(v.number),
	}
	if e.KeyState != Enabled {
		e.Remedy = enableRemedy(k, e.KeyState)
	}
	return e
}

// damageOf tells what an error of opening says is damaged or gone. An error
// that is of another kind, and so proves nothing, comes back as it is.
func damageOf(err error) (string, error) {
	var layer *crypto.LayerError
	var e *Error
	switch {
	case errors.As(err, &layer):
		return layer.Error(), nil
	case errors.As(err, &e) && e.Detail != "" && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrKeyUnavailable)):
		return e.Detail, nil
	}
	return "", err
}
