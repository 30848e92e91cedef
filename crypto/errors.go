package crypto

import "errors"

var (
	// ErrKeyLength is returned when key material is not exactly KeySize bytes.
	ErrKeyLength = errors.New("key is not 32 bytes")

	// ErrFormat is returned when bytes are too short to be an envelope, or
	// carry a magic or suite that this package does not know.
	ErrFormat = errors.New("not a known envelope format")

	// ErrWrongKeyOrContext is returned when the commitment does not match: the
	// envelope was made under another key or for another place, or its header,
	// nonce or commitment was altered.
	ErrWrongKeyOrContext = errors.New("wrong key or context")

	// ErrDamaged is returned when the commitment matches but the ciphertext
	// was altered.
	ErrDamaged = errors.New("ciphertext is damaged")

	// ErrCleared is returned by every operation on a Key after its Clear.
	ErrCleared = errors.New("key was cleared")

	// ErrKDF is returned when Argon2id parameters are outside the bounds that
	// this package accepts.
	ErrKDF = errors.New("key derivation parameters out of bounds")

	// ErrKeyFile is returned when a key file does not have the form that
	// EncodeKeyFile writes.
	ErrKeyFile = errors.New("not a reseal key file")
)
