package crypto_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
)

func seal(t *testing.T, k *crypto.Key, plaintext, context string) []byte {
	t.Helper()
	b, err := k.Seal(nil, []byte(plaintext), []byte(context))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealOpenRoundTrip(t *testing.T) {
	k := crypto.NewKey()
	for _, n := range []int{0, 1, 15, 16, 17, 63, 64, 65, 4096, 64 << 10, 1 << 20} {
		want := bytes.Repeat([]byte{byte(n + 1)}, n)
		sealed, err := k.Seal([]byte("before"), want, []byte("here"))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(sealed) - len("before"); got != n+crypto.Overhead {
			t.Errorf("envelope of %d bytes is %d bytes long", n, got)
		}
		got, err := k.Open([]byte("kept "), sealed[len("before"):], []byte("here"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append([]byte("kept "), want...)) {
			t.Errorf("%d bytes did not come back", n)
		}
	}
}

func TestSealNeverRepeatsAnEnvelope(t *testing.T) {
	k := crypto.NewKey()
	a, b := seal(t, k, "value", "here"), seal(t, k, "value", "here")
	if bytes.Equal(a[4:28], b[4:28]) || bytes.Equal(a[28:60], b[28:60]) || bytes.Equal(a[60:], b[60:]) {
		t.Errorf("two envelopes of one value share a nonce, commitment or ciphertext:\n%x\n%x", a, b)
	}
}

func TestOpenRefusesEveryAlteredByte(t *testing.T) {
	k := crypto.NewKey()
	envelope := seal(t, k, "a value", "here")
	for i := range envelope {
		want := crypto.ErrDamaged
		switch {
		case i < 4:
			want = crypto.ErrFormat
		case i < 60:
			want = crypto.ErrWrongKeyOrContext
		}
		for bit := range 8 {
			altered := bytes.Clone(envelope)
			altered[i] ^= 1 << bit
			got, err := k.Open([]byte("kept"), altered, []byte("here"))
			if !errors.Is(err, want) || string(got) != "kept" {
				t.Errorf("byte %d bit %d: got %q, %v, want %v", i, bit, got, err, want)
			}
		}
	}
}

func TestOpenRefusesEveryOtherLength(t *testing.T) {
	k := crypto.NewKey()
	envelope := seal(t, k, "a value", "here")
	for n := range envelope {
		want := crypto.ErrDamaged
		if n < crypto.Overhead {
			want = crypto.ErrFormat
		}
		if _, err := k.Open(nil, envelope[:n], []byte("here")); !errors.Is(err, want) {
			t.Errorf("cut to %d bytes: got %v, want %v", n, err, want)
		}
	}
	if _, err := k.Open(nil, append(envelope, 0), []byte("here")); !errors.Is(err, crypto.ErrDamaged) {
		t.Errorf("extended: got %v", err)
	}
}

func TestOpenRefusesAnotherKeyAndPlace(t *testing.T) {
	k := crypto.NewKey()
	envelope := seal(t, k, "a value", "here")
	if _, err := crypto.NewKey().Open(nil, envelope, []byte("here")); !errors.Is(err, crypto.ErrWrongKeyOrContext) {
		t.Errorf("another key: got %v", err)
	}
	for _, place := range []string{"", "her", "here ", "hers"} {
		if _, err := k.Open(nil, envelope, []byte(place)); !errors.Is(err, crypto.ErrWrongKeyOrContext) {
			t.Errorf("at %q: got %v", place, err)
		}
	}
}

func TestUnwrapGivesTheSameKey(t *testing.T) {
	root, inner := crypto.NewKey(), crypto.NewKey()
	wrapped, err := root.Wrap([]byte("before"), inner, []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	wrapped = wrapped[len("before"):]
	if len(wrapped) != crypto.WrappedSize {
		t.Fatalf("wrapped key is %d bytes, want %d", len(wrapped), crypto.WrappedSize)
	}
	got, err := root.Unwrap(wrapped, []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := got.Open(nil, seal(t, inner, "x", "y"), []byte("y")); err != nil || string(s) != "x" {
		t.Errorf("unwrapped key does not open what the original sealed: %q, %v", s, err)
	}
	if err := root.CheckWrap(wrapped, []byte("here")); err != nil {
		t.Errorf("CheckWrap of a good wrap: %v", err)
	}
}

func TestUnwrapRefusesASealedValue(t *testing.T) {
	k := crypto.NewKey()
	for _, n := range []int{0, 31, 33} {
		sealed := seal(t, k, string(make([]byte, n)), "here")
		if _, err := k.Unwrap(sealed, []byte("here")); !errors.Is(err, crypto.ErrFormat) {
			t.Errorf("envelope of %d bytes: got %v, want ErrFormat", n, err)
		}
		if err := k.CheckWrap(sealed, []byte("here")); !errors.Is(err, crypto.ErrFormat) {
			t.Errorf("CheckWrap, envelope of %d bytes: got %v, want ErrFormat", n, err)
		}
	}
}

func TestKeyFromBytesTakes32BytesOnly(t *testing.T) {
	for _, n := range []int{0, 1, 16, 31, 33, 64} {
		if _, err := crypto.KeyFromBytes(make([]byte, n)); !errors.Is(err, crypto.ErrKeyLength) {
			t.Errorf("%d bytes: got %v, want ErrKeyLength", n, err)
		}
	}
	raw := bytes.Repeat([]byte{7}, crypto.KeySize)
	k, err := crypto.KeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	envelope := seal(t, k, "v", "here")
	clear(raw)
	if _, err := k.Open(nil, envelope, []byte("here")); err != nil {
		t.Errorf("the key is not a copy: %v", err)
	}
}

func TestMACIsHMACSHA256(t *testing.T) {
	raw := bytes.Repeat([]byte{9}, crypto.KeySize)
	k, err := crypto.KeyFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 63, 64, 65, 1000} {
		message := bytes.Repeat([]byte{byte(n)}, n)
		h := hmac.New(sha256.New, raw)
		h.Write(message)
		got, err := k.MAC([]byte("kept"), message)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h.Sum([]byte("kept")), got); diff != "" {
			t.Errorf("MAC of %d bytes (-want +got):\n%s", n, diff)
		}
	}
}

func TestOpenValueSaysWhichLayerFailed(t *testing.T) {
	k := crypto.NewKey()
	value, place := []byte("value context"), []byte("data key context")
	sealed, wrapped, err := k.SealValue([]byte("s:"), []byte("w:"), []byte("secret"), value, place)
	if err != nil {
		t.Fatal(err)
	}
	if string(sealed[:2]) != "s:" || string(wrapped[:2]) != "w:" {
		t.Fatalf("SealValue lost what was before: %q %q", sealed[:2], wrapped[:2])
	}
	sealed, wrapped = sealed[2:], wrapped[2:]
	got, err := k.OpenValue([]byte("v:"), sealed, wrapped, value, place)
	if err != nil || string(got) != "v:secret" {
		t.Fatalf("OpenValue = %q, %v", got, err)
	}
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	for _, c := range []struct {
		name            string
		sealed, wrapped []byte
		value, place    []byte
		layer           crypto.Layer
		err             error
	}{
		{"wrap moved", sealed, wrapped, value, value, crypto.DataKeyLayer, crypto.ErrWrongKeyOrContext},
		{"wrap cut", sealed, wrapped[:107], value, place, crypto.DataKeyLayer, crypto.ErrFormat},
		{"wrap damaged", sealed, flip(wrapped, 60), value, place, crypto.DataKeyLayer, crypto.ErrDamaged},
		{"value moved", sealed, wrapped, place, place, crypto.ValueLayer, crypto.ErrWrongKeyOrContext},
		{"value cut", sealed[:75], wrapped, value, place, crypto.ValueLayer, crypto.ErrFormat},
		{"value damaged", flip(sealed, 60), wrapped, value, place, crypto.ValueLayer, crypto.ErrDamaged},
		{"both damaged", flip(sealed, 60), flip(wrapped, 60), value, place, crypto.DataKeyLayer, crypto.ErrDamaged},
	} {
		got, err := k.OpenValue([]byte("kept"), c.sealed, c.wrapped, c.value, c.place)
		var layered *crypto.LayerError
		if !errors.As(err, &layered) || layered.Layer != c.layer || !errors.Is(err, c.err) || string(got) != "kept" {
			t.Errorf("%s: got %q, %v, want %v at the %s", c.name, got, err, c.err, c.layer)
		}
		if want := "open " + string(c.layer) + ": " + c.err.Error(); err != nil && err.Error() != want {
			t.Errorf("%s: got message %q, want %q", c.name, err, want)
		}
	}
}

func TestRewrapKeepsTheDataKey(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	sealed, wrapped, err := from.SealValue(nil, nil, []byte("secret"), []byte("value"), []byte("old place"))
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(wrapped)
	moved, err := crypto.Rewrap([]byte("kept"), from, to, wrapped, []byte("old place"), []byte("new place"))
	if err != nil {
		t.Fatal(err)
	}
	moved, ok := bytes.CutPrefix(moved, []byte("kept"))
	if !ok || len(moved) != crypto.WrappedSize {
		t.Fatalf("new wrap is %d bytes, kept %v", len(moved), ok)
	}
	if diff := cmp.Diff(before, wrapped); diff != "" {
		t.Errorf("the old wrap changed (-want +got):\n%s", diff)
	}
	got, err := to.OpenValue(nil, sealed, moved, []byte("value"), []byte("new place"))
	if err != nil || string(got) != "secret" {
		t.Errorf("under the new key: %q, %v", got, err)
	}
	if err := from.CheckWrap(moved, []byte("new place")); !errors.Is(err, crypto.ErrWrongKeyOrContext) {
		t.Errorf("the old key opens the new wrap: %v", err)
	}
	again, err := crypto.Rewrap(nil, to, to, moved, []byte("new place"), []byte("new place"))
	if err != nil || bytes.Equal(again, moved) {
		t.Errorf("rewrap to the same key: %v, same bytes %v", err, bytes.Equal(again, moved))
	}
}

func TestRewrapRefusesAWrapThatDoesNotOpen(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	_, wrapped, err := from.SealValue(nil, nil, []byte("secret"), nil, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(wrapped)
	damaged[107] ^= 0x80
	for _, c := range []struct {
		name    string
		wrapped []byte
		context string
		err     error
	}{
		{"elsewhere", wrapped, "other", crypto.ErrWrongKeyOrContext},
		{"damaged", damaged, "place", crypto.ErrDamaged},
		{"cut", wrapped[:50], "place", crypto.ErrFormat},
	} {
		got, err := crypto.Rewrap([]byte("kept"), from, to, c.wrapped, []byte(c.context), []byte("new"))
		var layered *crypto.LayerError
		if !errors.As(err, &layered) || layered.Layer != crypto.DataKeyLayer || !errors.Is(err, c.err) || string(got) != "kept" {
			t.Errorf("%s: got %q, %v, want %v", c.name, got, err, c.err)
		}
	}
}

// Every bit of every kind of envelope counts, and so does every bit of its
// context and of its key.
func TestOpenRefusesEveryAlteredBit(t *testing.T) {
	var store, root, a, b crypto.ID
	store[0], root[0], a[0], b[0] = 1, 2, 3, 4
	kdf := crypto.DefaultKDF()
	for purpose, context := range map[string][]byte{
		"root":      crypto.AppendRootContext(nil, store, root, a, "passphrase", "argon2id", kdf),
		"integrity": crypto.AppendIntegrityContext(nil, store, root),
		"master":    crypto.AppendMasterContext(nil, store, root, a, 3),
		"data key":  crypto.AppendDataKeyContext(nil, store, a, b, 7),
		"value":     crypto.AppendValueContext(nil, store, a, "app/db", 5, b),
	} {
		raw := bytes.Repeat([]byte{7}, crypto.KeySize)
		k, err := crypto.KeyFromBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		envelope := seal(t, k, "thirty-two bytes, as a key is ..", string(context))
		if _, err := k.Open(nil, envelope, context); err != nil {
			t.Fatalf("%s: unaltered: %v", purpose, err)
		}
		refused := 0
		for _, part := range [][]byte{envelope, context, raw} {
			for i := range 8 * len(part) {
				part[i/8] ^= 1 << (i % 8)
				k, err := crypto.KeyFromBytes(raw)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := k.Open(nil, envelope, context); err == nil || len(got) > 0 {
					t.Errorf("%s: bit %d of %d: opens as %q", purpose, i, 8*len(part), got)
				} else {
					refused++
				}
				part[i/8] ^= 1 << (i % 8)
			}
		}
		t.Logf("%s: %d altered bits refused", purpose, refused)
	}
}
