//go:build !reseal_format2

package crypto_test

import (
	"errors"
	"testing"

	"github.com/reseal/reseal/crypto"
)

// TestReleasesReadFormat1Only has every other suite byte, the tests' 0x7f among
// them.
func TestReleasesReadFormat1Only(t *testing.T) {
	key, place := crypto.NewKey(), []byte("a context")
	envelope, err := key.Wrap(nil, crypto.NewKey(), place)
	if err != nil {
		t.Fatal(err)
	}
	if envelope[3] != 0x01 {
		t.Fatalf("suite %#x", envelope[3])
	}
	for suite := range 256 {
		envelope[3] = byte(suite)
		_, err := key.Unwrap(envelope, place)
		if suite == 0x01 && err != nil || suite != 0x01 && !errors.Is(err, crypto.ErrFormat) {
			t.Errorf("suite %#x: %v", suite, err)
		}
	}
}
