package crypto_test

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/reseal/reseal/crypto"
)

// wycheproof is the part of the files in testdata/wycheproof that is used.
type wycheproof struct {
	NumberOfTests int
	TestGroups    []struct {
		KeySize, IVSize, TagSize int
		Tests                    []wycheproofTest
	}
}

type wycheproofTest struct {
	TcID                 int
	Comment, Result      string
	Key, IV, AAD, Msg    hexBytes
	CT, Tag              hexBytes
	IKM, Salt, Info, OKM hexBytes
	Size                 int
}

// eachWycheproof calls check for every test of a file, and fails if the file
// has not as many as it says.
func eachWycheproof(t *testing.T, file string, check func(test wycheproofTest)) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "wycheproof", file))
	if err != nil {
		t.Fatal(err)
	}
	var w wycheproof
	if err := json.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range w.TestGroups {
		for _, test := range g.Tests {
			check(test)
			n++
		}
	}
	if n != w.NumberOfTests || n == 0 {
		t.Errorf("%s: %d tests, it says %d", file, n, w.NumberOfTests)
	}
}

var errNonceSize = errors.New("nonce has the wrong size")

// openChecked opens with the check of the nonce's size that Open itself leaves
// to its caller.
func openChecked(aead cipher.AEAD, nonce, sealed, additionalData []byte) ([]byte, error) {
	if len(nonce) != aead.NonceSize() {
		return nil, errNonceSize
	}
	return aead.Open(nil, nonce, sealed, additionalData)
}

func TestCipherPassesWycheproof(t *testing.T) {
	for file, newAEAD := range map[string]func([]byte) (cipher.AEAD, error){
		"xchacha20_poly1305_test.json": chacha20poly1305.NewX,
		"chacha20_poly1305_test.json":  chacha20poly1305.New,
	} {
		badNonces := 0
		eachWycheproof(t, file, func(test wycheproofTest) {
			aead, err := newAEAD(test.Key)
			if err != nil {
				t.Fatalf("%s %d: %v", file, test.TcID, err)
			}
			sealed := append(bytes.Clone(test.CT), test.Tag...)
			got, err := openChecked(aead, test.IV, sealed, test.AAD)
			switch {
			case errors.Is(err, errNonceSize):
				badNonces++
				if test.Result == "valid" {
					t.Errorf("%s %d: a valid nonce of %d bytes was refused", file, test.TcID, len(test.IV))
				}
			case test.Result == "valid" && (err != nil || !bytes.Equal(got, test.Msg)):
				t.Errorf("%s %d (%s): got %x, %v", file, test.TcID, test.Comment, got, err)
			case test.Result == "valid" && !bytes.Equal(aead.Seal(nil, test.IV, test.Msg, test.AAD), sealed):
				t.Errorf("%s %d (%s): seals to something else", file, test.TcID, test.Comment)
			case test.Result != "valid" && err == nil:
				t.Errorf("%s %d (%s): opened", file, test.TcID, test.Comment)
			}
		})
		if badNonces == 0 {
			t.Errorf("%s: no test has a nonce of the wrong size", file)
		}
	}
}

// TestExpandPassesWycheproof extracts with crypto/hkdf, which envelopes do not
// do, and expands with what they use. It makes 64 bytes, so that longer
// outputs are compared as far as that.
func TestExpandPassesWycheproof(t *testing.T) {
	compared := 0
	eachWycheproof(t, "hkdf_sha256_test.json", func(test wycheproofTest) {
		if test.Result != "valid" {
			return // too long an output; ours has one length
		}
		prk, err := hkdf.Extract(sha256.New, test.IKM, test.Salt)
		if err != nil {
			t.Fatal(err)
		}
		n := min(test.Size, 64)
		got := crypto.Expand([32]byte(prk), test.Info)[:n]
		if !bytes.Equal(got, test.OKM[:n]) {
			t.Errorf("%d (%s): got %x, want %x", test.TcID, test.Comment, got, test.OKM[:n])
		}
		compared++
	})
	if compared < 80 {
		t.Errorf("only %d compared", compared)
	}
}

func TestPRFPassesWycheproof(t *testing.T) {
	compared := 0
	eachWycheproof(t, "hmac_sha256_test.json", func(test wycheproofTest) {
		if len(test.Key) != crypto.KeySize {
			return
		}
		got := crypto.PRF([32]byte(test.Key), test.Msg)[:len(test.Tag)]
		if same := bytes.Equal(got, test.Tag); same != (test.Result == "valid") {
			t.Errorf("%d (%s): same tag %v, but it is %s", test.TcID, test.Comment, same, test.Result)
		}
		compared++
	})
	if compared < 160 {
		t.Errorf("only %d compared", compared)
	}
}
