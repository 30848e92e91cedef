//go:build reseal_format2

package crypto_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/reseal/reseal/crypto"
)

// TestFormatsAreNotMistakenForEachOther exchanges the suite bytes of an envelope
// of each format.
func TestFormatsAreNotMistakenForEachOther(t *testing.T) {
	defer crypto.WriteFormat2(false)
	key, value, place := crypto.NewKey(), []byte("a value"), []byte("a context")
	for _, format2 := range []bool{false, true} {
		crypto.WriteFormat2(format2)
		sealed, wrapped, err := key.SealValue(nil, nil, value, place, place)
		if err != nil {
			t.Fatal(err)
		}
		want := map[bool]byte{false: 0x01, true: 0x7f}[format2]
		if sealed[3] != want || wrapped[3] != want {
			t.Errorf("suites %#x and %#x, want %#x", sealed[3], wrapped[3], want)
		}
		crypto.WriteFormat2(!format2) // what is written does not change what is read
		got, err := key.OpenValue(nil, sealed, wrapped, place, place)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("opened %q, %v", got, err)
		}
		sealed[3] ^= 0x01 ^ 0x7f
		if _, err := key.OpenValue(nil, sealed, wrapped, place, place); !errors.Is(err, crypto.ErrWrongKeyOrContext) {
			t.Errorf("under the other suite: %v, want ErrWrongKeyOrContext", err)
		}
		sealed[3] = 0x02
		if _, err := key.OpenValue(nil, sealed, wrapped, place, place); !errors.Is(err, crypto.ErrFormat) {
			t.Errorf("under an unknown suite: %v, want ErrFormat", err)
		}
	}
}
