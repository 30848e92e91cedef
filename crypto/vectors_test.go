package crypto_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/crypto"
)

const vectorsFile = "testdata/vectors.json"

// vectors is testdata/vectors.json, described in docs/format.md.
type vectors struct {
	Format      string           `json:"format"`
	Envelopes   []envelopeVector `json:"envelopes"`
	KeyFiles    []keyFileVector  `json:"key_files"`
	KDFs        []kdfVector      `json:"kdfs"`
	Accumulated []accumulated    `json:"accumulated"`
	Tags        []tagVector      `json:"tags"`
	Negative    []negativeVector `json:"negative"`
}

// hexBytes is hexadecimal in JSON.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode([]byte{}, text)
	return err
}

// field is one field of a context: exactly one of its members is set.
type field struct {
	Text   *string   `json:"text,omitempty"`
	ID     *hexBytes `json:"id,omitempty"`
	Number *string   `json:"number,omitempty"` // decimal
	Raw    *hexBytes `json:"raw,omitempty"`
}

type kdfParameters struct {
	Time    uint32   `json:"time"`
	Memory  uint32   `json:"memory"`
	Threads uint8    `json:"threads"`
	Salt    hexBytes `json:"salt"`
}

func (k kdfParameters) kdf() crypto.KDF {
	return crypto.KDF{Time: k.Time, Memory: k.Memory, Threads: k.Threads, Salt: k.Salt}
}

// envelopeVector opens. A long one has the number of bytes of a generated
// plaintext and the SHA-256 of its envelope in place of both.
type envelopeVector struct {
	Name      string   `json:"name"`
	Key       hexBytes `json:"key"`
	Fields    []field  `json:"fields"`
	Context   hexBytes `json:"context"`
	Nonce     hexBytes `json:"nonce"`
	Plaintext hexBytes `json:"plaintext,omitempty"`
	Envelope  hexBytes `json:"envelope,omitempty"`
	Generated int      `json:"generated,omitempty"`
	SHA256    hexBytes `json:"sha256,omitempty"`
}

type keyFileVector struct {
	Name string   `json:"name"`
	Text string   `json:"text"`
	Key  hexBytes `json:"key"`
}

type kdfVector struct {
	Name       string        `json:"name"`
	Passphrase hexBytes      `json:"passphrase"`
	KDF        kdfParameters `json:"kdf"`
	Key        hexBytes      `json:"key"`
}

type accumulated struct {
	Count  int      `json:"count"`
	SHA256 hexBytes `json:"sha256"`
}

// tagVector is a record with its tag under an integrity key.
type tagVector struct {
	Name   string   `json:"name"`
	Key    hexBytes `json:"key"`
	Fields []field  `json:"fields"`
	Record hexBytes `json:"record"`
	Tag    hexBytes `json:"tag"`
}

// negativeVector is refused with Expect. Kind says what to do with it.
type negativeVector struct {
	Name     string         `json:"name"`
	Kind     string         `json:"kind"` // envelope, wrap, kdf or key-file
	Expect   string         `json:"expect"`
	Key      hexBytes       `json:"key,omitempty"`
	Context  hexBytes       `json:"context,omitempty"`
	Envelope hexBytes       `json:"envelope,omitempty"`
	KDF      *kdfParameters `json:"kdf,omitempty"`
	Text     string         `json:"text,omitempty"`
}

var expectations = map[string]error{
	"format":               crypto.ErrFormat,
	"wrong-key-or-context": crypto.ErrWrongKeyOrContext,
	"damaged":              crypto.ErrDamaged,
	"key-length":           crypto.ErrKeyLength,
	"kdf":                  crypto.ErrKDF,
	"key-file":             crypto.ErrKeyFile,
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// encode encodes fields, the first of which is the label.
func encode(fields []field) []byte {
	r := crypto.NewRecord(nil, *fields[0].Text)
	for _, f := range fields[1:] {
		switch {
		case f.Text != nil:
			r = r.Text(*f.Text)
		case f.ID != nil:
			r = r.ID(crypto.ID(*f.ID))
		case f.Number != nil:
			n, err := strconv.ParseUint(*f.Number, 10, 64)
			if err != nil {
				panic(err)
			}
			r = r.Number(n)
		default:
			r = r.Raw(*f.Raw)
		}
	}
	return r.Bytes()
}

// generated returns n bytes that any implementation can make:
// SHA-256(u64be(0)) ‖ SHA-256(u64be(1)) ‖ …
func generated(n int) []byte {
	var out []byte
	for i := uint64(0); len(out) < n; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

// accumulate returns the SHA-256 of n envelopes whose keys, nonces, plaintexts
// and contexts come from SHAKE128.
func accumulate(t *testing.T, n int) []byte {
	t.Helper()
	all := sha256.New()
	for i := range n {
		x := sha3.NewSHAKE128()
		x.Write(binary.BigEndian.AppendUint64([]byte("reseal/v1/accumulated"), uint64(i)))
		fixed := make([]byte, 32+24+2+2)
		x.Read(fixed)
		key, err := crypto.KeyFromBytes(fixed[:32])
		if err != nil {
			t.Fatal(err)
		}
		plaintext := make([]byte, binary.BigEndian.Uint16(fixed[56:])%1025)
		x.Read(plaintext)
		context := make([]byte, binary.BigEndian.Uint16(fixed[58:])%257)
		x.Read(context)
		envelope, err := crypto.SealAt(key, [24]byte(fixed[32:56]), plaintext, context)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.Open(nil, envelope, context); err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("envelope %d does not open: %v", i, err)
		}
		all.Write(envelope)
	}
	return all.Sum(nil)
}

func TestTagVectorsAreMadeAgain(t *testing.T) {
	all := readVectors(t).Tags
	if len(all) == 0 {
		t.Fatal("there is none")
	}
	for _, v := range all {
		if diff := cmp.Diff([]byte(v.Record), encode(v.Fields)); diff != "" {
			t.Errorf("%s: record (-want +got):\n%s", v.Name, diff)
		}
		key, err := crypto.KeyFromBytes(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := key.MAC(nil, v.Record); err != nil || !bytes.Equal(got, v.Tag) {
			t.Errorf("%s: tag %x, %v, want %x", v.Name, got, err, v.Tag)
		}
	}
}

func TestEnvelopeVectorsOpen(t *testing.T) {
	for _, v := range readVectors(t).Envelopes {
		t.Run(v.Name, func(t *testing.T) {
			if diff := cmp.Diff([]byte(v.Context), encode(v.Fields)); diff != "" {
				t.Errorf("context (-want +got):\n%s", diff)
			}
			key, err := crypto.KeyFromBytes(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			plaintext := []byte(v.Plaintext)
			if v.Generated > 0 {
				plaintext = generated(v.Generated)
			}
			envelope, err := crypto.SealAt(key, [24]byte(v.Nonce), plaintext, v.Context)
			if err != nil {
				t.Fatal(err)
			}
			if v.Generated > 0 {
				sum := sha256.Sum256(envelope)
				if diff := cmp.Diff([]byte(v.SHA256), sum[:]); diff != "" {
					t.Fatalf("SHA-256 of the envelope (-want +got):\n%s", diff)
				}
			} else if diff := cmp.Diff([]byte(v.Envelope), envelope); diff != "" {
				t.Fatalf("envelope (-want +got):\n%s", diff)
			}
			got, err := key.Open(nil, envelope, v.Context)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("open: %x, %v", got, err)
			}
		})
	}
}

func TestKeyFileVectorsParse(t *testing.T) {
	for _, v := range readVectors(t).KeyFiles {
		k, err := crypto.ParseKeyFile([]byte(v.Text))
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		got, err := crypto.RawKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]byte(v.Key), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v.Name, diff)
		}
	}
}

func TestKDFVectorsDerive(t *testing.T) {
	for _, v := range readVectors(t).KDFs {
		k, err := crypto.DeriveKey(v.Passphrase, v.KDF.kdf())
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		got, err := crypto.RawKey(k)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]byte(v.Key), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v.Name, diff)
		}
	}
}

func TestAccumulatedVector(t *testing.T) {
	for _, v := range readVectors(t).Accumulated {
		if diff := cmp.Diff([]byte(v.SHA256), accumulate(t, v.Count)); diff != "" {
			t.Errorf("%d envelopes (-want +got):\n%s", v.Count, diff)
		}
	}
}

func TestNegativeVectorsAreRefused(t *testing.T) {
	seen := map[string]int{}
	for _, v := range readVectors(t).Negative {
		want, ok := expectations[v.Expect]
		if !ok {
			t.Fatalf("%s: unknown expectation %q", v.Name, v.Expect)
		}
		seen[v.Expect]++
		if err := v.try(); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", v.Name, err, want)
		}
	}
	for expect := range expectations {
		if seen[expect] == 0 {
			t.Errorf("no negative vector expects %q", expect)
		}
	}
}

// try does what an implementation does with v, and returns its error.
func (v negativeVector) try() error {
	switch v.Kind {
	case "kdf":
		_, err := crypto.DeriveKey([]byte("passphrase"), v.KDF.kdf())
		return err
	case "key-file":
		_, err := crypto.ParseKeyFile([]byte(v.Text))
		return err
	}
	key, err := crypto.KeyFromBytes(v.Key)
	if err != nil {
		return err
	}
	if v.Kind == "wrap" {
		_, err = key.Unwrap(v.Envelope, v.Context)
	} else {
		_, err = key.Open(nil, v.Envelope, v.Context)
	}
	return err
}
