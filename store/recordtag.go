package store

import (
	"crypto/subtle"

	"github.com/reseal/reseal/crypto"
)

// A record tag is HMAC-SHA-256, under the integrity key, of what decides what
// a caller gets and is not a ciphertext: a secret's name, configured key,
// dates, counts and labels; a master key's name, state and versions; the state
// row. It is written in the transaction of each change and checked before use.
// The fields are listed in docs/format.md.

// tag returns the MAC of record.
func (r *keyring) tag(record []byte) ([]byte, error) {
	return r.integrity.MAC(make([]byte, 0, 32), record)
}

// checkTag returns an ErrDamaged that says what, if tag is not record's MAC.
func (r *keyring) checkTag(tag, record []byte, what string) error {
	var buf [32]byte
	want, err := r.integrity.MAC(buf[:0], record)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, tag) != 1 {
		return damaged("%s", what)
	}
	return nil
}

func (r *keyring) stateRecord(dst []byte, st *state) []byte {
	return crypto.NewRecord(dst, "reseal/v1/tag/state").
		ID(st.storeID).
		ID(st.rootID).
		Raw(st.nextRootID).
		Raw(st.defaultID).
		Number(uint64(st.generation)).
		Number(uint64(st.auditCount)).
		Raw(st.auditHead).
		Number(uint64(st.createdAt)).
		Bytes()
}

func (r *keyring) masterKeyRecord(dst []byte, k *masterKey) []byte {
	rec := crypto.NewRecord(dst, "reseal/v1/tag/master-key").
		ID(r.storeID).
		ID(k.id).
		Text(k.name).
		Text(string(k.state)).
		Number(k.primary).
		Number(uint64(k.deletionAt)).
		Number(uint64(k.createdAt))
	for _, v := range k.versions {
		rec = rec.Number(v.number).Text(string(k.versionState(v)))
	}
	return rec.Bytes()
}

func (r *keyring) secretRecord(dst []byte, sec *secret) []byte {
	rec := crypto.NewRecord(dst, "reseal/v1/tag/secret").
		ID(r.storeID).
		ID(sec.id).
		Text(sec.name).
		Raw(sec.keyID).
		Number(uint64(sec.deletedAt)).
		Number(uint64(sec.purgeAt)).
		Number(sec.nextNumber).
		Number(uint64(sec.versionCount))
	for _, l := range sec.labels {
		rec = rec.Text(l.label).ID(l.versionID)
	}
	return rec.Bytes()
}
