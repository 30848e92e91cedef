package benchmarks

import (
	"context"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/reseal/reseal/crypto"
)

// size is a length of values.
type size struct {
	name string
	n    int
}

var sizes = []size{{"32 B", 32}, {"256 B", 256}, {"1 KiB", 1 << 10}, {"4 KiB", 4 << 10}, {"64 KiB", 64 << 10}, {"1 MiB", 1 << 20}}

// contexts are those of a secret version with a name of ordinary length.
func contexts() (value, dataKey []byte) {
	store, version := crypto.NewID(), crypto.NewID()
	return crypto.AppendValueContext(nil, store, crypto.NewID(), "app/production/database/password", 3, version),
		crypto.AppendDataKeyContext(nil, store, version, crypto.NewID(), 2)
}

// cipherSide is an operation that needs no file.
func cipherSide(name string, prepare func() (func() error, error)) Side {
	return Side{Name: name, Open: func(context.Context, string) (*Work, error) {
		op, err := prepare()
		if err != nil {
			return nil, err
		}
		return timed(func(_ context.Context, n int) error {
			for range n {
				if err := op(); err != nil {
					return err
				}
			}
			return nil
		}, nil), nil
	}}
}

// rawSeal is the cipher alone, with a random nonce and a key that is set up
// each time, as it has to be where every value has its own.
func rawSeal(n int) Side {
	return cipherSide("XChaCha20-Poly1305", func() (func() error, error) {
		key, nonce := make([]byte, chacha20poly1305.KeySize), make([]byte, chacha20poly1305.NonceSizeX)
		plain, dst := make([]byte, n), make([]byte, 0, n+chacha20poly1305.Overhead)
		return func() error {
			rand.Read(nonce)
			aead, err := chacha20poly1305.NewX(key)
			if err == nil {
				aead.Seal(dst, nonce, plain, nil)
			}
			return err
		}, nil
	})
}

func rawOpen(n int) Side {
	return cipherSide("XChaCha20-Poly1305", func() (func() error, error) {
		key, nonce := make([]byte, chacha20poly1305.KeySize), make([]byte, chacha20poly1305.NonceSizeX)
		aead, err := chacha20poly1305.NewX(key)
		if err != nil {
			return nil, err
		}
		sealed, dst := aead.Seal(nil, nonce, make([]byte, n), nil), make([]byte, 0, n)
		return func() error {
			aead, err := chacha20poly1305.NewX(key)
			if err == nil {
				_, err = aead.Open(dst, nonce, sealed, nil)
			}
			return err
		}, nil
	})
}

// envelopeCases are one envelope under a key that is kept: what a wrap costs.
func envelopeCases() []Case {
	var out []Case
	for _, s := range sizes {
		out = append(out,
			Case{ID: "envelope/seal/" + s.name, Title: "seal " + s.name, Sides: []Side{rawSeal(s.n), sealSide(s.n)}},
			Case{ID: "envelope/open/" + s.name, Title: "open " + s.name, Sides: []Side{rawOpen(s.n), openSide(s.n)}})
	}
	return append(out, Case{ID: "envelope/rewrap", Title: "rewrap a data key, proof included", Sides: []Side{rawRewrap(), rewrapSide()}})
}

func sealSide(n int) Side {
	return cipherSide("reseal", func() (func() error, error) {
		key, plain := crypto.NewKey(), make([]byte, n)
		place, _ := contexts()
		dst := make([]byte, 0, n+crypto.Overhead)
		return func() error {
			_, err := key.Seal(dst, plain, place)
			return err
		}, nil
	})
}

func openSide(n int) Side {
	return cipherSide("reseal", func() (func() error, error) {
		key := crypto.NewKey()
		place, _ := contexts()
		sealed, err := key.Seal(nil, make([]byte, n), place)
		dst := make([]byte, 0, n)
		return func() error {
			_, err := key.Open(dst, sealed, place)
			return err
		}, err
	})
}

// rawRewrap opens 32 bytes under one key, seals them under another and opens
// them again.
func rawRewrap() Side {
	return cipherSide("XChaCha20-Poly1305", func() (func() error, error) {
		from, to := make([]byte, chacha20poly1305.KeySize), make([]byte, chacha20poly1305.KeySize)
		rand.Read(to)
		nonce, fresh := make([]byte, chacha20poly1305.NonceSizeX), make([]byte, chacha20poly1305.NonceSizeX)
		a, err := chacha20poly1305.NewX(from)
		if err != nil {
			return nil, err
		}
		wrapped := a.Seal(nil, nonce, make([]byte, 32), nil)
		key, proof, out := make([]byte, 0, 32), make([]byte, 0, 32), make([]byte, 0, 48)
		return func() error {
			a, _ := chacha20poly1305.NewX(from)
			plain, err := a.Open(key, nonce, wrapped, nil)
			if err != nil {
				return err
			}
			rand.Read(fresh)
			b, _ := chacha20poly1305.NewX(to)
			_, err = b.Open(proof, fresh, b.Seal(out, fresh, plain, nil), nil)
			return err
		}, nil
	})
}

func rewrapSide() Side {
	return cipherSide("reseal", func() (func() error, error) {
		from, to := crypto.NewKey(), crypto.NewKey()
		_, place := contexts()
		_, wrapped, err := from.SealValue(nil, nil, []byte("x"), nil, place)
		dst := make([]byte, 0, crypto.WrappedSize)
		return func() error {
			_, err := crypto.Rewrap(dst, from, to, wrapped, place, place)
			return err
		}, err
	})
}

// valueCases are what a put and a get do: a fresh data key, its wrap and the
// value under it, and back.
func valueCases() []Case {
	var out []Case
	for _, s := range sizes {
		out = append(out,
			Case{ID: "value/seal/" + s.name, Title: fmt.Sprintf("seal %s under a fresh data key, and wrap that", s.name), Sides: []Side{rawSeal(s.n), sealValueSide(s.n)}},
			Case{ID: "value/open/" + s.name, Title: fmt.Sprintf("unwrap the data key, and open %s with it", s.name), Sides: []Side{rawOpen(s.n), openValueSide(s.n)}})
	}
	return out
}

func sealValueSide(n int) Side {
	return cipherSide("reseal", func() (func() error, error) {
		key, plain := crypto.NewKey(), make([]byte, n)
		place, wrapPlace := contexts()
		dst, wrap := make([]byte, 0, n+crypto.Overhead), make([]byte, 0, crypto.WrappedSize)
		return func() error {
			_, _, err := key.SealValue(dst, wrap, plain, place, wrapPlace)
			return err
		}, nil
	})
}

func openValueSide(n int) Side {
	return cipherSide("reseal", func() (func() error, error) {
		key := crypto.NewKey()
		place, wrapPlace := contexts()
		sealed, wrapped, err := key.SealValue(nil, nil, make([]byte, n), place, wrapPlace)
		dst := make([]byte, 0, n)
		return func() error {
			_, err := key.OpenValue(dst, sealed, wrapped, place, wrapPlace)
			return err
		}, err
	})
}
