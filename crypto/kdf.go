package crypto

import (
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// KDFArgon2id is the name under which a slot records Argon2id (RFC 9106).
const KDFArgon2id = "argon2id"

// KDF holds Argon2id's parameters: passes, memory in KiB, lanes and salt.
type KDF struct {
	Time    uint32
	Memory  uint32
	Threads uint8
	Salt    []byte
}

// Bounds of what is accepted, checked before Argon2id is called: it panics on
// zero passes or lanes, and a huge stored memory cost would be a denial of
// service by whoever can write the file.
const (
	maxTime    = 64
	maxMemory  = 1 << 21 // KiB, 2 GiB
	maxThreads = 64
	maxWork    = 1 << 24 // passes times KiB: 14 s on two cores
	saltSize   = 16
)

// DefaultKDF returns the second recommended option of RFC 9106, section 4,
// t=3, m=64 MiB, p=4, with a fresh random salt of 16 bytes.
func DefaultKDF() KDF {
	k := KDF{Time: 3, Memory: 64 << 10, Threads: 4, Salt: make([]byte, saltSize)}
	rand.Read(k.Salt) // never fails, crypto/rand
	return k
}

// Check reports whether the parameters are within bounds; if not, the error
// wraps ErrKDF.
func (k KDF) Check() error {
	switch {
	case k.Time < 1 || k.Time > maxTime:
		return fmt.Errorf("%w: time %d is not between 1 and %d", ErrKDF, k.Time, maxTime)
	case k.Threads < 1 || k.Threads > maxThreads:
		return fmt.Errorf("%w: threads %d is not between 1 and %d", ErrKDF, k.Threads, maxThreads)
	case k.Memory < 8*uint32(k.Threads) || k.Memory > maxMemory:
		return fmt.Errorf("%w: memory %d KiB is not between %d and %d", ErrKDF, k.Memory, 8*uint32(k.Threads), maxMemory)
	case uint64(k.Time)*uint64(k.Memory) > maxWork:
		return fmt.Errorf("%w: %d passes over %d KiB are more than %d in all", ErrKDF, k.Time, k.Memory, maxWork)
	case len(k.Salt) != saltSize:
		return fmt.Errorf("%w: salt is %d bytes, not %d", ErrKDF, len(k.Salt), saltSize)
	}
	return nil
}

// DeriveKey derives a key from a passphrase, byte for byte, with Argon2id. It
// does not keep or clear the passphrase, nor refuse a weak or empty one. With
// DefaultKDF it takes about a third of a second and 64 MiB, which are left to
// the garbage collector as they are. An error wraps ErrKDF.
func DeriveKey(passphrase []byte, k KDF) (*Key, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	var raw [KeySize]byte
	defer clear(raw[:])
	shield(func() {
		derived := argon2.IDKey(passphrase, k.Salt, k.Time, k.Memory, k.Threads, KeySize)
		copy(raw[:], derived)
		clear(derived)
	})
	return KeyFromBytes(raw[:])
}
