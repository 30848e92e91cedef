package crypto

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
)

// ID names a store, root key, unseal slot, master key, secret or secret
// version: 16 raw random bytes, never reused.
type ID [16]byte

// NewID returns a fresh random ID.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails, crypto/rand
	return id
}

// String returns the 32 lower-case hexadecimal digits of the ID.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Record is a list of fields in an injective encoding: different lists never
// give the same bytes.
//
//	u32be(n) ‖ for each of the n fields: u32be(len) ‖ field
//
// The first field is the purpose label. Integers are u64be, ids 16 raw bytes,
// text its UTF-8 bytes. An envelope's context is a Record: it says where the
// envelope belongs, is authenticated and not stored again, so that an envelope
// that was moved to another place does not open there. So is what the store
// authenticates with MAC.
//
// Each method returns the extended Record; the one it was called on must not
// be used again. A field is shorter than 4 GiB.
type Record struct {
	b  []byte
	at int
}

// NewRecord starts a record at the end of dst with its purpose label.
func NewRecord(dst []byte, label string) Record {
	return Record{b: append(dst, 0, 0, 0, 0), at: len(dst)}.Text(label)
}

// Text adds s.
func (r Record) Text(s string) Record {
	r.b = binary.BigEndian.AppendUint32(r.b, uint32(len(s)))
	r.b = append(r.b, s...)
	return r.count()
}

// Raw adds b.
func (r Record) Raw(b []byte) Record {
	r.b = binary.BigEndian.AppendUint32(r.b, uint32(len(b)))
	r.b = append(r.b, b...)
	return r.count()
}

// ID adds id.
func (r Record) ID(id ID) Record { return r.Raw(id[:]) }

// Number adds n.
func (r Record) Number(n uint64) Record {
	r.b = binary.BigEndian.AppendUint32(r.b, 8)
	r.b = binary.BigEndian.AppendUint64(r.b, n)
	return r.count()
}

// Bytes returns dst with the encoded record appended.
func (r Record) Bytes() []byte { return r.b }

func (r Record) count() Record {
	n := binary.BigEndian.Uint32(r.b[r.at:])
	binary.BigEndian.PutUint32(r.b[r.at:], n+1)
	return r
}

// AppendRootContext appends the context of a root key wrapped by an unseal
// slot. A key file has the kdf "" and a zero KDF.
func AppendRootContext(dst []byte, store, root, slot ID, kind, kdf string, params KDF) []byte {
	return NewRecord(dst, "reseal/v1/root").
		ID(store).ID(root).ID(slot).Text(kind).Text(kdf).
		Number(uint64(params.Time)).Number(uint64(params.Memory)).Number(uint64(params.Threads)).
		Raw(params.Salt).Bytes()
}

// AppendIntegrityContext appends the context of the integrity key wrapped by
// the root key.
func AppendIntegrityContext(dst []byte, store, root ID) []byte {
	return NewRecord(dst, "reseal/v1/integrity").ID(store).ID(root).Bytes()
}

// AppendMasterContext appends the context of a master key version wrapped by
// the root key.
func AppendMasterContext(dst []byte, store, root, masterKey ID, version uint64) []byte {
	return NewRecord(dst, "reseal/v1/master").ID(store).ID(root).ID(masterKey).Number(version).Bytes()
}

// AppendDataKeyContext appends the context of a data key wrapped by a master
// key version.
func AppendDataKeyContext(dst []byte, store, secretVersion, masterKey ID, masterKeyVersion uint64) []byte {
	return NewRecord(dst, "reseal/v1/data-key").ID(store).ID(secretVersion).ID(masterKey).Number(masterKeyVersion).Bytes()
}

// AppendValueContext appends the context of a value sealed by its data key.
// The master key is not part of it: a rewrap never touches values.
func AppendValueContext(dst []byte, store, secret ID, name string, number uint64, version ID) []byte {
	return NewRecord(dst, "reseal/v1/value").ID(store).ID(secret).Text(name).Number(number).ID(version).Bytes()
}
