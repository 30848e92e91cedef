package benchmarks

import (
	"crypto/rand"
	"fmt"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/reseal/reseal/crypto"
)

var sizes = []struct {
	name string
	n    int
}{{"32B", 32}, {"256B", 256}, {"1KiB", 1 << 10}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

// contexts are those of a secret version with a name of ordinary length.
func contexts() (value, dataKey []byte) {
	store, version := crypto.NewID(), crypto.NewID()
	return crypto.AppendValueContext(nil, store, crypto.NewID(), "app/production/database/password", 3, version),
		crypto.AppendDataKeyContext(nil, store, version, crypto.NewID(), 2)
}

// BenchmarkRaw is the cipher alone, with a fresh nonce and a key that is set up
// each time, as it has to be when every value has its own.
func BenchmarkRaw(b *testing.B) {
	key := make([]byte, chacha20poly1305.KeySize)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	for _, size := range sizes {
		plain := make([]byte, size.n)
		b.Run("seal/"+size.name, func(b *testing.B) {
			dst := make([]byte, 0, size.n+chacha20poly1305.Overhead)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				rand.Read(nonce)
				aead, _ := chacha20poly1305.NewX(key)
				aead.Seal(dst, nonce, plain, nil)
			}
		})
		b.Run("open/"+size.name, func(b *testing.B) {
			aead, _ := chacha20poly1305.NewX(key)
			sealed := aead.Seal(nil, nonce, plain, nil)
			dst := make([]byte, 0, size.n)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				aead, _ := chacha20poly1305.NewX(key)
				if _, err := aead.Open(dst, nonce, sealed, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEnvelope is one envelope under a key that is kept.
func BenchmarkEnvelope(b *testing.B) {
	key := crypto.NewKey()
	context, _ := contexts()
	for _, size := range sizes {
		plain := make([]byte, size.n)
		b.Run("seal/"+size.name, func(b *testing.B) {
			dst := make([]byte, 0, size.n+crypto.Overhead)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Seal(dst, plain, context); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open/"+size.name, func(b *testing.B) {
			sealed, err := key.Seal(nil, plain, context)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, size.n)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Open(dst, sealed, context); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkValue is what a put and a get do: a fresh data key, its wrap, and
// the value under it; and back.
func BenchmarkValue(b *testing.B) {
	key := crypto.NewKey()
	context, wrapContext := contexts()
	for _, size := range sizes {
		plain := make([]byte, size.n)
		b.Run("seal/"+size.name, func(b *testing.B) {
			dst, wrap := make([]byte, 0, size.n+crypto.Overhead), make([]byte, 0, crypto.WrappedSize)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := key.SealValue(dst, wrap, plain, context, wrapContext); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("open/"+size.name, func(b *testing.B) {
			sealed, wrapped, err := key.SealValue(nil, nil, plain, context, wrapContext)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, 0, size.n)
			b.SetBytes(int64(size.n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.OpenValue(dst, sealed, wrapped, context, wrapContext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRewrap moves one data key from one wrapping key to another, proof
// included.
func BenchmarkRewrap(b *testing.B) {
	from, to := crypto.NewKey(), crypto.NewKey()
	_, context := contexts()
	_, wrapped, err := from.SealValue(nil, nil, []byte("x"), nil, context)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, crypto.WrappedSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := crypto.Rewrap(dst, from, to, wrapped, context, context); err != nil {
			b.Fatal(err)
		}
	}
}

func secretName(i int) string { return fmt.Sprintf("app/service-%03d/secret-%06d", i%100, i) }
