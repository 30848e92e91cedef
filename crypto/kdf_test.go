package crypto_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/reseal/reseal/crypto"
)

func TestDefaultKDFIsWithinBounds(t *testing.T) {
	a, b := crypto.DefaultKDF(), crypto.DefaultKDF()
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	if a.Time != 3 || a.Memory != 64<<10 || a.Threads != 4 {
		t.Errorf("defaults are %d passes, %d KiB, %d lanes; docs/format.md says 3, 65536, 4", a.Time, a.Memory, a.Threads)
	}
	if bytes.Equal(a.Salt, b.Salt) {
		t.Error("two slots have the same salt")
	}
}

func TestFirstRecommendationOfRFC9106IsWithinBounds(t *testing.T) {
	k := crypto.KDF{Time: 1, Memory: 1 << 21, Threads: 4, Salt: make([]byte, 16)}
	if err := k.Check(); err != nil {
		t.Error(err)
	}
}

// TestForbiddenCipherIsAnError runs itself in a process that may use approved
// algorithms only: nothing there can seal or open, and nothing may panic.
func TestForbiddenCipherIsAnError(t *testing.T) {
	if os.Getenv("RESEAL_TEST_FIPS_ONLY") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestForbiddenCipherIsAnError$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", "RESEAL_TEST_FIPS_ONLY=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	k, other := crypto.NewKey(), crypto.NewKey()
	dst := []byte("kept")
	if got, err := k.Seal(dst, []byte("x"), nil); err == nil || string(got) != "kept" {
		t.Errorf("Seal: %q, %v", got, err)
	}
	if got, err := k.Wrap(dst, other, nil); err == nil || string(got) != "kept" {
		t.Errorf("Wrap: %q, %v", got, err)
	}
	if s, w, err := k.SealValue(dst, dst, []byte("x"), nil, nil); err == nil || string(s) != "kept" || string(w) != "kept" {
		t.Errorf("SealValue: %q, %q, %v", s, w, err)
	}
	// The commitment of a made-up envelope never matches, so that opening ends
	// before the cipher, unless the envelope is a true one from elsewhere.
	v := readVectors(t)
	for _, e := range v.Envelopes {
		if e.Name != "data-key" {
			continue
		}
		key, err := crypto.KeyFromBytes(e.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Unwrap(e.Envelope, e.Context); err == nil || errors.Is(err, crypto.ErrDamaged) {
			t.Errorf("Unwrap: %v", err)
		}
		if _, err := crypto.Rewrap(nil, key, other, e.Envelope, e.Context, nil); err == nil || errors.Is(err, crypto.ErrDamaged) {
			t.Errorf("Rewrap: %v", err)
		}
	}
}
