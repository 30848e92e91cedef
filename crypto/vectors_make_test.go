package crypto_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
)

// The vectors are frozen: rewriting them is right only to add some.
var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

// TestVectorsAreReproducible makes the vectors file again from a fixed source
// of randomness and compares it with the one that is there.
func TestVectorsAreReproducible(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	m := &maker{t: t}
	m.make()
	made, err := json.MarshalIndent(m.vectors, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	made = append(made, '\n')
	if *update {
		if err := os.WriteFile(vectorsFile, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(there, made) {
		t.Errorf("%s (-there +made):\n%s", vectorsFile, cmp.Diff(string(there), string(made)))
	}
}

// maker makes vectors. Everything random comes from crypto/rand.
type maker struct {
	t *testing.T
	vectors
}

func text(s string) field     { return field{Text: &s} }
func rawID(i crypto.ID) field { b := hexBytes(i[:]); return field{ID: &b} }
func raw(b []byte) field      { h := hexBytes(b); return field{Raw: &h} }
func number(n uint64) field   { s := strconv.FormatUint(n, 10); return field{Number: &s} }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (m *maker) key(raw []byte) *crypto.Key {
	m.t.Helper()
	k, err := crypto.KeyFromBytes(raw)
	if err != nil {
		m.t.Fatal(err)
	}
	return k
}

// envelope adds a vector and returns it. The context is what the package's own
// function gave; fields say the same in the vector's terms.
func (m *maker) envelope(name string, key, plaintext, context []byte, fields ...field) envelopeVector {
	m.t.Helper()
	if diff := cmp.Diff(context, encode(fields)); diff != "" {
		m.t.Fatalf("%s: the fields are not the context (-context +fields):\n%s", name, diff)
	}
	sealed, err := m.key(key).Seal(nil, plaintext, context)
	if err != nil {
		m.t.Fatal(err)
	}
	v := envelopeVector{Name: name, Key: key, Fields: fields, Context: context, Nonce: sealed[4:28]}
	if len(plaintext) > 1024 {
		sum := sha256.Sum256(sealed)
		v.Generated, v.SHA256 = len(plaintext), sum[:]
	} else {
		v.Plaintext, v.Envelope = plaintext, sealed
	}
	m.Envelopes = append(m.Envelopes, v)
	return v
}

func (m *maker) refuse(v negativeVector) { m.Negative = append(m.Negative, v) }

func (m *maker) make() {
	m.Format = "reseal format 1, suite 0x01"
	store, root, slot := crypto.NewID(), crypto.NewID(), crypto.NewID()
	masterKey, secret, version := crypto.NewID(), crypto.NewID(), crypto.NewID()
	rootKey, master, data := random(32), random(32), random(32)
	weak := crypto.KDF{Time: 1, Memory: 64, Threads: 1, Salt: random(16)}
	weakKey := m.kdf("one pass, one lane", "correct horse battery staple", weak)
	m.kdf("two passes, four lanes", "пароль", crypto.KDF{Time: 2, Memory: 67, Threads: 4, Salt: random(16)})
	m.kdf("empty passphrase", "", crypto.KDF{Time: 1, Memory: 8, Threads: 1, Salt: random(16)})
	strong := crypto.DefaultKDF()
	strongKey := m.kdf("default parameters", "correct horse battery staple", strong)
	fileKey := random(32)
	m.keyFiles(fileKey)

	byPassphrase := func(name string, key []byte, k crypto.KDF) envelopeVector {
		return m.envelope(name, key, rootKey,
			crypto.AppendRootContext(nil, store, root, slot, "passphrase", crypto.KDFArgon2id, k),
			text("reseal/v1/root"), rawID(store), rawID(root), rawID(slot), text("passphrase"), text("argon2id"),
			number(uint64(k.Time)), number(uint64(k.Memory)), number(uint64(k.Threads)), raw(k.Salt))
	}
	made := []envelopeVector{
		byPassphrase("root by passphrase", weakKey, weak),
		byPassphrase("root by passphrase, default parameters", strongKey, strong),
		m.envelope("root by key file", fileKey, rootKey,
			crypto.AppendRootContext(nil, store, root, slot, "key-file", "", crypto.KDF{}),
			text("reseal/v1/root"), rawID(store), rawID(root), rawID(slot), text("key-file"), text(""),
			number(0), number(0), number(0), raw([]byte{})),
		m.envelope("integrity", rootKey, random(32), crypto.AppendIntegrityContext(nil, store, root),
			text("reseal/v1/integrity"), rawID(store), rawID(root)),
		m.envelope("master", rootKey, master, crypto.AppendMasterContext(nil, store, root, masterKey, 2),
			text("reseal/v1/master"), rawID(store), rawID(root), rawID(masterKey), number(2)),
		m.envelope("data-key", master, data, crypto.AppendDataKeyContext(nil, store, version, masterKey, 2),
			text("reseal/v1/data-key"), rawID(store), rawID(version), rawID(masterKey), number(2)),
	}
	var value envelopeVector
	for _, n := range []int{1, 15, 16, 64, 100, 256, 64<<10 - 1, 64 << 10} {
		v := m.value(fmt.Sprintf("value of %d bytes", n), random(32), generated(n), store, secret, "prod/db/password", 3, version)
		if n == 16 {
			value = v
		}
	}
	m.value("value, largest number and a name in Greek", random(32), []byte("x"), store, secret, "όνομα", 1<<64-1, version)

	for _, v := range append(made, value) {
		m.contexts(v)
	}
	m.bytes(value, data)
	m.wraps(made[len(made)-1])
	m.kdfBounds()
	m.badKeyFiles(fileKey)
	for _, n := range []int{100, 10_000} {
		m.Accumulated = append(m.Accumulated, accumulated{Count: n, SHA256: accumulate(m.t, n)})
	}
	m.receipts()
}

// receipts adds the tags of two receipts: of a whole one, and of one with as
// little in it as possible.
func (m *maker) receipts() {
	store, job := crypto.NewID(), crypto.NewID()
	sum := sha256.Sum256([]byte("ids and wraps"))
	m.tag("receipt",
		text("reseal/v1/tag/receipt"), rawID(store), rawID(job), text("reencrypt"), text("mk-1"), text("mk-2"), number(3), text("prod/"),
		number(1_790_000_000_000), number(10_000), number(0), number(10_002), number(2), number(0), text(fmt.Sprintf("%x", sum)), number(1), number(1),
		text("all"), number(10_000), number(7), number(1), text(""), number(1_790_000_100_000), number(1_790_000_123_456),
		text("reseal.db"), number(8_388_608), number(7), text("reseal.db-wal"), number(4_152), number(1))
	m.tag("receipt without residue",
		text("reseal/v1/tag/receipt"), rawID(store), rawID(job), text("rewrap"), text("mk-1"), text("mk-1"), number(2), text(""),
		number(0), number(0), number(0), number(0), number(0), number(1), text(fmt.Sprintf("%x", sum)), number(0), number(0),
		text("none"), number(0), number(0), number(0), text("the file is the host's"), number(1_790_000_100_000), number(1_790_000_123_456))
}

// tag adds the tag of a record.
func (m *maker) tag(name string, fields ...field) {
	m.t.Helper()
	v := tagVector{Name: name, Key: random(32), Fields: fields, Record: encode(fields)}
	var err error
	if v.Tag, err = m.key(v.Key).MAC(nil, v.Record); err != nil {
		m.t.Fatal(err)
	}
	m.Tags = append(m.Tags, v)
}

func (m *maker) value(name string, key, plaintext []byte, store, secret crypto.ID, secretName string, n uint64, version crypto.ID) envelopeVector {
	return m.envelope(name, key, plaintext, crypto.AppendValueContext(nil, store, secret, secretName, n, version),
		text("reseal/v1/value"), rawID(store), rawID(secret), text(secretName), number(n), rawID(version))
}

func (m *maker) kdf(name, passphrase string, k crypto.KDF) []byte {
	m.t.Helper()
	key, err := crypto.DeriveKey([]byte(passphrase), k)
	if err != nil {
		m.t.Fatal(err)
	}
	material, err := crypto.RawKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	p := kdfParameters{Time: k.Time, Memory: k.Memory, Threads: k.Threads, Salt: k.Salt}
	m.KDFs = append(m.KDFs, kdfVector{Name: name, Passphrase: []byte(passphrase), KDF: p, Key: material})
	return material
}

func (m *maker) keyFiles(key []byte) {
	file, err := crypto.EncodeKeyFile(m.key(key))
	if err != nil {
		m.t.Fatal(err)
	}
	good := string(file)
	line := good[strings.Index(good, "reseal-key-v1:"):]
	m.KeyFiles = []keyFileVector{
		{"as written", good, key},
		{"without the comment and the last newline", strings.TrimSpace(line), key},
		{"line ends of Windows", strings.ReplaceAll(good, "\n", "\r\n"), key},
		{"spaces, tabs, empty lines and comments around", "\n# a\n \t" + strings.TrimSpace(line) + " \t\n\n  # b\n", key},
		{"capital digits", strings.Replace(strings.ToUpper(line), "RESEAL-KEY-V1", "reseal-key-v1", 1), key},
	}
}

func (m *maker) badKeyFiles(key []byte) {
	file, err := crypto.EncodeKeyFile(m.key(key))
	if err != nil {
		m.t.Fatal(err)
	}
	good := string(file)
	line := strings.TrimSpace(good[strings.Index(good, "reseal-key-v1:"):])
	flipped := []byte(line)
	flipped[20] ^= 1
	for _, c := range []struct{ name, text string }{
		{"empty", ""},
		{"comments only", "# nothing here\n\n"},
		{"unknown version", strings.Replace(line, "v1", "v2", 1)},
		{"capital prefix", strings.ToUpper(line)},
		{"a digit mistyped", string(flipped)},
		{"not a digit", strings.Replace(line, line[20:21], "g", 1)},
		{"check digits wrong", line[:len(line)-8] + "00000000"},
		{"last check digit altered", line[:len(line)-1] + string(line[len(line)-1]^1)},
		{"check digits not digits", line[:len(line)-1] + "x"},
		{"check digits cut", line[:len(line)-1]},
		{"no check digits", line[:len(line)-9]},
		{"key cut", line[:70] + line[len(line)-9:]},
		{"key of 31 bytes with its check digits", keyLine(key[:31])},
		{"key of 33 bytes with its check digits", keyLine(append(bytes.Clone(key), 0))},
		{"one digit too many", line + "0"},
		{"two keys", line + "\n" + line + "\n"},
		{"comment after the key", line + " # mine"},
		{"byte order mark", "\ufeff" + line},
		{"longer than 4096 bytes", line + strings.Repeat("\n", 4096)},
	} {
		m.refuse(negativeVector{Name: "key file: " + c.name, Kind: "key-file", Expect: "key-file", Text: c.text})
	}
}

// keyLine is the line of a key file for a key of any length.
func keyLine(key []byte) string {
	sum := sha256.Sum256(key)
	return fmt.Sprintf("reseal-key-v1:%x:%x", key, sum[:4])
}

// contexts adds v with each field of its context changed, exchanged with its
// neighbour, moved across the boundary to it, left out and doubled.
func (m *maker) contexts(v envelopeVector) {
	elsewhere := func(what string, i int, context []byte) {
		if bytes.Equal(context, v.Context) {
			return // exchanging two equal fields changes nothing
		}
		name := fmt.Sprintf("%s: context field %d %s", v.Name, i, what)
		m.refuse(negativeVector{Name: name, Kind: "envelope", Expect: "wrong-key-or-context", Key: v.Key, Context: context, Envelope: v.Envelope})
	}
	var plain [][]byte
	for _, f := range v.Fields {
		plain = append(plain, encode([]field{text(""), f})[12:])
	}
	for i, f := range plain {
		changed := slices.Clone(plain)
		changed[i] = append(bytes.Clone(f), 0)
		elsewhere("longer by a zero byte", i, record(changed))
		if len(f) > 0 {
			changed[i] = bytes.Clone(f)
			changed[i][len(f)-1] ^= 1
			elsewhere("altered", i, record(changed))
			changed[i] = f[:len(f)-1]
			elsewhere("cut", i, record(changed))
		}
		elsewhere("left out", i, record(slices.Delete(slices.Clone(plain), i, i+1)))
		elsewhere("doubled", i, record(slices.Insert(slices.Clone(plain), i, f)))
		if i+1 < len(plain) {
			next := plain[i+1]
			swapped := slices.Clone(plain)
			swapped[i], swapped[i+1] = next, f
			elsewhere("exchanged with the next", i, record(swapped))
			if len(f) > 0 {
				moved := slices.Clone(plain)
				moved[i], moved[i+1] = f[:len(f)-1], append([]byte{f[len(f)-1]}, next...)
				elsewhere("moved its last byte to the next", i, record(moved))
			}
			joined := slices.Clone(plain)
			joined[i] = slices.Concat(f, next)
			elsewhere("joined with the next", i, record(slices.Delete(joined, i+1, i+2)))
		}
	}
	for _, label := range []string{"root", "integrity", "master", "data-key", "value"} {
		changed := slices.Clone(plain)
		changed[0] = []byte("reseal/v1/" + label)
		elsewhere("of purpose "+label, 0, record(changed))
	}
	m.refuse(negativeVector{Name: v.Name + ": empty context", Kind: "envelope", Expect: "wrong-key-or-context", Key: v.Key, Envelope: v.Envelope})
	m.refuse(negativeVector{Name: v.Name + ": context fields without lengths", Kind: "envelope", Expect: "wrong-key-or-context",
		Key: v.Key, Context: slices.Concat(plain...), Envelope: v.Envelope})
}

// record encodes fields, the label first.
func record(fields [][]byte) []byte {
	if len(fields) == 0 {
		return []byte{0, 0, 0, 0}
	}
	r := crypto.NewRecord(nil, string(fields[0]))
	for _, f := range fields[1:] {
		r = r.Raw(f)
	}
	return r.Bytes()
}

// bytes adds v with each part of the envelope altered, and under other keys.
func (m *maker) bytes(v envelopeVector, otherKey []byte) {
	add := func(name, expect string, key, envelope []byte) {
		m.refuse(negativeVector{Name: name, Kind: "envelope", Expect: expect, Key: key, Context: v.Context, Envelope: envelope})
	}
	n := len(v.Envelope)
	for _, size := range []int{0, 1, 3, 4, 28, 60, crypto.Overhead - 1} {
		add(fmt.Sprintf("cut to %d bytes", size), "format", v.Key, v.Envelope[:size])
	}
	add("without its last byte", "damaged", v.Key, v.Envelope[:n-1])
	add("with a byte more", "damaged", v.Key, append(bytes.Clone(v.Envelope), 0))
	add("with a byte before", "format", v.Key, append([]byte{0}, v.Envelope...))
	add("only its overhead", "damaged", v.Key, v.Envelope[:crypto.Overhead])
	for _, c := range []struct {
		part, expect string
		at           int
	}{
		{"magic byte 0", "format", 0}, {"magic byte 1", "format", 1}, {"magic byte 2", "format", 2},
		{"suite, to 0x00", "format", 3},
		{"nonce, first byte", "wrong-key-or-context", 4}, {"nonce, last byte", "wrong-key-or-context", 27},
		{"commitment, first byte", "wrong-key-or-context", 28}, {"commitment, last byte", "wrong-key-or-context", 59},
		{"ciphertext, first byte", "damaged", 60}, {"ciphertext, last byte", "damaged", n - 17},
		{"tag, first byte", "damaged", n - 16}, {"tag, last byte", "damaged", n - 1},
	} {
		altered := bytes.Clone(v.Envelope)
		altered[c.at] ^= 1
		add("altered: "+c.part, c.expect, v.Key, altered)
	}
	suite := bytes.Clone(v.Envelope)
	suite[3] = 2
	add("unknown suite 0x02", "format", v.Key, suite)
	add("unknown suite 0x02 under a wrong key", "format", otherKey, suite)
	both := bytes.Clone(v.Envelope)
	both[28] ^= 1
	both[n-1] ^= 1
	add("commitment and tag altered", "wrong-key-or-context", v.Key, both)
	m.spliced(v, add)
	m.keys(v, otherKey, add)
}

// spliced adds mixtures of v and another envelope of the same key, context and
// plaintext.
func (m *maker) spliced(v envelopeVector, add func(name, expect string, key, envelope []byte)) {
	other, err := m.key(v.Key).Seal(nil, v.Plaintext, v.Context)
	if err != nil {
		m.t.Fatal(err)
	}
	n := len(other)
	add("ciphertext and tag of another envelope", "damaged", v.Key, slices.Concat(v.Envelope[:60], other[60:]))
	add("tag of another envelope", "damaged", v.Key, slices.Concat(v.Envelope[:n-16], other[n-16:]))
	add("nonce of another envelope", "wrong-key-or-context", v.Key, slices.Concat(v.Envelope[:4], other[4:28], v.Envelope[28:]))
	add("commitment of another envelope", "wrong-key-or-context", v.Key, slices.Concat(v.Envelope[:28], other[28:60], v.Envelope[60:]))
}

func (m *maker) keys(v envelopeVector, otherKey []byte, add func(name, expect string, key, envelope []byte)) {
	add("another key", "wrong-key-or-context", otherKey, v.Envelope)
	for _, at := range []int{0, 31} {
		near := bytes.Clone(v.Key)
		near[at] ^= 1
		add(fmt.Sprintf("a key with one bit altered in byte %d", at), "wrong-key-or-context", near, v.Envelope)
	}
	add("a key of zeros", "wrong-key-or-context", make([]byte, 32), v.Envelope)
	add("no key", "key-length", []byte{}, v.Envelope)
	add("a key of 16 bytes", "key-length", v.Key[:16], v.Envelope)
	add("a key of 31 bytes", "key-length", v.Key[:31], v.Envelope)
	add("a key of 33 bytes", "key-length", append(bytes.Clone(v.Key), 0), v.Envelope)
	add("a key of 64 bytes", "key-length", slices.Concat(v.Key, v.Key), v.Envelope)
}

// wraps adds envelopes that are sound and do not hold a key.
func (m *maker) wraps(v envelopeVector) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		sealed, err := m.key(v.Key).Seal(nil, make([]byte, n), v.Context)
		if err != nil {
			m.t.Fatal(err)
		}
		m.refuse(negativeVector{Name: fmt.Sprintf("wrap of %d bytes", n), Kind: "wrap", Expect: "format", Key: v.Key, Context: v.Context, Envelope: sealed})
	}
}

func (m *maker) kdfBounds() {
	salt := make([]byte, 16)
	for _, c := range []struct {
		name string
		kdf  kdfParameters
	}{
		{"all zero", kdfParameters{Salt: []byte{}}},
		{"time 0", kdfParameters{0, 64, 1, salt}},
		{"time 65", kdfParameters{65, 64, 1, salt}},
		{"largest time", kdfParameters{1<<32 - 1, 64, 1, salt}},
		{"threads 0", kdfParameters{1, 64, 0, salt}},
		{"threads 65", kdfParameters{1, 1024, 65, salt}},
		{"memory 0", kdfParameters{1, 0, 1, salt}},
		{"memory 7 KiB", kdfParameters{1, 7, 1, salt}},
		{"memory less than 8 KiB a lane", kdfParameters{1, 31, 4, salt}},
		{"memory over 2 GiB", kdfParameters{1, 1<<21 + 1, 1, salt}},
		{"largest memory", kdfParameters{1, 1<<32 - 1, 1, salt}},
		{"passes times memory over 16 GiB", kdfParameters{9, 1 << 21, 4, salt}},
		{"no salt", kdfParameters{1, 64, 1, []byte{}}},
		{"salt of 15 bytes", kdfParameters{1, 64, 1, salt[:15]}},
		{"salt of 17 bytes", kdfParameters{1, 64, 1, make([]byte, 17)}},
	} {
		m.refuse(negativeVector{Name: "KDF: " + c.name, Kind: "kdf", Expect: "kdf", KDF: &c.kdf})
	}
}
