package crypto

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
)

// errReencryptUnproved cannot happen with sound memory: the envelopes that were
// just made do not give back the value that went in.
var errReencryptUnproved = errors.New("new envelopes do not open to the same value")

// Reencrypt opens a value under from and seals it again under a fresh data key
// with a fresh nonce, which it wraps under to. It proves that the two new
// envelopes open to the same value, and appends the sealed value, as long as
// the old one, to dst and the wrapped data key to wrapDst; both results are the
// caller's. The plaintext and both data keys are cleared before it returns. An
// envelope that does not open is a *LayerError, and dst and wrapDst are
// returned as they were.
//
// The old data key, known to whoever ever unwrapped it, does not open the new
// sealed value. It goes on opening the old one, wherever a copy of that is.
func Reencrypt(dst, wrapDst []byte, from, to *Key, sealed, wrapped, valueContext, fromContext, toContext []byte) (newSealed, newWrapped []byte, err error) {
	var m Mover
	if err := m.begin(from, to); err != nil {
		return dst, wrapDst, err
	}
	defer m.Close()
	return m.Reencrypt(dst, wrapDst, sealed, wrapped, valueContext, fromContext, toContext)
}

// Reencrypt is the function Reencrypt with the Mover's keys.
func (m *Mover) Reencrypt(dst, wrapDst, sealed, wrapped, valueContext, fromContext, toContext []byte) (newSealed, newWrapped []byte, err error) {
	s := m.s
	defer s.value.clear()
	defer s.again.clear()
	value, err := s.openLayers(m.fromPRF, s.value.room(len(sealed)), sealed, wrapped, valueContext, fromContext)
	if err != nil {
		return dst, wrapDst, err
	}
	rand.Read(s.dataKey[:]) // never fails, crypto/rand
	s.fresh.setKey(&s.dataKey)
	if newSealed, err = s.seal(s.fresh, dst, value, valueContext); err != nil {
		return dst, wrapDst, err
	}
	if newWrapped, err = s.seal(m.toPRF, wrapDst, s.dataKey[:], toContext); err != nil {
		return dst, wrapDst, err
	}
	again, err := s.openLayers(m.toPRF, s.again.room(len(sealed)), newSealed[len(dst):], newWrapped[len(wrapDst):], valueContext, toContext)
	if err != nil || subtle.ConstantTimeCompare(value, again) != 1 {
		return dst, wrapDst, errReencryptUnproved
	}
	return newSealed, newWrapped, nil
}

// plaintext is room for a value, which is used again and cleared after each
// use.
type plaintext struct {
	buf  []byte
	used int
}

// keepPlaintext is the largest room that is kept for the next use: the largest
// value that a store takes unless it is told otherwise.
const keepPlaintext = 64 << 10

// room returns an empty slice with room for the value of an envelope of that
// length: a slice that grew would leave a part of the value behind.
func (p *plaintext) room(envelope int) []byte {
	p.used = max(0, envelope-Overhead)
	if cap(p.buf) < p.used {
		p.buf = make([]byte, p.used)
	}
	return p.buf[:0]
}

func (p *plaintext) clear() {
	clear(p.buf[:p.used])
	if p.used > keepPlaintext {
		p.buf = nil
	}
	p.used = 0
}
