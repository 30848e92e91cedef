package crypto

import (
	"crypto/rand"
	"fmt"
	"sync"
)

// Key is a 256-bit key that wraps other keys: a root key, a master key version
// (a key-encryption key, KEK) or, for MAC only, an integrity key. It is safe
// for concurrent use.
//
// A Key cannot be printed: its material sits behind a closure, which no format
// verb, logger or encoder looks into. It lives in memory until Clear. The zero
// Key is not usable: keys come from NewKey, KeyFromBytes, DeriveKey,
// ParseKeyFile and Unwrap.
//
// Methods that append write into dst's spare capacity, also when they fail, so
// that it must not overlap any other argument.
type Key struct{ secret func() *keySecret }

type keySecret struct {
	mu      sync.Mutex
	raw     [KeySize]byte
	idle    []*prf // keyed states, one for each operation that ever ran at once
	cleared bool
}

// NewKey returns a fresh random key.
func NewKey() *Key {
	s := new(keySecret)
	rand.Read(s.raw[:]) // never fails, crypto/rand
	return &Key{secret: func() *keySecret { return s }}
}

// KeyFromBytes returns the key whose material is b. It copies b, which stays
// the caller's to clear. Any length but KeySize is ErrKeyLength.
func KeyFromBytes(b []byte) (*Key, error) {
	if len(b) != KeySize {
		return nil, ErrKeyLength
	}
	s := new(keySecret)
	copy(s.raw[:], b)
	return &Key{secret: func() *keySecret { return s }}, nil
}

// Clear overwrites the key's material. Operations under way finish, later ones
// return ErrCleared.
func (k *Key) Clear() {
	s := k.secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleared = true
	clear(s.raw[:])
	for _, p := range s.idle {
		p.clear()
	}
	s.idle = nil
}

// acquire lends a keyed state, to be given back with release.
func (k *Key) acquire() (*prf, error) {
	s := k.secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cleared {
		return nil, ErrCleared
	}
	if n := len(s.idle); n > 0 {
		p := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return p, nil
	}
	p := newPRF()
	p.setKey(&s.raw)
	return p, nil
}

func (k *Key) release(p *prf) {
	s := k.secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cleared {
		p.clear()
		return
	}
	p.forget()
	s.idle = append(s.idle, p)
}

// copyTo copies the key's material into dst, which the caller clears.
func (k *Key) copyTo(dst *[KeySize]byte) error {
	s := k.secret()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cleared {
		return ErrCleared
	}
	*dst = s.raw
	return nil
}

// Seal appends the envelope of plaintext to dst and returns the extended
// slice. The envelope opens only with the same key and the same
// additionalData.
func (k *Key) Seal(dst, plaintext, additionalData []byte) ([]byte, error) {
	p, err := k.acquire()
	if err != nil {
		return dst, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	return s.seal(p, dst, plaintext, additionalData)
}

// Open appends the plaintext of envelope to dst and returns the extended
// slice, which the caller owns. On an error dst is returned as it was. The
// errors are ErrFormat, ErrWrongKeyOrContext, ErrDamaged and ErrCleared.
func (k *Key) Open(dst, envelope, additionalData []byte) ([]byte, error) {
	p, err := k.acquire()
	if err != nil {
		return dst, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	return s.open(p, dst, envelope, additionalData)
}

// Wrap appends key, wrapped under k, to dst: WrappedSize bytes.
func (k *Key) Wrap(dst []byte, key *Key, additionalData []byte) ([]byte, error) {
	p, err := k.acquire()
	if err != nil {
		return dst, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	if err := key.copyTo(&s.dataKey); err != nil {
		return dst, err
	}
	return s.seal(p, dst, s.dataKey[:], additionalData)
}

// Unwrap returns the key that wrapped holds. The errors are those of Open, and
// ErrFormat when wrapped is not WrappedSize bytes.
func (k *Key) Unwrap(wrapped, additionalData []byte) (*Key, error) {
	p, err := k.acquire()
	if err != nil {
		return nil, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	if err := s.unwrap(p, wrapped, additionalData); err != nil {
		return nil, err
	}
	return KeyFromBytes(s.dataKey[:])
}

// unwrap leaves the key that wrapped holds in s.dataKey.
func (s *scratch) unwrap(p *prf, wrapped, context []byte) error {
	if len(wrapped) != WrappedSize {
		return ErrFormat
	}
	_, err := s.open(p, s.dataKey[:0], wrapped, context)
	return err
}

// MAC appends HMAC-SHA-256 of message under k to dst: 32 bytes. A key that is
// used for MAC is used for nothing else.
func (k *Key) MAC(dst, message []byte) ([]byte, error) {
	p, err := k.acquire()
	if err != nil {
		return dst, err
	}
	defer k.release(p)
	p.mac(&p.sum, message)
	return append(dst, p.sum[:]...), nil
}

// SealValue seals plaintext under a fresh data key and wraps that data key
// under k. It appends the sealed value to dst and the wrapped data key to
// wrapDst; both results are the caller's. The data key is cleared before
// SealValue returns.
func (k *Key) SealValue(dst, wrapDst, plaintext, valueContext, dataKeyContext []byte) (sealed, wrapped []byte, err error) {
	p, err := k.acquire()
	if err != nil {
		return dst, wrapDst, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	rand.Read(s.dataKey[:]) // never fails, crypto/rand
	s.fresh.setKey(&s.dataKey)
	if sealed, err = s.seal(s.fresh, dst, plaintext, valueContext); err != nil {
		return dst, wrapDst, err
	}
	if wrapped, err = s.seal(p, wrapDst, s.dataKey[:], dataKeyContext); err != nil {
		return dst, wrapDst, err
	}
	return sealed, wrapped, nil
}

// Layer says which of the two envelopes of a value an error came from.
type Layer string

// The two layers of a value.
const (
	DataKeyLayer Layer = "data key"
	ValueLayer   Layer = "value"
)

// LayerError is what OpenValue, CheckWrap, Rewrap and Reencrypt return when an
// envelope does not open: which one, and one of ErrFormat,
// ErrWrongKeyOrContext, ErrDamaged.
type LayerError struct {
	Layer Layer
	Err   error
}

func (e *LayerError) Error() string { return fmt.Sprintf("open %s: %v", e.Layer, e.Err) }
func (e *LayerError) Unwrap() error { return e.Err }

func atLayer(l Layer, err error) error {
	if err == nil {
		return nil
	}
	return &LayerError{Layer: l, Err: err}
}

// OpenValue unwraps the data key and opens the sealed value with it. It
// appends the plaintext to dst and returns the extended slice, which the
// caller owns. A failure is a *LayerError.
func (k *Key) OpenValue(dst, sealed, wrapped, valueContext, dataKeyContext []byte) ([]byte, error) {
	p, err := k.acquire()
	if err != nil {
		return dst, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	return s.openLayers(p, dst, sealed, wrapped, valueContext, dataKeyContext)
}

// openLayers unwraps a data key under p's key and appends the value that it
// opens to dst.
func (s *scratch) openLayers(p *prf, dst, sealed, wrapped, valueContext, dataKeyContext []byte) ([]byte, error) {
	if err := s.unwrap(p, wrapped, dataKeyContext); err != nil {
		return dst, atLayer(DataKeyLayer, err)
	}
	s.fresh.setKey(&s.dataKey)
	out, err := s.open(s.fresh, dst, sealed, valueContext)
	return out, atLayer(ValueLayer, err)
}

// CheckWrap reports whether wrapped opens under k at additionalData, without
// giving the key away. A failure is a *LayerError.
func (k *Key) CheckWrap(wrapped, additionalData []byte) error {
	p, err := k.acquire()
	if err != nil {
		return err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	return atLayer(DataKeyLayer, s.unwrap(p, wrapped, additionalData))
}
