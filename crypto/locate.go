package crypto

import (
	"bytes"
	"encoding/binary"
)

// NonceEnd is where the nonce of an envelope ends.
const NonceEnd = headerSize + nonceSize

// Mark tells an envelope from all others: the first 8 bytes of its nonce, which
// are random.
type Mark uint64

// MarkOf returns the mark of an envelope, of which at least NonceEnd bytes are
// there.
func MarkOf(envelope []byte) Mark {
	return Mark(binary.BigEndian.Uint64(envelope[headerSize:]))
}

var magic = []byte(header[:3])

// Locate returns the offset in b of the first envelope whose header and nonce
// lie whole in b, or -1. It goes by the header alone: any 4 bytes may be one by
// chance, once in 4 GiB of random ones.
func Locate(b []byte) int {
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], magic)
		if i < 0 || at+i+NonceEnd > len(b) {
			return -1
		}
		at += i
		if readable(b[at : at+headerSize]) {
			return at
		}
	}
}

// Pieces returns 8 bytes each of an envelope's nonce, commitment and
// ciphertext, by which what is left of one is found whose beginning was
// overwritten.
func Pieces(envelope []byte) [3]Mark {
	at := func(i int) Mark { return Mark(binary.BigEndian.Uint64(envelope[i:])) }
	return [3]Mark{at(headerSize), at(NonceEnd), at(preludeSize)}
}
