package crypto

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDeriveIsHKDFExpand(t *testing.T) {
	p := newPRF()
	for n := range 300 {
		var key [KeySize]byte
		rand.Read(key[:])
		head, context := make([]byte, headerSize+nonceSize), make([]byte, n)
		rand.Read(head)
		rand.Read(context)
		info := slices.Concat([]byte("reseal/v1/envelope\x00"), head, context)
		want, err := hkdf.Expand(sha256.New, key[:], string(info), 64)
		if err != nil {
			t.Fatal(err)
		}
		p.setKey(&key)
		var d derived
		d.derive(p, head, context)
		if diff := cmp.Diff(want, slices.Concat(d.key[:], d.commitment[:])); diff != "" {
			t.Fatalf("context of %d bytes (-want +got):\n%s", n, diff)
		}
	}
}

func TestRewrapProofSeesAnotherKey(t *testing.T) {
	k, place := NewKey(), []byte("place")
	p, err := k.acquire()
	if err != nil {
		t.Fatal(err)
	}
	s := &scratch{fresh: newPRF()}
	rand.Read(s.dataKey[:])
	wrapped, err := s.seal(p, nil, s.dataKey[:], place)
	if err != nil {
		t.Fatal(err)
	}
	if !s.proves(p, wrapped, place) {
		t.Error("a good wrap is not proved")
	}
	if s.proves(p, wrapped, []byte("elsewhere")) {
		t.Error("a wrap for another place is proved")
	}
	s.dataKey[31] ^= 1
	if s.proves(p, wrapped, place) {
		t.Error("a wrap of another key is proved")
	}
}
