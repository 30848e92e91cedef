package crypto

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"fmt"
	"hash"
	"testing"
)

// BenchmarkHash repeats the choice of the hash in HKDF-Expand, 64 bytes of
// output over the info of a sealed value. docs/format.md has the figures.
//
// SHA-256 needs two blocks, SHA-512 one. Each is measured with a key that
// stays (a wrapping key), and with a new key every time (a data key): through
// states that are set again, and through crypto/hmac.
func BenchmarkHash(b *testing.B) {
	context := AppendValueContext(nil, ID{1}, ID{2}, "prod/billing/db/password", 3, ID{4})
	info := append([]byte(expandLabel+header), make([]byte, nonceSize)...)
	info = append(info, context...)
	key := [KeySize]byte{1, 2, 3}
	b.Run(fmt.Sprintf("sha256/kept-key/info=%d", len(info)), func(b *testing.B) {
		var d derived
		p := newPRF()
		p.setKey(&key)
		b.ReportAllocs()
		for b.Loop() {
			d.derive(p, info[len(expandLabel):len(info)-len(context)], context)
		}
	})
	b.Run("sha256/fresh-key", func(b *testing.B) {
		var d derived
		p := newPRF()
		b.ReportAllocs()
		for b.Loop() {
			p.setKey(&key)
			d.derive(p, info[len(expandLabel):len(info)-len(context)], context)
		}
	})
	b.Run("sha256/fresh-key-crypto-hmac", func(b *testing.B) { benchmarkStdExpand(b, sha256.New, key[:], info) })
	b.Run("sha512/kept-key", func(b *testing.B) {
		e := new(expand512)
		e.setKey(&key)
		b.ReportAllocs()
		for b.Loop() {
			e.expand(info)
		}
	})
	b.Run("sha512/fresh-key", func(b *testing.B) {
		e := new(expand512)
		b.ReportAllocs()
		for b.Loop() {
			e.setKey(&key)
			e.expand(info)
		}
	})
	b.Run("sha512/fresh-key-crypto-hmac", func(b *testing.B) { benchmarkStdExpand(b, sha512.New, key[:], info) })
}

func benchmarkStdExpand(b *testing.B, h func() hash.Hash, key, info []byte) {
	b.ReportAllocs()
	for b.Loop() {
		var out, block []byte
		for counter := byte(1); len(out) < 64; counter++ {
			m := hmac.New(h, key)
			m.Write(block)
			m.Write(info)
			m.Write([]byte{counter})
			block = m.Sum(nil)
			out = append(out, block...)
		}
	}
}

// expand512 is the alternative that was not taken, made with the same care:
// one HMAC-SHA-512 whose states are saved and set again without allocating.
type expand512 struct {
	inner, outer           digest
	innerState, outerState []byte
	pad                    [sha512.BlockSize]byte
	sum                    [sha512.Size]byte
}

func (e *expand512) setKey(key *[KeySize]byte) {
	if e.inner == nil {
		e.inner, e.outer = sha512.New().(digest), sha512.New().(digest)
	}
	e.innerState = e.keyed(e.inner, e.innerState[:0], key, 0x36)
	e.outerState = e.keyed(e.outer, e.outerState[:0], key, 0x5c)
}

func (e *expand512) keyed(d digest, state []byte, key *[KeySize]byte, pad byte) []byte {
	for i := range e.pad {
		e.pad[i] = pad
	}
	for i, b := range key {
		e.pad[i] ^= b
	}
	d.Reset()
	d.Write(e.pad[:])
	return save(d, state)
}

func (e *expand512) expand(info []byte) []byte {
	restore(e.inner, e.innerState)
	e.inner.Write(info)
	e.inner.Write([]byte{1})
	in := e.inner.Sum(e.sum[:0])
	restore(e.outer, e.outerState)
	e.outer.Write(in)
	return e.outer.Sum(e.sum[:0])
}

func TestHashBenchmarkMeasuresHKDF(t *testing.T) {
	key := [KeySize]byte{1, 2, 3}
	info := []byte("info")
	e := new(expand512)
	e.setKey(&key)
	m := hmac.New(sha512.New, key[:])
	m.Write(info)
	m.Write([]byte{1})
	if want, got := fmt.Sprintf("%x", m.Sum(nil)), fmt.Sprintf("%x", e.expand(info)); got != want {
		t.Errorf("expand512 = %s, want %s", got, want)
	}
	if _, ok := e.inner.(encoding.BinaryUnmarshaler); !ok {
		t.Error("SHA-512 states cannot be set again")
	}
}
