package crypto

import "crypto/subtle"

// Equal reports whether k and other are the same key, in constant time. A key
// that was cleared equals none.
func (k *Key) Equal(other *Key) bool {
	var a, b [KeySize]byte
	defer clear(a[:])
	defer clear(b[:])
	if k.copyTo(&a) != nil || other.copyTo(&b) != nil {
		return false
	}
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
