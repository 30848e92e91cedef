package crypto

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// Poly1305 (RFC 8439, section 2.5) is a polynomial over GF(2^130-5) in which
// the blocks of the ciphertext are coefficients. For whoever knows the keys,
// "this ciphertext has this tag" is one linear equation for each key, so that
// n free blocks satisfy n keys.
var (
	fieldPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 130), big.NewInt(5))
	two128     = new(big.Int).Lsh(big.NewInt(1), 128)
)

// onePoly is Poly1305's key, of one AEAD key and nonce.
type onePoly struct{ r, s *big.Int }

func polyOf(t *testing.T, key, nonce []byte) onePoly {
	t.Helper()
	subkey, err := chacha20.HChaCha20(key, nonce[:16])
	if err != nil {
		t.Fatal(err)
	}
	cipher, err := chacha20.NewUnauthenticatedCipher(subkey, append(make([]byte, 4), nonce[16:]...))
	if err != nil {
		t.Fatal(err)
	}
	var k [32]byte
	cipher.XORKeyStream(k[:], k[:])
	for _, i := range []int{3, 7, 11, 15} {
		k[i] &= 15
	}
	for _, i := range []int{4, 8, 12} {
		k[i] &= 252
	}
	return onePoly{littleEndian(k[:16]), littleEndian(k[16:])}
}

func littleEndian(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func block16(x *big.Int) []byte {
	b := x.FillBytes(make([]byte, 16))
	slices.Reverse(b)
	return b
}

// oneForAll returns a ciphertext with its tag, one block for each key, that
// XChaCha20-Poly1305 opens under every key with this nonce and additional
// data.
func oneForAll(t *testing.T, keys [][]byte, nonce, additionalData []byte) []byte {
	t.Helper()
	n := len(keys)
	padded := append(slices.Clone(additionalData), make([]byte, -len(additionalData)&15)...)
	lengths := binary.LittleEndian.AppendUint64(nil, uint64(len(additionalData)))
	lengths = binary.LittleEndian.AppendUint64(lengths, uint64(16*n))
	rows, fixed, polys := make([][]*big.Int, n), make([]*big.Int, n), make([]onePoly, n)
	for i, key := range keys {
		polys[i] = polyOf(t, key, nonce)
		// What the tag would be if every free block were zero.
		message := slices.Concat(padded, make([]byte, 16*n), lengths)
		fixed[i] = polynomial(polys[i].r, message)
		for j := range n {
			power := big.NewInt(int64(n - j + 1)) // the length block comes after
			rows[i] = append(rows[i], new(big.Int).Exp(polys[i].r, power, fieldPrime))
		}
	}
	inverse := invert(t, rows)
	for range 1 << 17 {
		if sealed := tryTag(inverse, fixed, polys); sealed != nil {
			return sealed
		}
	}
	t.Fatal("no tag has a solution, one in 4^n should")
	return nil
}

// tryTag solves for the free blocks under a random tag. A solution is of use
// if each block fits 128 bits, which about one in four does.
func tryTag(inverse [][]*big.Int, fixed []*big.Int, polys []onePoly) []byte {
	var raw [16]byte
	rand.Read(raw[:])
	tag := littleEndian(raw[:])
	want := make([]*big.Int, len(polys))
	for i, p := range polys {
		want[i] = new(big.Int).Sub(tag, p.s)
		want[i].Mod(want[i], two128)
		want[i].Sub(want[i], fixed[i])
	}
	var sealed []byte
	for _, row := range inverse {
		x := new(big.Int)
		for j, c := range row {
			x.Add(x, new(big.Int).Mul(c, want[j]))
		}
		x.Mod(x, fieldPrime)
		if x.Cmp(two128) >= 0 {
			return nil
		}
		sealed = append(sealed, block16(x)...)
	}
	return append(sealed, raw[:]...)
}

// polynomial is Poly1305 of whole blocks before s is added.
func polynomial(r *big.Int, message []byte) *big.Int {
	h := new(big.Int)
	for b := range slices.Chunk(message, 16) {
		h.Add(h, littleEndian(b))
		h.Add(h, two128)
		h.Mul(h, r)
		h.Mod(h, fieldPrime)
	}
	return h
}

// invert is Gauss and Jordan over GF(2^130-5).
func invert(t *testing.T, rows [][]*big.Int) [][]*big.Int {
	t.Helper()
	n := len(rows)
	m := make([][]*big.Int, n)
	for i := range m {
		m[i] = slices.Clone(rows[i])
		for range n {
			m[i] = append(m[i], new(big.Int))
		}
		m[i][n+i].SetInt64(1)
	}
	for c := range n {
		pivot := slices.IndexFunc(m[c:], func(row []*big.Int) bool { return row[c].Sign() != 0 })
		if pivot < 0 {
			t.Fatal("two keys have the same r")
		}
		m[c], m[c+pivot] = m[c+pivot], m[c]
		scale(m[c], new(big.Int).ModInverse(m[c][c], fieldPrime))
		for i := range n {
			if i != c {
				subtract(m[i], m[c], m[i][c])
			}
		}
	}
	for i := range m {
		m[i] = m[i][n:]
	}
	return m
}

func scale(row []*big.Int, by *big.Int) {
	for j, x := range row {
		row[j] = new(big.Int).Mul(x, by)
		row[j].Mod(row[j], fieldPrime)
	}
}

func subtract(row, other []*big.Int, times *big.Int) {
	for j, x := range row {
		row[j] = new(big.Int).Mul(other[j], times)
		row[j].Sub(x, row[j])
		row[j].Mod(row[j], fieldPrime)
	}
}

// countOpening returns how many keys open sealed with the bare AEAD.
func countOpening(t *testing.T, keys [][]byte, nonce, sealed, additionalData []byte) (n int) {
	t.Helper()
	for _, key := range keys {
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := aead.Open(nil, nonce, sealed, additionalData); err == nil {
			n++
		}
	}
	return n
}

// TestOneCiphertextUnderSixKeys makes one ciphertext that the bare AEAD opens
// under six keys, then does the same for an envelope: it knows six envelope
// keys, derives what seals under each, and makes one ciphertext that opens
// under all six of those with the prelude of one. Only the commitment is in
// its way, and one key is left.
func TestOneCiphertextUnderSixKeys(t *testing.T) {
	const n = 6
	start := time.Now()
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	keys := make([][]byte, n)
	for i := range keys {
		keys[i] = make([]byte, KeySize)
		rand.Read(keys[i])
	}
	bare := oneForAll(t, keys, nonce[:], []byte("additional data"))
	if got := countOpening(t, keys, nonce[:], bare, []byte("additional data")); got != n {
		t.Fatalf("the bare AEAD opens it under %d of %d keys", got, n)
	}
	t.Logf("one ciphertext under %d keys after %v", n, time.Since(start))

	context := AppendValueContext(nil, ID{1}, ID{2}, "name", 1, ID{3})
	each := make([]derived, n)
	var seals [][]byte
	for i, key := range keys {
		p := newPRF()
		p.setKey((*[KeySize]byte)(key))
		each[i].derive(p, append([]byte(header), nonce[:]...), context)
		seals = append(seals, each[i].key[:])
	}
	for i := range each {
		prelude := slices.Concat([]byte(header), nonce[:], each[i].commitment[:])
		sealed := oneForAll(t, seals, nonce[:], prelude)
		if got := countOpening(t, seals, nonce[:], sealed, prelude); got != n {
			t.Fatalf("without the commitment it opens under %d of %d keys", got, n)
		}
		envelopeOpensUnderOneKey(t, keys, i, append(prelude, sealed...), context)
	}
}

func envelopeOpensUnderOneKey(t *testing.T, keys [][]byte, only int, envelope, context []byte) {
	t.Helper()
	for i, raw := range keys {
		key, err := KeyFromBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = key.Open(nil, envelope, context)
		if i == only && err != nil {
			t.Errorf("key %d, whose commitment it has: %v", i, err)
		}
		if i != only && !errors.Is(err, ErrWrongKeyOrContext) {
			t.Errorf("key %d, with the commitment of key %d: got %v, want ErrWrongKeyOrContext", i, only, err)
		}
	}
}
