package crypto_test

import (
	"bytes"
	"testing"

	"github.com/reseal/reseal/crypto"
)

func TestLocateFindsEnvelopesByTheirHeader(t *testing.T) {
	key := crypto.NewKey()
	defer key.Clear()
	envelope, err := key.Wrap(nil, crypto.NewKey(), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	near := append([]byte("RRS1RS1\x02"), make([]byte, 40)...) // look like it and are none
	for _, c := range []struct {
		why  string
		b    []byte
		want int
	}{
		{"nothing", nil, -1},
		{"at the beginning", envelope, 0},
		{"behind others that look like it", append(bytes.Clone(near), envelope...), len(near)},
		{"the nonce whole and no more", envelope[:crypto.NonceEnd], 0},
		{"part of the nonce", envelope[:crypto.NonceEnd-1], -1},
		{"the header gone", envelope[1:], -1},
	} {
		if got := crypto.Locate(c.b); got != c.want {
			t.Errorf("%s: Locate = %d, want %d", c.why, got, c.want)
		}
	}
	other, err := key.Wrap(nil, crypto.NewKey(), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if crypto.MarkOf(envelope) == crypto.MarkOf(other) {
		t.Error("two envelopes have one mark")
	}
	if crypto.MarkOf(envelope) != crypto.MarkOf(envelope[:crypto.NonceEnd]) {
		t.Error("the mark is not of the first bytes")
	}
}
