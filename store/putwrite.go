package store

import (
	"slices"

	"github.com/reseal/reseal/crypto"
)

// putDetail is what the event of a put tells, its fields by name as everywhere.
type putDetail struct {
	KeyVersion uint64 `json:"key_version"`
	Label      string `json:"label"`
	Version    uint64 `json:"version"`
	VersionID  string `json:"version_id"`
}

// newVersion is a secret version that is ready to be written.
type newVersion struct {
	label
	keyVersion      int64 // row of the master key version
	sealed, wrapped []byte
}

const (
	insertSecret = `
		INSERT INTO reseal_secrets (secret_id, name, master_key, next_number, version_count, created_at, updated_at, tag)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
	insertVersion = `
		INSERT INTO reseal_secret_versions (version_id, secret, number, created_at, token, sealed)
		VALUES (?, ?, ?, ?, NULLIF(?, ''), ?)`
	insertDataKey = `
		INSERT INTO reseal_data_keys (id, master_key_version, wrapped, made_at)
		VALUES (?, ?, ?, ?)`
	insertLabel = `
		INSERT INTO reseal_labels (secret, label, secret_version)
		VALUES (?, ?, ?)`
)

// writePut seals the value as the secret's next version and moves the labels to
// it. The ids that the contexts name are chosen here, inside the transaction.
func (t *tx) writePut(plan *putPlan) (PutResult, error) {
	kv, wrapper, err := t.memo.wrapper(t, plan.key)
	if err != nil {
		return plan.res, putKeyError(err, plan.sec)
	}
	v, err := t.sealPut(plan, kv, wrapper)
	if err != nil {
		return plan.res, err
	}
	if plan.sec.row == 0 {
		err = t.writeFirst(plan, &v)
	} else {
		err = t.writeNext(plan, &v)
	}
	if err != nil {
		return plan.res, err
	}
	t.notePut(plan, &v, kv)
	return plan.res, t.describe(plan.sec, plan.put)
}

// notePut notes the event and the result of a version that was written.
func (t *tx) notePut(plan *putPlan, v *newVersion, kv keyVersion) {
	plan.res.Version, plan.res.Key, plan.res.KeyVersion = v.number, plan.key.name, kv.number
	t.audit(event{action: "put", secret: plan.sec.name, key: plan.key.name,
		detail: putDetail{KeyVersion: kv.number, Label: plan.Label, Version: v.number, VersionID: v.versionID.String()}})
}

func (t *tx) sealPut(plan *putPlan, kv keyVersion, wrapper *crypto.Key) (newVersion, error) {
	sec, ring := plan.sec, t.s.keys
	v := newVersion{label: label{versionID: crypto.NewID(), number: sec.nextNumber}, keyVersion: kv.row}
	var buf [384]byte
	var small [192]byte
	var err error
	v.sealed, v.wrapped, err = wrapper.SealValue(nil, nil, plan.value,
		crypto.AppendValueContext(buf[:0], ring.storeID, sec.id, sec.name, v.number, v.versionID),
		crypto.AppendDataKeyContext(small[:0], ring.storeID, v.versionID, plan.key.id, kv.number))
	sec.nextNumber++
	sec.versionCount++
	return v, err
}

// writeFirst writes a new secret with its first version. The secret's row is
// written once: its tag covers no row's number.
func (t *tx) writeFirst(plan *putPlan, v *newVersion) error {
	sec := plan.sec
	for _, name := range slices.Compact([]string{LabelCurrent, plan.Label}) {
		l := v.label
		l.label = name
		sec.labels = append(sec.labels, l)
	}
	sortLabels(sec.labels)
	if err := t.insertSecret(sec); err != nil {
		return err
	}
	if err := t.insertVersion(plan, v); err != nil {
		return err
	}
	for i := range sec.labels {
		sec.labels[i].version = v.version
		if _, err := t.exec(insertLabel, sec.row, sec.labels[i].label, v.version); err != nil {
			return err
		}
	}
	return nil
}

// writeNext writes another version of a secret.
func (t *tx) writeNext(plan *putPlan, v *newVersion) error {
	sec := plan.sec
	if err := t.insertVersion(plan, v); err != nil {
		return err
	}
	if err := t.moveLabel(sec, plan.Label, v.label); err != nil {
		return err
	}
	if v.number == 1 || plan.res.Created {
		if err := t.moveLabel(sec, LabelCurrent, v.label); err != nil {
			return err
		}
	}
	return t.saveSecret(sec)
}

func (t *tx) insertSecret(sec *secret) error {
	var buf [512]byte
	tag, err := t.s.keys.tag(t.s.keys.secretRecord(buf[:0], sec))
	if err != nil {
		return err
	}
	res, err := t.exec(insertSecret, sec.id[:], sec.name, sec.keyRow, sec.nextNumber, sec.versionCount, t.now, t.now, tag)
	if err != nil {
		return err
	}
	if sec.row, err = res.LastInsertId(); err != nil {
		return err
	}
	sec.tag = tag
	return t.rows.change(t.s.keys, secretRows, 1, sec.id[:])
}

// insertVersion writes a version with its data key, and notes its row.
func (t *tx) insertVersion(plan *putPlan, v *newVersion) error {
	ins, err := t.exec(insertVersion, v.versionID[:], plan.sec.row, v.number, t.now, plan.Token, v.sealed)
	if err != nil {
		return err
	}
	v.version, err = ins.LastInsertId()
	if err := firstError(err, t.rows.change(t.s.keys, versionRows, 1, v.versionID[:])); err != nil {
		return err
	}
	_, err = t.exec(insertDataKey, v.version, v.keyVersion, v.wrapped, max(0, t.now))
	return err
}
