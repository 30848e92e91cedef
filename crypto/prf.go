package crypto

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding"
	"hash"
)

// digest is what crypto/sha256 gives: a hash whose state can be saved and put
// back without allocating.
type digest interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// prf is HMAC-SHA-256 (RFC 2104) under one key at a time. Unlike crypto/hmac
// it can be given another key without allocating, which is what a fresh data
// key for every value needs, and it keeps the two keyed states, which is what
// a wrapping key that is used a million times needs.
//
// A prf is not safe for concurrent use.
type prf struct {
	inner, outer           digest
	innerState, outerState []byte // saved states after the padded key
	pad                    [sha256.BlockSize]byte
	sum                    [sha256.Size]byte
}

// maxState is more than a saved SHA-256 state takes, so that saving one never
// leaves half of it behind in a buffer that was too small.
const maxState = 128

// blankState is the state of an unused SHA-256. Unlike Reset, restoring it
// also overwrites the bytes that the digest has buffered.
var blankState = save(sha256.New().(digest), nil)

func newPRF() *prf {
	return &prf{
		inner:      sha256.New().(digest),
		outer:      sha256.New().(digest),
		innerState: make([]byte, 0, maxState),
		outerState: make([]byte, 0, maxState),
	}
}

func save(d digest, dst []byte) []byte {
	state, err := d.AppendBinary(dst)
	if err != nil {
		panic("crypto: sha256 state cannot be saved: " + err.Error())
	}
	return state
}

func restore(d digest, state []byte) {
	if err := d.UnmarshalBinary(state); err != nil {
		panic("crypto: sha256 state cannot be restored: " + err.Error())
	}
}

// setKey computes the keyed states. The key is not kept.
func (p *prf) setKey(key *[KeySize]byte) {
	shield(func() {
		p.innerState = p.keyed(p.inner, p.innerState[:0], key, &innerPad)
		p.outerState = p.keyed(p.outer, p.outerState[:0], key, &outerPad)
		clear(p.pad[:])
	})
}

func (p *prf) keyed(d digest, state []byte, key *[KeySize]byte, pad *[sha256.BlockSize]byte) []byte {
	p.pad = *pad
	subtle.XORBytes(p.pad[:KeySize], key[:], pad[:KeySize])
	d.Reset()
	d.Write(p.pad[:])
	return save(d, state)
}

// innerPad and outerPad are RFC 2104's ipad and opad.
var innerPad, outerPad = block(0x36), block(0x5c)

func block(b byte) (pad [sha256.BlockSize]byte) {
	for i := range pad {
		pad[i] = b
	}
	return pad
}

// mac leaves the MAC of message in out, which may be p.sum.
func (p *prf) mac(out *[sha256.Size]byte, message []byte) {
	restore(p.inner, p.innerState)
	p.inner.Write(message)
	in := p.inner.Sum(p.sum[:0])
	restore(p.outer, p.outerState)
	p.outer.Write(in)
	p.outer.Sum(out[:0])
}

// forget overwrites what was written and computed, and keeps the key.
func (p *prf) forget() {
	clear(p.sum[:])
	restore(p.inner, blankState)
	restore(p.outer, blankState)
}

// clear forgets everything that depends on the key.
func (p *prf) clear() {
	clear(p.innerState)
	clear(p.outerState)
	p.forget()
}
