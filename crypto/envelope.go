// Package crypto makes and opens reseal's envelopes: wrapped keys and sealed
// values, each bound to one key and one place.
//
// It knows no SQL, file, name service or clock. A program that wants to keep
// secrets wants package store; this package is for reading reseal's bytes by
// other means and for the store itself. The bytes are specified in
// docs/format.md and will not change under the same suite.
//
// Two nouns, two verbs: keys are wrapped and unwrapped, values are sealed and
// opened. Data keys never leave this package: [Key.SealValue] makes one,
// [Key.OpenValue] uses it, [Rewrap] moves it, [Reencrypt] replaces it.
package crypto

import (
	"crypto/rand"
	"crypto/subtle"
	"slices"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
)

// An envelope, format 1:
//
//	offset  size  what
//	     0     3  magic "RS1"
//	     3     1  suite, 0x01
//	     4    24  nonce N, random
//	    28    32  commitment C
//	    60     n  ciphertext, as long as the plaintext
//	  60+n    16  tag
//
// L ‖ C = HKDF-Expand-SHA-256(K, label ‖ 00 ‖ header ‖ N ‖ context, 64), and
// the ciphertext is XChaCha20-Poly1305 under L with nonce N and additional
// data header ‖ N ‖ C.
//
// Nonce: 192 random bits, and L is fresh for every N besides, so that a
// collision needs about 2^96 envelopes under one key.
//
// Commitment: XChaCha20-Poly1305 alone does not commit to its key, one
// ciphertext can be made to open under many. C is a collision-resistant hash
// of key and context, so that opening under a second key or at a second place
// needs a collision in SHA-256. This is the UtC transform of Bellare and
// Hoang, "Efficient Schemes for Committing Authenticated Encryption"
// (EUROCRYPT 2022), section 7, with the additional data folded into the PRF's
// input.
const (
	// KeySize is the size of every key, in bytes.
	KeySize = 32

	// Overhead is how many bytes an envelope is longer than its plaintext.
	Overhead = headerSize + nonceSize + commitmentSize + tagSize

	// WrappedSize is the size of a wrapped key, in bytes.
	WrappedSize = KeySize + Overhead

	header         = "RS1\x01"
	headerSize     = len(header)
	nonceSize      = chacha20poly1305.NonceSizeX
	commitmentSize = 32
	tagSize        = chacha20poly1305.Overhead
	preludeSize    = headerSize + nonceSize + commitmentSize

	expandLabel = "reseal/v1/envelope\x00"
)

// derived is L ‖ C for one envelope.
type derived struct {
	key        [KeySize]byte
	commitment [commitmentSize]byte
	input      []byte // what the second block is the MAC of: L, then what the first is
}

// derive is HKDF-Expand (RFC 5869, section 2.3) for two blocks. Extract is
// left out because K is uniformly random (section 3.3).
func (d *derived) derive(p *prf, headerAndNonce, context []byte) {
	if n := KeySize + len(expandLabel) + len(headerAndNonce) + len(context) + 1; cap(d.input) < n {
		clear(d.input) // the last L is in it
		d.input = make([]byte, KeySize, 2*n)
	}
	in := append(d.input[:KeySize], expandLabel...)
	in = append(in, headerAndNonce...)
	in = append(in, context...)
	in = append(in, 1)
	d.input = in
	p.mac(&d.key, in[KeySize:])
	copy(in, d.key[:])
	in[len(in)-1] = 2
	p.mac(&d.commitment, in)
}

func (d *derived) clear() {
	clear(d.key[:])
	clear(d.commitment[:])
	clear(d.input)
}

// scratch is what one operation needs besides its arguments. It is pooled and
// always cleared before it goes back.
type scratch struct {
	fresh   *prf // keyed with a data key, for one operation
	derived derived
	dataKey [KeySize]byte
	proof   [KeySize]byte // a data key read back from its new wrap
	value   plaintext     // a value on its way to another data key
	again   plaintext     // and read back from there
}

var scratches = sync.Pool{New: func() any { return &scratch{fresh: newPRF()} }}

func getScratch() *scratch { return scratches.Get().(*scratch) }

func (s *scratch) release() {
	s.fresh.clear()
	s.derived.clear()
	clear(s.dataKey[:])
	clear(s.proof[:])
	s.value.clear()
	s.again.clear()
	scratches.Put(s)
}

// seal appends the envelope of plaintext to dst. It fails only where the
// process is not allowed to use the cipher (GODEBUG=fips140=only).
func (s *scratch) seal(p *prf, dst, plaintext, context []byte) ([]byte, error) {
	var nonce [nonceSize]byte
	rand.Read(nonce[:]) // never fails, crypto/rand
	return s.sealAt(p, dst, &nonce, plaintext, context)
}

// sealAt is seal with a given nonce, which must never be used again.
func (s *scratch) sealAt(p *prf, dst []byte, nonce *[nonceSize]byte, plaintext, context []byte) (out []byte, err error) {
	shield(func() { out, err = s.sealShielded(p, dst, nonce, plaintext, context) })
	return out, err
}

func (s *scratch) sealShielded(p *prf, dst []byte, nonce *[nonceSize]byte, plaintext, context []byte) ([]byte, error) {
	at := len(dst)
	out := slices.Grow(dst, Overhead+len(plaintext))
	out = append(out, writtenHeader()...)
	out = append(out, nonce[:]...)
	s.derived.derive(p, out[at:], context)
	out = append(out, s.derived.commitment[:]...)
	aead, err := chacha20poly1305.NewX(s.derived.key[:])
	if err != nil {
		return dst, err
	}
	prelude := out[at : at+preludeSize : at+preludeSize]
	return aead.Seal(out, prelude[headerSize:headerSize+nonceSize], plaintext, prelude), nil
}

// open appends the plaintext of envelope to dst. The order of the checks is
// length, header, commitment, AEAD.
func (s *scratch) open(p *prf, dst, envelope, context []byte) (out []byte, err error) {
	shield(func() { out, err = s.openShielded(p, dst, envelope, context) })
	return out, err
}

func (s *scratch) openShielded(p *prf, dst, envelope, context []byte) ([]byte, error) {
	if len(envelope) < Overhead || !readable(envelope[:headerSize]) {
		return dst, ErrFormat
	}
	s.derived.derive(p, envelope[:headerSize+nonceSize], context)
	if subtle.ConstantTimeCompare(s.derived.commitment[:], envelope[headerSize+nonceSize:preludeSize]) != 1 {
		return dst, ErrWrongKeyOrContext
	}
	aead, err := chacha20poly1305.NewX(s.derived.key[:])
	if err != nil {
		return dst, err
	}
	out, err := aead.Open(dst, envelope[headerSize:headerSize+nonceSize], envelope[preludeSize:], envelope[:preludeSize])
	if err != nil {
		return dst, ErrDamaged
	}
	return out, nil
}
