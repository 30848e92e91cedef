package crypto_test

import (
	"testing"

	"github.com/reseal/reseal/crypto"
)

func TestEqualComparesMaterial(t *testing.T) {
	raw := make([]byte, crypto.KeySize)
	a, err := crypto.KeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	same, err := crypto.KeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	raw[31] = 1
	other, err := crypto.KeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equal(same) || !a.Equal(a) {
		t.Error("equal keys differ")
	}
	if a.Equal(other) {
		t.Error("keys that differ in the last byte are equal")
	}
	same.Clear()
	if a.Equal(same) || same.Equal(a) {
		t.Error("a cleared key equals another")
	}
}
