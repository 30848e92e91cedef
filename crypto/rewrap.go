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
	pf, err := from.acquire()
	if err != nil {
		return dst, err
	}
	defer from.release(pf)
	pt, err := to.acquire()
	if err != nil {
		return dst, err
	}
	defer to.release(pt)
	s := getScratch()
	defer s.release()
	if err := s.unwrap(pf, wrapped, fromContext); err != nil {
		return dst, atLayer(DataKeyLayer, err)
	}
	out, err := s.seal(pt, dst, s.dataKey[:], toContext)
	if err != nil {
		return dst, err
	}
	if !s.proves(pt, out[len(dst):], toContext) {
		return dst, errRewrapUnproved
	}
	return out, nil
}

// proves reports whether wrapped opens under p's key to s.dataKey.
func (s *scratch) proves(p *prf, wrapped, context []byte) bool {
	_, err := s.open(p, s.proof[:0], wrapped, context)
	return err == nil && subtle.ConstantTimeCompare(s.proof[:], s.dataKey[:]) == 1
}
