package crypto

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
	var block []byte
	var out []byte
	for _, counter := range [][]byte{counter1, counter2} {
		p.start()
		p.write(block)
		p.write(info)
		p.write(counter)
		block = append([]byte(nil), p.finish()...)
		out = append(out, block...)
	}
	return out
}

// PRF is HMAC-SHA-256 as envelopes use it.
func PRF(key [KeySize]byte, message []byte) []byte {
	p := newPRF()
	p.setKey(&key)
	p.start()
	p.write(message)
	return p.finish()
}
