package crypto

import (
	"crypto/subtle"
	"errors"
)

// errRewrapUnproved cannot happen with sound memory: the wrap that was just
// made does not give back the key that went in.
var errRewrapUnproved = errors.New("new wrap does not open to the same key")

// Rewrap unwraps the data key in wrapped under from, wraps the same data key
// under to, proves that the new wrap opens to the same key, and appends it to
// dst. The sealed value is not touched and not needed. A wrap that does not
// open is a *LayerError, and dst is returned as it was.
func Rewrap(dst []byte, from, to *Key, wrapped, fromContext, toContext []byte) ([]byte, error) {
	var m Mover
	if err := m.begin(from, to); err != nil {
		return dst, err
	}
	defer m.Close()
	return m.Rewrap(dst, wrapped, fromContext, toContext)
}

// Rewrap is the function Rewrap with the Mover's keys.
func (m *Mover) Rewrap(dst, wrapped, fromContext, toContext []byte) ([]byte, error) {
	s := m.s
	if err := s.unwrap(m.fromPRF, wrapped, fromContext); err != nil {
		return dst, atLayer(DataKeyLayer, err)
	}
	out, err := s.seal(m.toPRF, dst, s.dataKey[:], toContext)
	if err != nil {
		return dst, err
	}
	if !s.proves(m.toPRF, out[len(dst):], toContext) {
		return dst, errRewrapUnproved
	}
	return out, nil
}

// proves reports whether wrapped opens under p's key to s.dataKey.
func (s *scratch) proves(p *prf, wrapped, context []byte) bool {
	_, err := s.open(p, s.proof[:0], wrapped, context)
	return err == nil && subtle.ConstantTimeCompare(s.proof[:], s.dataKey[:]) == 1
}
