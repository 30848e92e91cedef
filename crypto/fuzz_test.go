package crypto_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
)

func seedVectors(f *testing.F) vectors {
	f.Helper()
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		f.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		f.Fatal(err)
	}
	return v
}

// FuzzOpen: whatever the bytes, opening them gives one of the documented
// errors and leaves dst alone, or a plaintext that seals to the same bytes.
func FuzzOpen(f *testing.F) {
	v := seedVectors(f)
	for _, e := range v.Envelopes {
		f.Add([]byte(e.Key), []byte(e.Envelope), []byte(e.Context))
	}
	for i := 0; i < len(v.Negative); i += 16 {
		n := v.Negative[i]
		f.Add([]byte(n.Key), []byte(n.Envelope), []byte(n.Context))
	}
	f.Fuzz(func(t *testing.T, rawKey, envelope, context []byte) {
		key, err := crypto.KeyFromBytes(rawKey)
		if err != nil {
			if len(rawKey) == crypto.KeySize || !errors.Is(err, crypto.ErrKeyLength) {
				t.Fatalf("key of %d bytes: %v", len(rawKey), err)
			}
			return
		}
		got, err := key.Open([]byte("kept"), envelope, context)
		plaintext, ok := bytes.CutPrefix(got, []byte("kept"))
		if !ok {
			t.Fatalf("dst was altered: %q", got)
		}
		if err != nil {
			documented := errors.Is(err, crypto.ErrFormat) || errors.Is(err, crypto.ErrWrongKeyOrContext) || errors.Is(err, crypto.ErrDamaged)
			if !documented || len(plaintext) != 0 {
				t.Fatalf("got %x, %v", plaintext, err)
			}
			return
		}
		again, err := crypto.SealAt(key, [24]byte(envelope[4:28]), plaintext, context)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(envelope, again); diff != "" {
			t.Errorf("opened, but seals to something else (-want +got):\n%s", diff)
		}
	})
}

// FuzzParseKeyFile: a text is refused, or holds a key that survives being
// written and read again.
func FuzzParseKeyFile(f *testing.F) {
	v := seedVectors(f)
	for _, k := range v.KeyFiles {
		f.Add([]byte(k.Text))
	}
	for _, n := range v.Negative {
		if n.Kind == "key-file" && len(n.Text) < 1000 {
			f.Add([]byte(n.Text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := crypto.ParseKeyFile(text)
		if err != nil {
			if !errors.Is(err, crypto.ErrKeyFile) {
				t.Fatal(err)
			}
			return
		}
		written, err := crypto.EncodeKeyFile(key)
		if err != nil {
			t.Fatal(err)
		}
		read, err := crypto.ParseKeyFile(written)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := crypto.RawKey(key)
		if got, _ := crypto.RawKey(read); !bytes.Equal(got, want) {
			t.Errorf("the key changed: %x, want %x", got, want)
		}
	})
}

// cut cuts b into a list of byte strings: each byte of cuts says how long
// the next one is. The rest is the last.
func cut(b, cuts []byte) [][]byte {
	var out [][]byte
	for _, n := range cuts {
		k := min(int(n), len(b))
		out = append(out, b[:k])
		b = b[k:]
	}
	return append(out, b)
}

// FuzzRecordIsInjective: two lists of fields have the same encoding if, and
// only if, they are the same. One list is the other cut at different places,
// which is how encodings that are not injective fail. An encoding can also be
// read back, which proves it for each list alone.
func FuzzRecordIsInjective(f *testing.F) {
	f.Add([]byte("reseal/v1/valueab"), []byte{15, 1}, []byte("reseal/v1/valueab"), []byte{15, 0})
	f.Add([]byte("label"), []byte{5}, []byte("label"), []byte{})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0}, []byte{4, 4}, []byte{0, 0, 0, 1, 0, 0, 0, 0}, []byte{4, 4})
	f.Add([]byte(""), []byte{}, []byte(""), []byte{0})
	f.Fuzz(func(t *testing.T, a, cutsA, b, cutsB []byte) {
		listA, listB := cut(a, cutsA), cut(b, cutsB)
		encodedA, encodedB := record(listA), record(listB)
		same := slices.EqualFunc(listA, listB, bytes.Equal)
		if bytes.Equal(encodedA, encodedB) != same {
			t.Errorf("%q and %q: same list %v, encodings %x and %x", listA, listB, same, encodedA, encodedB)
		}
		if got := decode(t, encodedA); !slices.EqualFunc(got, listA, bytes.Equal) {
			t.Errorf("%q was read back as %q", listA, got)
		}
	})
}

// decode reads a record back.
func decode(t *testing.T, b []byte) [][]byte {
	t.Helper()
	next := func() int {
		if len(b) < 4 {
			t.Fatalf("record ends within a length")
		}
		n := binary.BigEndian.Uint32(b)
		b = b[4:]
		return int(n)
	}
	fields := make([][]byte, next())
	for i := range fields {
		n := next()
		if n > len(b) {
			t.Fatalf("field of %d bytes, %d left", n, len(b))
		}
		fields[i], b = b[:n], b[n:]
	}
	if len(b) != 0 {
		t.Fatalf("%d bytes after the record", len(b))
	}
	return fields
}

// FuzzValueContextIsInjective: the contexts of two places are the same only if
// the places are.
func FuzzValueContextIsInjective(f *testing.F) {
	f.Add("a", uint64(1), "a", uint64(1), uint8(0))
	f.Add("a", uint64(1), "a", uint64(256), uint8(0))
	f.Add("a\x00\x00\x00\x08", uint64(1), "a", uint64(1), uint8(3))
	f.Fuzz(func(t *testing.T, nameA string, numberA uint64, nameB string, numberB uint64, other uint8) {
		var ids [3]crypto.ID
		if other < 3 {
			ids[other][15] = 1
		}
		a := crypto.AppendValueContext(nil, crypto.ID{}, crypto.ID{}, nameA, numberA, crypto.ID{})
		b := crypto.AppendValueContext(nil, ids[0], ids[1], nameB, numberB, ids[2])
		same := nameA == nameB && numberA == numberB && other >= 3
		if bytes.Equal(a, b) != same {
			t.Errorf("%q %d and %q %d, other id %d: contexts %x and %x", nameA, numberA, nameB, numberB, other, a, b)
		}
	})
}

// FuzzRewrapRefusesAlteredWrap: a wrap that is not, byte for byte, one that
// was made for this place never becomes a new wrap.
func FuzzRewrapRefusesAlteredWrap(f *testing.F) {
	from, to := mustKey(1), mustKey(2)
	place, target := []byte("the old place"), []byte("the new place")
	good, err := crypto.SealAt(from, [24]byte{7}, bytes.Repeat([]byte{9}, crypto.KeySize), place)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, place)
	f.Add(good[:107], place)
	f.Add(append(bytes.Clone(good), 0), place)
	f.Add(good, []byte("the old plac"))
	for _, at := range []int{0, 3, 4, 28, 60, 92, 107} {
		altered := bytes.Clone(good)
		altered[at] ^= 0x80
		f.Add(altered, place)
	}
	f.Fuzz(func(t *testing.T, wrapped, context []byte) {
		sound := bytes.Equal(wrapped, good) && bytes.Equal(context, place)
		got, err := crypto.Rewrap([]byte("kept"), from, to, wrapped, context, target)
		if (err == nil) != sound {
			t.Fatalf("sound %v, but the error is %v", sound, err)
		}
		if !sound {
			var layered *crypto.LayerError
			if !errors.As(err, &layered) || string(got) != "kept" {
				t.Fatalf("got %q, %v", got, err)
			}
			return
		}
		if err := to.CheckWrap(got[len("kept"):], target); err != nil {
			t.Errorf("the new wrap does not open: %v", err)
		}
	})
}

func mustKey(fill byte) *crypto.Key {
	k, err := crypto.KeyFromBytes(bytes.Repeat([]byte{fill}, crypto.KeySize))
	if err != nil {
		panic(err)
	}
	return k
}

// FuzzKDFCheck: what Check accepts is within the bounds of docs/format.md and
// does not make Argon2id panic; what it refuses never reaches Argon2id.
func FuzzKDFCheck(f *testing.F) {
	f.Add(uint32(3), uint32(64<<10), uint8(4), 16)
	f.Add(uint32(0), uint32(64), uint8(1), 16)
	f.Add(uint32(1), uint32(64), uint8(0), 16)
	f.Add(uint32(1), uint32(1<<32-1), uint8(1), 16)
	f.Add(uint32(1<<31), uint32(1<<31), uint8(255), 16)
	f.Add(uint32(8), uint32(1<<21), uint8(64), 16)
	f.Add(uint32(1), uint32(8), uint8(1), 15)
	f.Fuzz(func(t *testing.T, time, memory uint32, threads uint8, salt int) {
		k := crypto.KDF{Time: time, Memory: memory, Threads: threads, Salt: make([]byte, salt&0xff)}
		within := time >= 1 && time <= 64 && threads >= 1 && threads <= 64 &&
			memory >= 8*uint32(threads) && memory <= 1<<21 &&
			uint64(time)*uint64(memory) <= 1<<24 && len(k.Salt) == 16
		err := k.Check()
		if (err == nil) != within || err != nil && !errors.Is(err, crypto.ErrKDF) {
			t.Fatalf("%+v: within bounds %v, but got %v", k, within, err)
		}
		if within && uint64(time)*uint64(memory) > 4096 {
			return // right, and slow
		}
		if _, err := crypto.DeriveKey([]byte("x"), k); (err == nil) != within {
			t.Errorf("%+v: DeriveKey: %v", k, err)
		}
	})
}
