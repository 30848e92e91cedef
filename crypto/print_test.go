package crypto_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/reseal/reseal/crypto"
)

// canary is the material of the keys that must not show: 32 distinct bytes,
// printable, so that no encoding hides them.
const canary = "CANARY-key-0123456789-abcdefghij"

// holder has a key where a String or MarshalJSON method on Key would not be
// called: in an unexported field of another struct.
type holder struct {
	key  *crypto.Key
	copy crypto.Key
	list []*crypto.Key
	err  error
}

func canaryKey(t *testing.T) *crypto.Key {
	t.Helper()
	k, err := crypto.KeyFromBytes([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	// Use it, so that its keyed states exist.
	if _, err := k.MAC(nil, []byte("message")); err != nil {
		t.Fatal(err)
	}
	return k
}

// spellings are the ways in which some encoder could write the canary.
func spellings(secret []byte) []string {
	var decimal, hexes []string
	for _, b := range secret[:8] {
		decimal = append(decimal, fmt.Sprint(b))
		hexes = append(hexes, fmt.Sprintf("0x%x", b))
	}
	return []string{
		string(secret[:8]),
		hex.EncodeToString(secret[:8]),
		strings.ToUpper(hex.EncodeToString(secret[:8])),
		base64.StdEncoding.EncodeToString(secret)[:10],
		base64.URLEncoding.EncodeToString(secret)[:10],
		strings.Join(decimal, " "),
		strings.Join(decimal, ","),
		strings.Join(hexes, ", "),
	}
}

// printed returns v as every printer that programs use writes it.
func printed(v any) map[string]string {
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	var text, js bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v, slog.Group("g", "v", v))
	slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "v", v, slog.Group("g", "v", v))
	out["slog text"], out["slog json"] = text.String(), js.String()
	b, err := json.Marshal(v)
	out["json"] = fmt.Sprint(string(b), err)
	b, err = xml.Marshal(v)
	out["xml"] = fmt.Sprint(string(b), err)
	return out
}

func shows(printed map[string]string, secret []byte) (how string, found bool) {
	for how, text := range printed {
		for _, s := range spellings(secret) {
			if strings.Contains(text, s) {
				return how + ": " + text, true
			}
		}
	}
	return "", false
}

func TestPrintingCheckSeesAVisibleKey(t *testing.T) {
	type visible struct{ key [32]byte }
	for _, v := range []any{
		visible{[32]byte([]byte(canary))},
		struct{ key []byte }{[]byte(canary)},
		struct{ Key []byte }{[]byte(canary)},
		errors.New("bad key " + canary),
	} {
		if _, found := shows(printed(v), []byte(canary)); !found {
			t.Errorf("the check does not see the key in %T", v)
		}
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	k := canaryKey(t)
	root := crypto.NewKey()
	wrapped, err := root.Wrap(nil, k, []byte("context"))
	if err != nil {
		t.Fatal(err)
	}
	unwrapped, err := root.Unwrap(wrapped, []byte("context"))
	if err != nil {
		t.Fatal(err)
	}
	_, layerErr := k.OpenValue(nil, wrapped, wrapped, nil, nil)
	var nilKey *crypto.Key
	for _, v := range []any{
		k, *k, unwrapped, *unwrapped, nilKey,
		holder{key: k, copy: *k, list: []*crypto.Key{k}, err: layerErr},
		&holder{key: unwrapped, copy: *unwrapped, list: []*crypto.Key{unwrapped}},
		struct{ Key *crypto.Key }{k},
		map[string]*crypto.Key{"k": k},
		[]crypto.Key{*k},
		any(k),
		layerErr,
	} {
		if how, found := shows(printed(v), []byte(canary)); found {
			t.Errorf("%T shows the key under %s", v, how)
		}
	}
}

func TestErrorsDoNotQuoteTheKeyFile(t *testing.T) {
	good, err := crypto.EncodeKeyFile(canaryKey(t))
	if err != nil {
		t.Fatal(err)
	}
	digits := hex.EncodeToString([]byte(canary))
	for name, text := range map[string]string{
		"cut":        string(good[:len(good)-5]),
		"twice":      string(good) + string(good),
		"wrong sum":  "reseal-key-v1:" + digits + ":00000000\n",
		"bad digit":  "reseal-key-v1:" + digits[:62] + "zz:00000000\n",
		"no prefix":  digits + "\n",
		"old prefix": "reseal-key-v0:" + digits + ":00000000\n",
	} {
		_, err := crypto.ParseKeyFile([]byte(text))
		if err == nil {
			t.Errorf("%s: parsed", name)
			continue
		}
		if how, found := shows(printed(err), []byte(canary)); found {
			t.Errorf("%s: error shows the key under %s", name, how)
		}
		if how, found := shows(printed(err), []byte(digits)); found {
			t.Errorf("%s: error shows the digits under %s", name, how)
		}
	}
}

func TestKDFParametersShowNoPassphrase(t *testing.T) {
	kdf := crypto.KDF{Time: 1, Memory: 8, Threads: 1, Salt: make([]byte, 16)}
	k, err := crypto.DeriveKey([]byte(canary), kdf)
	if err != nil {
		t.Fatal(err)
	}
	_, kdfErr := crypto.DeriveKey([]byte(canary), crypto.KDF{})
	for _, v := range []any{k, kdf, kdfErr, holder{key: k, err: kdfErr}} {
		if how, found := shows(printed(v), []byte(canary)); found {
			t.Errorf("%T shows the passphrase under %s", v, how)
		}
	}
}
