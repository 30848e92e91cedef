package crypto_test

import (
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/reseal/reseal/crypto"
)

var sizes = []int{32, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20}

// bench runs op for each size, after a first call that must not fail.
func bench(b *testing.B, name string, op func(plaintext []byte) error) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
			plaintext := make([]byte, n)
			if err := op(plaintext); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if err := op(plaintext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCipher is XChaCha20-Poly1305 alone, with one key: what the others
// are measured against.
func BenchmarkCipher(b *testing.B) {
	aead, err := chacha20poly1305.NewX(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	nonce, dst := make([]byte, 24), make([]byte, 0, 1<<20+16)
	bench(b, "seal", func(p []byte) error { aead.Seal(dst, nonce, p, nil); return nil })
	var sealed []byte
	bench(b, "open", func(p []byte) error {
		if len(sealed) != len(p)+16 {
			sealed = aead.Seal(nil, nonce, p, nil)
		}
		_, err := aead.Open(dst, nonce, sealed, nil)
		return err
	})
}

// BenchmarkValue is what a put and a get do: SealValue makes a data key, seals
// the value and wraps the data key; OpenValue undoes it. Reencrypt does both, and
// opens the result to prove it.
func BenchmarkValue(b *testing.B) {
	k, value, place := crypto.NewKey(), valueContext(), dataKeyContext()
	dst, wrapDst := make([]byte, 0, 1<<20+crypto.Overhead), make([]byte, 0, crypto.WrappedSize)
	bench(b, "seal", func(p []byte) error {
		_, _, err := k.SealValue(dst, wrapDst, p, value, place)
		return err
	})
	var sealed, wrapped []byte
	bench(b, "open", func(p []byte) (err error) {
		if len(sealed) != len(p)+crypto.Overhead {
			if sealed, wrapped, err = k.SealValue(nil, nil, p, value, place); err != nil {
				return err
			}
		}
		_, err = k.OpenValue(dst, sealed, wrapped, value, place)
		return err
	})
	to := crypto.NewKey()
	bench(b, "reencrypt", func(p []byte) (err error) {
		if len(sealed) != len(p)+crypto.Overhead {
			if sealed, wrapped, err = k.SealValue(nil, nil, p, value, place); err != nil {
				return err
			}
		}
		_, _, err = crypto.Reencrypt(dst, wrapDst, k, to, sealed, wrapped, value, place, place)
		return err
	})
}

// BenchmarkEnvelope is one envelope under a key that stays.
func BenchmarkEnvelope(b *testing.B) {
	k, value := crypto.NewKey(), valueContext()
	dst := make([]byte, 0, 1<<20+crypto.Overhead)
	bench(b, "seal", func(p []byte) error {
		_, err := k.Seal(dst, p, value)
		return err
	})
	var sealed []byte
	bench(b, "open", func(p []byte) (err error) {
		if len(sealed) != len(p)+crypto.Overhead {
			if sealed, err = k.Seal(nil, p, value); err != nil {
				return err
			}
		}
		_, err = k.Open(dst, sealed, value)
		return err
	})
}

// BenchmarkWrap is what happens to data keys: a rewrap is an unwrap, a wrap
// and the proof that the new wrap opens.
func BenchmarkWrap(b *testing.B) {
	from, to, inner, place := crypto.NewKey(), crypto.NewKey(), crypto.NewKey(), dataKeyContext()
	wrapped, err := from.Wrap(nil, inner, place)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, crypto.WrappedSize)
	for _, c := range []struct {
		name string
		op   func() error
	}{
		{"wrap", func() error { _, err := from.Wrap(dst, inner, place); return err }},
		{"unwrap", func() error { _, err := from.Unwrap(wrapped, place); return err }},
		{"check", func() error { return from.CheckWrap(wrapped, place) }},
		{"rewrap", func() error { _, err := crypto.Rewrap(dst, from, to, wrapped, place, place); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkContext(b *testing.B) {
	store, secret, version := crypto.NewID(), crypto.NewID(), crypto.NewID()
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		crypto.AppendValueContext(dst, store, secret, "prod/billing/db/password", 3, version)
	}
}

func BenchmarkMAC(b *testing.B) {
	k, message, dst := crypto.NewKey(), make([]byte, 300), make([]byte, 0, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.MAC(dst, message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeriveKey(b *testing.B) {
	kdf := crypto.DefaultKDF()
	for b.Loop() {
		if _, err := crypto.DeriveKey([]byte("correct horse battery staple"), kdf); err != nil {
			b.Fatal(err)
		}
	}
}

func valueContext() []byte {
	return crypto.AppendValueContext(nil, crypto.NewID(), crypto.NewID(), "prod/billing/db/password", 3, crypto.NewID())
}

func dataKeyContext() []byte {
	return crypto.AppendDataKeyContext(nil, crypto.NewID(), crypto.NewID(), crypto.NewID(), 2)
}
