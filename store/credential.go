package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/reseal/reseal/crypto"
)

// The kinds of unseal slot.
const (
	slotPassphrase = "passphrase"
	slotKeyFile    = "key-file"
)

// Credential is one way to obtain the root key: what an unseal slot asks for.
// It cannot be printed. The zero Credential opens nothing.
type Credential struct {
	kind string
	// key returns the wrapping key for a slot with these parameters. The caller
	// clears it.
	key func(kdf crypto.KDF) (*crypto.Key, error)
}

// usable returns what keeps a key file from being read, whether or not a slot
// is for one.
func (c Credential) usable() error {
	if c.kind != slotKeyFile {
		return nil
	}
	k, err := c.key(crypto.KDF{})
	if err != nil {
		return err
	}
	k.Clear()
	return nil
}

// Passphrase is the credential of a passphrase slot. It copies p, which stays
// the caller's to clear. The key is derived with Argon2id (RFC 9106).
func Passphrase(p []byte) Credential {
	p = bytes.Clone(p)
	return Credential{kind: slotPassphrase, key: func(kdf crypto.KDF) (*crypto.Key, error) {
		if len(p) == 0 {
			return nil, invalid("the passphrase is empty")
		}
		return crypto.DeriveKey(p, kdf)
	}}
}

// KeyFile is the credential of a key-file slot: the path of a file that
// NewKeyFile wrote, read when it is needed. A file that others can read is
// refused with ErrPermissions.
func KeyFile(path string) Credential {
	return Credential{kind: slotKeyFile, key: func(crypto.KDF) (*crypto.Key, error) {
		text, err := readPrivate(path)
		if err != nil {
			return nil, err
		}
		defer clear(text)
		k, err := crypto.ParseKeyFile(text)
		if err != nil {
			return nil, fmt.Errorf("key file %q: %w: %w", path, ErrInvalid, err)
		}
		return k, nil
	}}
}

// Environment is the credential of a key-file slot whose text is in an
// environment variable, read when it is needed. Other processes of the same
// user can read it: a file with mode 0600 is better.
func Environment(variable string) Credential {
	return Credential{kind: slotKeyFile, key: func(crypto.KDF) (*crypto.Key, error) {
		k, err := crypto.ParseKeyFile([]byte(os.Getenv(variable)))
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w: %w", variable, ErrInvalid, err)
		}
		return k, nil
	}}
}

// NewKeyFile writes a fresh random key to a new file with mode 0600 and
// returns its credential. A path that exists is refused. Whoever loses the file
// and has no other slot has lost the store.
func NewKeyFile(path string) (Credential, error) {
	k := crypto.NewKey()
	defer k.Clear()
	text, err := crypto.EncodeKeyFile(k)
	if err != nil {
		return Credential{}, err
	}
	defer clear(text)
	if err := writePrivate(path, text); err != nil {
		return Credential{}, fmt.Errorf("key file: %w", err)
	}
	return KeyFile(path), nil
}

// writePrivate makes a new file that only its owner can read, and syncs it.
func writePrivate(path string, data []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path)
		}
	}()
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > 4096 {
		return nil, fmt.Errorf("key file %q: %w: %w: not a small regular file", path, ErrInvalid, crypto.ErrKeyFile)
	}
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %q has mode %04o: %w: run chmod 600 on it", path, mode.Perm(), ErrPermissions)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return text, nil
}
