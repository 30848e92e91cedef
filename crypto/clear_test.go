package crypto_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/reseal/reseal/crypto"
)

func TestClearedKeyDoesNothing(t *testing.T) {
	k, good := crypto.NewKey(), crypto.NewKey()
	sealed, wrapped, err := k.SealValue(nil, nil, []byte("secret"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, goodWrap, err := good.SealValue(nil, nil, []byte("secret"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Clear()
	k.Clear() // again is harmless
	dst := []byte("kept")
	for name, op := range map[string]func() ([]byte, error){
		"Seal":         func() ([]byte, error) { return k.Seal(dst, []byte("x"), nil) },
		"Open":         func() ([]byte, error) { return k.Open(dst, sealed, nil) },
		"Wrap":         func() ([]byte, error) { return k.Wrap(dst, good, nil) },
		"Wrap cleared": func() ([]byte, error) { return good.Wrap(dst, k, nil) },
		"Unwrap":       func() ([]byte, error) { _, err := k.Unwrap(wrapped, nil); return dst, err },
		"MAC":          func() ([]byte, error) { return k.MAC(dst, nil) },
		"SealValue":    func() ([]byte, error) { s, _, err := k.SealValue(dst, nil, []byte("x"), nil, nil); return s, err },
		"OpenValue":    func() ([]byte, error) { return k.OpenValue(dst, sealed, wrapped, nil, nil) },
		"CheckWrap":    func() ([]byte, error) { return dst, k.CheckWrap(wrapped, nil) },
		"Rewrap from":  func() ([]byte, error) { return crypto.Rewrap(dst, k, good, wrapped, nil, nil) },
		"Rewrap to":    func() ([]byte, error) { return crypto.Rewrap(dst, good, k, goodWrap, nil, nil) },
		"Reencrypt from": func() ([]byte, error) {
			s, _, err := crypto.Reencrypt(dst, nil, k, good, sealed, wrapped, nil, nil, nil)
			return s, err
		},
		"Reencrypt to": func() ([]byte, error) {
			s, _, err := crypto.Reencrypt(dst, nil, good, k, sealed, goodWrap, nil, nil, nil)
			return s, err
		},
		"EncodeKeyFile": func() ([]byte, error) {
			_, err := crypto.EncodeKeyFile(k)
			return dst, err
		},
	} {
		got, err := op()
		if !errors.Is(err, crypto.ErrCleared) || string(got) != "kept" {
			t.Errorf("%s: got %q, %v, want ErrCleared", name, got, err)
		}
		if layered := new(crypto.LayerError); errors.As(err, &layered) {
			t.Errorf("%s: a cleared key looks like a damaged envelope: %v", name, err)
		}
	}
}

// TestClearWhileInUse clears a key under eight goroutines that use it. Each
// operation must give its full, right result or ErrCleared, and nothing else:
// a half-cleared key would seal under a key that nobody has.
func TestClearWhileInUse(t *testing.T) {
	const rounds, workers = 20, 8
	raw := bytes.Repeat([]byte{3}, crypto.KeySize)
	for range rounds {
		k, err := crypto.KeyFromBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		twin, err := crypto.KeyFromBytes(raw)
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan struct{}, workers)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() { useUntilCleared(t, k, twin, started) })
		}
		for range workers {
			<-started
		}
		k.Clear()
		wg.Wait()
	}
}

// useUntilCleared works with k until it is cleared, and checks each result
// with twin, which has the same material.
func useUntilCleared(t *testing.T, k, twin *crypto.Key, started chan<- struct{}) {
	for i := range 1 << 16 {
		sealed, wrapped, err := k.SealValue(nil, nil, []byte("secret"), []byte("v"), []byte("d"))
		if i == 0 {
			started <- struct{}{}
		}
		if errors.Is(err, crypto.ErrCleared) {
			return
		}
		if err != nil {
			t.Errorf("SealValue: %v", err)
			return
		}
		if got, err := twin.OpenValue(nil, sealed, wrapped, []byte("v"), []byte("d")); err != nil || string(got) != "secret" {
			t.Errorf("what a key sealed while it was cleared does not open: %q, %v", got, err)
			return
		}
		got, err := k.OpenValue(nil, sealed, wrapped, []byte("v"), []byte("d"))
		if err != nil && !errors.Is(err, crypto.ErrCleared) || err == nil && string(got) != "secret" {
			t.Errorf("OpenValue while cleared: %q, %v", got, err)
			return
		}
		moved, err := crypto.Rewrap(nil, k, k, wrapped, []byte("d"), []byte("e"))
		if err == nil {
			err = twin.CheckWrap(moved, []byte("e"))
		}
		if err != nil && !errors.Is(err, crypto.ErrCleared) {
			t.Errorf("Rewrap while cleared: %v", err)
			return
		}
	}
	t.Error("the key is never cleared")
}
