package crypto_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
)

// sealedAt is a value sealed under k, with contexts that say where.
func sealedAt(t *testing.T, k *crypto.Key, value []byte) (sealed, wrapped []byte) {
	t.Helper()
	sealed, wrapped, err := k.SealValue(nil, nil, value, []byte("value"), []byte("old place"))
	if err != nil {
		t.Fatal(err)
	}
	return sealed, wrapped
}

func TestReencryptKeepsTheValueAndNothingElse(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	for _, n := range []int{1, 32, 1 << 10, 1<<10 + 1, 64 << 10, 1 << 20} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			value := bytes.Repeat([]byte("v"), n)
			sealed, wrapped := sealedAt(t, from, value)
			before := [][]byte{bytes.Clone(sealed), bytes.Clone(wrapped)}
			newSealed, newWrapped, err := crypto.Reencrypt([]byte("s:"), []byte("w:"), from, to, sealed, wrapped, []byte("value"), []byte("old place"), []byte("new place"))
			if err != nil {
				t.Fatal(err)
			}
			newSealed, ok := bytes.CutPrefix(newSealed, []byte("s:"))
			newWrapped, also := bytes.CutPrefix(newWrapped, []byte("w:"))
			if !ok || !also || len(newSealed) != len(sealed) || len(newWrapped) != len(wrapped) {
				t.Fatalf("%d and %d bytes, of %d and %d", len(newSealed), len(newWrapped), len(sealed), len(wrapped))
			}
			if diff := cmp.Diff(before, [][]byte{sealed, wrapped}); diff != "" {
				t.Errorf("the old envelopes changed (-want +got):\n%s", diff)
			}
			got, err := to.OpenValue(nil, newSealed, newWrapped, []byte("value"), []byte("new place"))
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("under the new key: %d bytes, %v", len(got), err)
			}
			wantNothingShared(t, sealed, newSealed)
		})
	}
}

// wantNothingShared checks that two envelopes of one value have nothing in
// common but their header.
func wantNothingShared(t *testing.T, a, b []byte) {
	t.Helper()
	if bytes.Equal(a[4:28], b[4:28]) || bytes.Equal(a[28:60], b[28:60]) || bytes.Equal(a[60:], b[60:]) {
		t.Error("the new envelope shares its nonce, commitment or ciphertext with the old one")
	}
}

// TestOldDataKeyDoesNotOpenReencryptedValue is what the mode is for: whoever
// holds the old data key, by the old wrap and the old master key, has nothing
// that opens the new sealed value, and it is not opened by a rewrap either.
func TestOldDataKeyDoesNotOpenReencryptedValue(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	sealed, wrapped := sealedAt(t, from, []byte("secret"))
	newSealed, newWrapped, err := crypto.Reencrypt(nil, nil, from, to, sealed, wrapped, []byte("value"), []byte("old place"), []byte("new place"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = from.OpenValue(nil, newSealed, wrapped, []byte("value"), []byte("old place"))
	var layered *crypto.LayerError
	if !errors.As(err, &layered) || layered.Layer != crypto.ValueLayer || !errors.Is(err, crypto.ErrWrongKeyOrContext) {
		t.Errorf("the old data key on the new sealed value: %v", err)
	}
	_, err = to.OpenValue(nil, sealed, newWrapped, []byte("value"), []byte("new place"))
	if !errors.Is(err, crypto.ErrWrongKeyOrContext) {
		t.Errorf("the new data key on the old sealed value: %v", err)
	}
	moved, err := crypto.Rewrap(nil, from, to, wrapped, []byte("old place"), []byte("new place"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.OpenValue(nil, sealed, moved, []byte("value"), []byte("new place")); err != nil {
		t.Errorf("after a rewrap the data key is the old one, and yet: %v", err)
	}
}

func TestReencryptRefusesWhatDoesNotOpen(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	sealed, wrapped := sealedAt(t, from, []byte("secret"))
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	for _, c := range []struct {
		name            string
		from            *crypto.Key
		sealed, wrapped []byte
		value, place    string
		layer           crypto.Layer
		err             error
	}{
		{"another key", to, sealed, wrapped, "value", "old place", crypto.DataKeyLayer, crypto.ErrWrongKeyOrContext},
		{"wrap moved", from, sealed, wrapped, "value", "elsewhere", crypto.DataKeyLayer, crypto.ErrWrongKeyOrContext},
		{"wrap damaged", from, sealed, flip(wrapped, 107), "value", "old place", crypto.DataKeyLayer, crypto.ErrDamaged},
		{"wrap cut", from, sealed, wrapped[:107], "value", "old place", crypto.DataKeyLayer, crypto.ErrFormat},
		{"value moved", from, sealed, wrapped, "other value", "old place", crypto.ValueLayer, crypto.ErrWrongKeyOrContext},
		{"value damaged", from, flip(sealed, len(sealed)-1), wrapped, "value", "old place", crypto.ValueLayer, crypto.ErrDamaged},
		{"value cut", from, sealed[:75], wrapped, "value", "old place", crypto.ValueLayer, crypto.ErrFormat},
		{"no value", from, nil, wrapped, "value", "old place", crypto.ValueLayer, crypto.ErrFormat},
		{"both damaged", from, flip(sealed, 70), flip(wrapped, 70), "value", "old place", crypto.DataKeyLayer, crypto.ErrDamaged},
	} {
		gotSealed, gotWrapped, err := crypto.Reencrypt([]byte("kept"), []byte("too"), c.from, to, c.sealed, c.wrapped, []byte(c.value), []byte(c.place), []byte("new"))
		var layered *crypto.LayerError
		if !errors.As(err, &layered) || layered.Layer != c.layer || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v at the %s", c.name, err, c.err, c.layer)
		}
		if string(gotSealed) != "kept" || string(gotWrapped) != "too" {
			t.Errorf("%s: got %q and %q", c.name, gotSealed, gotWrapped)
		}
	}
}

// FuzzReencryptRefusesAlteredBytes: envelopes that are not, byte for byte,
// those that were made for this place never become new ones.
func FuzzReencryptRefusesAlteredBytes(f *testing.F) {
	from, to := mustKey(1), mustKey(2)
	wrapped, err := crypto.SealAt(from, [24]byte{7}, bytes.Repeat([]byte{9}, crypto.KeySize), []byte("place"))
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := crypto.SealAt(mustKey(9), [24]byte{8}, []byte("a value"), []byte("value"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed, wrapped, []byte("value"))
	f.Add(sealed[:len(sealed)-1], wrapped, []byte("value"))
	f.Add(sealed, append(bytes.Clone(wrapped), 0), []byte("value"))
	f.Add(sealed, wrapped, []byte("valu"))
	f.Add(wrapped, sealed, []byte("value"))
	f.Fuzz(func(t *testing.T, s, w, context []byte) {
		sound := bytes.Equal(s, sealed) && bytes.Equal(w, wrapped) && string(context) == "value"
		newSealed, newWrapped, err := crypto.Reencrypt([]byte("kept"), nil, from, to, s, w, context, []byte("place"), []byte("new place"))
		if (err == nil) != sound {
			t.Fatalf("sound %v, but the error is %v", sound, err)
		}
		if !sound {
			var layered *crypto.LayerError
			if !errors.As(err, &layered) || string(newSealed) != "kept" || len(newWrapped) != 0 {
				t.Fatalf("got %q, %q, %v", newSealed, newWrapped, err)
			}
			return
		}
		got, err := to.OpenValue(nil, newSealed[len("kept"):], newWrapped, context, []byte("new place"))
		if err != nil || string(got) != "a value" {
			t.Errorf("the new envelopes open to %q, %v", got, err)
		}
	})
}
