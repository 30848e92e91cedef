package benchmarks

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"io"

	"filippo.io/age"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	kms "github.com/hashicorp/go-kms-wrapping/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"gocloud.dev/secrets/localsecrets"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/reseal/reseal/crypto"
)

// peerCases seal a value of 1 KiB and open it again, each as that package does,
// in process and with a key in memory. The envelope peers make a data key for
// each value and wrap it; the others use the one key.
func peerCases() []Case {
	seal := Case{ID: "peers/seal", Title: "seal 1 KiB"}
	open := Case{ID: "peers/open", Title: "open 1 KiB"}
	for _, p := range peers {
		seal.Sides = append(seal.Sides, cipherSide(p.name, func() (func() error, error) {
			s, _, err := p.new()
			plain := make([]byte, valueSize)
			return func() error { _, err := s(plain); return err }, err
		}))
		open.Sides = append(open.Sides, cipherSide(p.name, func() (func() error, error) {
			s, o, err := p.new()
			if err != nil {
				return nil, err
			}
			sealed, err := s(make([]byte, valueSize))
			return func() error { _, err := o(sealed); return err }, err
		}))
	}
	return []Case{seal, open}
}

// sealer seals to bytes, or to whatever the package makes; opener opens that.
type (
	sealer func(plain []byte) (any, error)
	opener func(sealed any) ([]byte, error)
)

var peers = []struct {
	name string
	new  func() (sealer, opener, error)
}{
	{"reseal (envelope, commits to key and place)", newReseal},
	{"Tink KMSEnvelopeAEAD, local key (envelope)", newTink},
	{"go-kms-wrapping aead (envelope)", newWrapping},
	{"AES-256-GCM by hand (envelope)", newByHand},
	{"age, X25519 (envelope)", newAge},
	{"gocloud localsecrets (one key)", newGocloud},
	{"nacl/secretbox (one key)", newSecretbox},
}

func newReseal() (sealer, opener, error) {
	key := crypto.NewKey()
	place, wrapPlace := contexts()
	type both struct{ sealed, wrapped []byte }
	return func(plain []byte) (any, error) {
			sealed, wrapped, err := key.SealValue(nil, nil, plain, place, wrapPlace)
			return both{sealed, wrapped}, err
		}, func(s any) ([]byte, error) {
			b := s.(both)
			return key.OpenValue(nil, b.sealed, b.wrapped, place, wrapPlace)
		}, nil
}

func newTink() (sealer, opener, error) {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return nil, nil, err
	}
	local, err := aead.New(handle)
	if err != nil {
		return nil, nil, err
	}
	e := aead.NewKMSEnvelopeAEAD2(aead.XChaCha20Poly1305KeyTemplate(), local)
	place, _ := contexts()
	return func(plain []byte) (any, error) { return e.Encrypt(plain, place) },
		func(s any) ([]byte, error) { return e.Decrypt(s.([]byte), place) }, nil
}

func newWrapping() (sealer, opener, error) {
	key := make([]byte, 32)
	rand.Read(key)
	w, ctx := kms.NewWrapper(), context.Background()
	if err := w.SetAesGcmKeyBytes(key); err != nil {
		return nil, nil, err
	}
	type both struct {
		envelope *wrapping.EnvelopeInfo
		key      *wrapping.BlobInfo
	}
	return func(plain []byte) (any, error) {
			e, err := wrapping.EnvelopeEncrypt(plain)
			if err != nil {
				return nil, err
			}
			k, err := w.Encrypt(ctx, e.Key)
			e.Key = nil
			return both{e, k}, err
		}, func(s any) ([]byte, error) {
			b := s.(both)
			k, err := w.Decrypt(ctx, b.key)
			if err != nil {
				return nil, err
			}
			return wrapping.EnvelopeDecrypt(&wrapping.EnvelopeInfo{Ciphertext: b.envelope.Ciphertext, Iv: b.envelope.Iv, Key: k})
		}, nil
}

// newByHand is the envelope that one writes with the standard library.
func newByHand() (sealer, opener, error) {
	key := make([]byte, 32)
	rand.Read(key)
	kek, err := gcm(key)
	type both struct{ sealed, wrapped []byte }
	return func(plain []byte) (any, error) {
			dek := make([]byte, 32)
			rand.Read(dek)
			a, err := gcm(dek)
			if err != nil {
				return nil, err
			}
			return both{gcmSeal(a, plain), gcmSeal(kek, dek)}, nil
		}, func(s any) ([]byte, error) {
			b := s.(both)
			dek, err := kek.Open(nil, b.wrapped[:12], b.wrapped[12:], nil)
			if err != nil {
				return nil, err
			}
			a, err := gcm(dek)
			if err != nil {
				return nil, err
			}
			return a.Open(nil, b.sealed[:12], b.sealed[12:], nil)
		}, err
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func gcmSeal(a cipher.AEAD, plain []byte) []byte {
	out := make([]byte, 12, 12+len(plain)+16)
	rand.Read(out)
	return a.Seal(out, out, plain, nil)
}

func newAge() (sealer, opener, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, nil, err
	}
	return func(plain []byte) (any, error) {
			var out bytes.Buffer
			w, err := age.Encrypt(&out, identity.Recipient())
			if err != nil {
				return nil, err
			}
			if _, err := w.Write(plain); err != nil {
				return nil, err
			}
			err = w.Close()
			return out.Bytes(), err
		}, func(s any) ([]byte, error) {
			r, err := age.Decrypt(bytes.NewReader(s.([]byte)), identity)
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		}, nil
}

func newGocloud() (sealer, opener, error) {
	key, err := localsecrets.NewRandomKey()
	keeper, ctx := localsecrets.NewKeeper(key), context.Background()
	return func(plain []byte) (any, error) { return keeper.Encrypt(ctx, plain) },
		func(s any) ([]byte, error) { return keeper.Decrypt(ctx, s.([]byte)) }, err
}

func newSecretbox() (sealer, opener, error) {
	var key [32]byte
	rand.Read(key[:])
	return func(plain []byte) (any, error) {
			var nonce [24]byte
			rand.Read(nonce[:])
			return secretbox.Seal(nonce[:], plain, &nonce, &key), nil
		}, func(s any) ([]byte, error) {
			b := s.([]byte)
			var nonce [24]byte
			copy(nonce[:], b)
			out, ok := secretbox.Open(nil, b[24:], &nonce, &key)
			if !ok {
				return nil, crypto.ErrDamaged
			}
			return out, nil
		}, nil
}
