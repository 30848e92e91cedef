package crypto

import "slices"

// SealAt is Key.Seal with a given nonce, for vectors.
func SealAt(k *Key, nonce [nonceSize]byte, plaintext, context []byte) ([]byte, error) {
	p, err := k.acquire()
	if err != nil {
		return nil, err
	}
	defer k.release(p)
	s := getScratch()
	defer s.release()
	return s.sealAt(p, nil, &nonce, plaintext, context)
}

// RawKey returns the material of k.
func RawKey(k *Key) ([]byte, error) {
	var raw [KeySize]byte
	err := k.copyTo(&raw)
	return raw[:], err
}

// Expand is the HKDF-Expand that envelopes use, for any info: L ‖ C.
func Expand(key [KeySize]byte, info []byte) []byte {
	p := newPRF()
	p.setKey(&key)
	var first, second [KeySize]byte
	p.mac(&first, append(slices.Clone(info), 1))
	p.mac(&second, append(slices.Concat(first[:], info), 2))
	return slices.Concat(first[:], second[:])
}

// PRF is HMAC-SHA-256 as envelopes use it.
func PRF(key [KeySize]byte, message []byte) []byte {
	p := newPRF()
	p.setKey(&key)
	p.mac(&p.sum, message)
	return p.sum[:]
}
