package crypto_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/reseal/reseal/crypto"
)

// TestMoversSideBySide has several of them move data keys and values between the
// same two keys at once, what does not open among them.
func TestMoversSideBySide(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			m, err := crypto.NewMover(from, to)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			for i := range 200 {
				value := fmt.Appendf(nil, "value %d of %d, %s", i, w, bytes.Repeat([]byte("long"), i%7))
				sealed, wrapped, err := from.SealValue(nil, nil, value, []byte("v"), []byte("old"))
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := m.Rewrap([]byte("kept"), wrapped, []byte("elsewhere"), []byte("new")); !errors.Is(err, crypto.ErrWrongKeyOrContext) {
					t.Errorf("at another place: %v", err)
				}
				moved, err := m.Rewrap(nil, wrapped, []byte("old"), []byte("new"))
				wantValue(t, to, value, sealed, moved, err)
				sealed, moved, err = m.Reencrypt(nil, nil, sealed, wrapped, []byte("v"), []byte("old"), []byte("new"))
				wantValue(t, to, value, sealed, moved, err)
			}
		})
	}
	all.Wait()
}

func wantValue(t *testing.T, k *crypto.Key, want, sealed, wrapped []byte, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		return
	}
	if got, err := k.OpenValue(nil, sealed, wrapped, []byte("v"), []byte("new")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// A Mover that was made before its keys were cleared goes on; none is made
// after.
func TestMoverOfClearedKeys(t *testing.T) {
	from, to := crypto.NewKey(), crypto.NewKey()
	_, wrapped, err := from.SealValue(nil, nil, []byte("x"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := crypto.NewMover(from, to)
	if err != nil {
		t.Fatal(err)
	}
	to.Clear()
	if _, err := m.Rewrap(nil, wrapped, nil, nil); err != nil {
		t.Errorf("while the key is cleared: %v", err)
	}
	m.Close()
	for _, keys := range [][2]*crypto.Key{{from, to}, {to, from}} {
		if _, err := crypto.NewMover(keys[0], keys[1]); !errors.Is(err, crypto.ErrCleared) {
			t.Errorf("of a cleared key: %v", err)
		}
	}
}
