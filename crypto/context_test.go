package crypto_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
)

func TestRecordBytes(t *testing.T) {
	got := crypto.NewRecord([]byte("before"), "ab").Text("").Number(258).Raw([]byte{0xff}).ID(crypto.ID{15: 1}).Bytes()
	want := "before" + unhex(t, `
		00000005
		00000002 6162
		00000000
		00000008 0000000000000102
		00000001 ff
		00000010 00000000000000000000000000000001`)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func unhex(t *testing.T, s string) string {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestContextsAppendToWhatIsThere(t *testing.T) {
	var a, b, c crypto.ID
	for name, f := range map[string]func(dst []byte) []byte{
		"root": func(d []byte) []byte {
			return crypto.AppendRootContext(d, a, b, c, "passphrase", "argon2id", crypto.DefaultKDF())
		},
		"integrity": func(d []byte) []byte { return crypto.AppendIntegrityContext(d, a, b) },
		"master":    func(d []byte) []byte { return crypto.AppendMasterContext(d, a, b, c, 1) },
		"data-key":  func(d []byte) []byte { return crypto.AppendDataKeyContext(d, a, b, c, 1) },
		"value":     func(d []byte) []byte { return crypto.AppendValueContext(d, a, b, "name", 1, c) },
	} {
		got := f([]byte("before"))
		if !bytes.HasPrefix(got, []byte("before")) || !bytes.Contains(got, []byte("reseal/v1/"+name)) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestContextsOfAllPurposesDiffer gives every purpose the same ids, so that
// only the label and the form keep them apart.
func TestContextsOfAllPurposesDiffer(t *testing.T) {
	var a, b, c crypto.ID
	seen := map[string]int{}
	for i, context := range [][]byte{
		crypto.AppendRootContext(nil, a, b, c, "passphrase", "argon2id", crypto.KDF{}),
		crypto.AppendRootContext(nil, a, b, c, "key-file", "", crypto.KDF{}),
		crypto.AppendIntegrityContext(nil, a, b),
		crypto.AppendMasterContext(nil, a, b, c, 1),
		crypto.AppendDataKeyContext(nil, a, b, c, 1),
		crypto.AppendValueContext(nil, a, b, "", 1, c),
	} {
		if j, ok := seen[string(context)]; ok {
			t.Errorf("contexts %d and %d are the same", i, j)
		}
		seen[string(context)] = i
	}
}

func TestIDsAreRandomAndReadable(t *testing.T) {
	a, b := crypto.NewID(), crypto.NewID()
	if a == b || a == (crypto.ID{}) {
		t.Errorf("NewID gave %s and %s", a, b)
	}
	if got, want := (crypto.ID{0: 0xab, 15: 1}).String(), "ab000000000000000000000000000001"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
}
