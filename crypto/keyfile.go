package crypto

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A key file is one line of ASCII:
//
//	reseal-key-v1:<64 hex digits of the key>:<8 hex digits of its SHA-256>
//
// Empty lines and lines that begin with # are skipped, spaces, tabs and
// carriage returns around a line are ignored. The check digits tell a mistyped
// or cut key from a wrong one; they say nothing useful about a random 256-bit
// key.
const keyFilePrefix = "reseal-key-v1:"

// maxKeyFile bounds what ParseKeyFile looks at.
const maxKeyFile = 4096

// EncodeKeyFile returns the text of a key file that holds k. The caller clears
// it and writes it with mode 0600.
func EncodeKeyFile(k *Key) ([]byte, error) {
	var raw [KeySize]byte
	defer clear(raw[:])
	if err := k.copyTo(&raw); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(raw[:])
	text := make([]byte, 0, 256)
	text = append(text, "# reseal key file: whoever has it can open the store. Keep a copy elsewhere.\n"...)
	text = append(text, keyFilePrefix...)
	text = hex.AppendEncode(text, raw[:])
	text = append(text, ':')
	text = hex.AppendEncode(text, sum[:4])
	return append(text, '\n'), nil
}

// ParseKeyFile reads what EncodeKeyFile writes. The error wraps ErrKeyFile and
// never quotes the text.
func ParseKeyFile(text []byte) (*Key, error) {
	if len(text) > maxKeyFile {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrKeyFile, maxKeyFile)
	}
	var only []byte
	for line := range bytes.Lines(text) {
		line = bytes.Trim(line, " \t\r\n")
		switch {
		case len(line) == 0 || line[0] == '#':
		case only != nil:
			return nil, fmt.Errorf("%w: more than one key", ErrKeyFile)
		default:
			only = line
		}
	}
	if only == nil {
		return nil, fmt.Errorf("%w: no key in it", ErrKeyFile)
	}
	return parseKeyLine(only)
}

func parseKeyLine(line []byte) (*Key, error) {
	rest, ok := bytes.CutPrefix(line, []byte(keyFilePrefix))
	if !ok {
		return nil, fmt.Errorf("%w: the line does not begin with %q", ErrKeyFile, keyFilePrefix)
	}
	digits, check, ok := bytes.Cut(rest, []byte(":"))
	var raw [KeySize]byte
	var sum [4]byte
	defer clear(raw[:])
	if !ok || len(digits) != 2*KeySize || len(check) != 2*len(sum) {
		return nil, fmt.Errorf("%w: the line is cut or too long", ErrKeyFile)
	}
	if _, err := hex.Decode(raw[:], digits); err != nil {
		return nil, fmt.Errorf("%w: a character is not a hexadecimal digit", ErrKeyFile)
	}
	if _, err := hex.Decode(sum[:], check); err != nil {
		return nil, fmt.Errorf("%w: a character is not a hexadecimal digit", ErrKeyFile)
	}
	if want := sha256.Sum256(raw[:]); !bytes.Equal(want[:4], sum[:]) {
		return nil, fmt.Errorf("%w: the check digits do not match, it was mistyped or cut", ErrKeyFile)
	}
	return KeyFromBytes(raw[:])
}
