package store_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/reseal/reseal/store"
)

func TestReadersAreConnectedWhenTheyAreNeeded(t *testing.T) {
	const cores = 4
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
	s, ctx := newStore(t), t.Context()
	must(s.Put(ctx, "app/a", []byte("value"), nil))(t)
	read := func() error { _, err := s.Get(ctx, "app/a"); return err }
	for range 3 * cores {
		if err := read(); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.Connected(s); n != 1 {
		t.Errorf("%d readers are connected after gets one after the other, want 1", n)
	}
	var all sync.WaitGroup
	for range 3 * cores {
		all.Go(func() {
			for range 200 {
				if err := read(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := store.Connected(s); n < 2 || n > cores {
		t.Errorf("%d readers are connected after gets at once, want 2 to %d", n, cores)
	}
}
