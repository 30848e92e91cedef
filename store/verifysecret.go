package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/reseal/reseal/crypto"
)

// opener opens versions on one connection, for one page of secrets.
type opener struct {
	v          *verifier
	q          querier
	keys       keyTable
	configured map[int64]*masterKey // by row of the master key
	unwrapped  map[int64]*source    // by row of the master key version
	buf        []byte               // the value that was opened last
}

func (o *opener) close() { clear(o.buf[:cap(o.buf)]) }

// carefully checks the secret of a row step by step.
func (v *verifier) carefully(o *opener, row int64) error {
	rows, err := o.q.QueryContext(v.ctx, selectSecret+` WHERE s.id = ? ORDER BY l.label`, row)
	if err != nil {
		return err
	}
	var sec *secret
	if err := scanSecrets(rows, func(s *secret) error { sec = s; return nil }); err != nil || sec == nil {
		return err
	}
	return v.secret(o, sec)
}

// secret checks one secret: its record, its labels, and every version.
func (v *verifier) secret(o *opener, sec *secret) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	if err := v.s.keys.checkSecret(sec); err != nil {
		v.fail(failureOf(sec.name, err))
	}
	var count int64
	rows := map[int64]bool{}
	for after := uint64(0); ; {
		versions, err := loadDataKeysAfter(v.ctx, o.q, sec.row, after, pageSize)
		if err != nil {
			return err
		}
		if err := v.pageOfVersions(o, sec, versions); err != nil {
			return err
		}
		count += int64(len(versions))
		for _, d := range versions {
			if len(sec.labelsOf(d.row)) > 0 {
				rows[d.row] = true
			}
		}
		if len(versions) < pageSize {
			break
		}
		after = versions[len(versions)-1].number
	}
	v.counts(sec, count)
	v.labels(sec, rows)
	return nil
}

func (v *verifier) counts(sec *secret, count int64) {
	switch {
	case count == sec.versionCount:
		return
	case sec.tombstone():
		v.fail(Failure{Secret: sec.name, Error: fmt.Sprintf("the secret was purged and has %s", plural(count, "version")),
			Remedy: "reseal purge " + sec.name + " --now"})
	default:
		v.fail(failureOf(sec.name, miscounted("verify", sec, int(count))))
	}
}

// labels refuses labels that point to what is not a version of the secret.
func (v *verifier) labels(sec *secret, own map[int64]bool) {
	for _, l := range sec.labels {
		if !own[l.version] {
			v.fail(Failure{Secret: sec.name, Error: fmt.Sprintf("label %q points to no version of the secret", l.label),
				Remedy: "reseal explain " + sec.name})
		}
	}
}

func (v *verifier) pageOfVersions(o *opener, sec *secret, versions []dataKey) error {
	var drift, behind int64
	for i := range versions {
		d := &versions[i]
		k := o.keys[d.keyVersion]
		if k == nil {
			v.fail(Failure{Secret: sec.name, Version: d.number, Error: missingLink(d.keyVersion), Remedy: discardRemedy(sec, *d)})
			continue
		}
		kv, _ := k.byRow(d.keyVersion)
		switch {
		case k.row != sec.keyRow.Int64:
			drift++
			v.fail(Failure{Secret: sec.name, Version: d.number, Key: k.name, Remedy: "reseal set-key " + sec.name + " " + sec.keyName,
				Error: fmt.Sprintf("wrapped by master key %q, and the secret is configured with %q", k.name, sec.keyName)})
		case kv.number != k.primary:
			behind++
		}
		if d.number >= sec.nextNumber {
			v.fail(Failure{Secret: sec.name, Version: d.number, Key: k.name, Error: "its number was never given out", Remedy: discardRemedy(sec, *d)})
		}
		if err := v.version(o, sec, d, k, kv); err != nil {
			return err
		}
	}
	v.checked(int64(len(versions)), drift, behind)
	return nil
}

// version checks that the version's master key is not destroyed and, in a deep
// check, opens the value.
func (v *verifier) version(o *opener, sec *secret, d *dataKey, k *masterKey, kv keyVersion) error {
	if kv.destroyedAt != 0 {
		v.fail(Failure{Secret: sec.name, Version: d.number, Key: k.name, Remedy: discardRemedy(sec, *d),
			Error: fmt.Sprintf("master key version %d is destroyed", kv.number)})
		return nil
	}
	if !v.o.Deep {
		return nil
	}
	err := o.open(sec, d, k, kv)
	if err == nil {
		return nil
	}
	why, err := damageOf(err)
	if err == nil {
		v.fail(Failure{Secret: sec.name, Version: d.number, Key: k.name, Error: why, Remedy: "reseal explain " + sec.name + " --version " + formatNumber(d.number)})
	}
	return err
}

// open opens a version from the file and nothing else. Material that was
// destroyed and cleared meanwhile is read again from this snapshot.
func (o *opener) open(sec *secret, d *dataKey, k *masterKey, kv keyVersion) error {
	err := o.try(sec, d, k, kv)
	if errors.Is(err, crypto.ErrCleared) {
		delete(o.unwrapped, kv.row)
		err = o.try(sec, d, k, kv)
	}
	return err
}

// try reads the value and opens it.
func (o *opener) try(sec *secret, d *dataKey, k *masterKey, kv keyVersion) error {
	var sealed []byte
	err := o.q.QueryRowContext(context.WithoutCancel(o.v.ctx), `SELECT sealed FROM reseal_secret_versions WHERE id = ?`, d.row).Scan(&sealed)
	if err != nil {
		return err
	}
	return o.openSealed(sec, d, k, kv, sealed)
}

// openSealed unwraps the data key and opens the value.
func (o *opener) openSealed(sec *secret, d *dataKey, k *masterKey, kv keyVersion, sealed []byte) error {
	src := o.unwrapped[kv.row]
	if src == nil {
		src = &source{key: k, version: kv}
		src.material, src.err = o.v.s.keys.unwrap(context.WithoutCancel(o.v.ctx), o.q, k, kv, true)
		o.unwrapped[kv.row] = src
	}
	if src.err != nil {
		return src.err
	}
	store := o.v.s.keys.storeID
	var value [384]byte
	var wrap [192]byte
	out, err := src.material.OpenValue(o.buf[:0], sealed, d.wrapped,
		crypto.AppendValueContext(value[:0], store, sec.id, sec.name, d.number, d.versionID),
		crypto.AppendDataKeyContext(wrap[:0], store, d.versionID, k.id, kv.number))
	clear(out)
	if err == nil {
		o.buf = out
	}
	return err
}
