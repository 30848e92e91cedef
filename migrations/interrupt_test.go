package migrations

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// fuse is a context that ends when it is looked at for the nth time.
type fuse struct {
	context.Context
	end   context.CancelFunc
	looks atomic.Int64
	nth   int64 // 0 for never
}

func newFuse(t *testing.T, nth int64) *fuse {
	ctx, cancel := context.WithCancel(t.Context())
	return &fuse{Context: ctx, end: cancel, nth: nth}
}

func (f *fuse) Done() <-chan struct{} {
	if f.looks.Add(1) == f.nth {
		f.end()
	}
	return f.Context.Done()
}

// TestInterruptedMigrationLeavesNoDoubt ends the context at the last moments of
// a migration, one by one: there is an error if and only if nothing was changed,
// and then no backup.
func TestInterruptedMigrationLeavesNoDoubt(t *testing.T) {
	path, db := newFilledStore(t)
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	up := func(ctx context.Context) (done bool) {
		t.Helper()
		r, err := h.move(ctx, db, course{to: h.latest(), up: true}, Options{})
		version, verr := Current(t.Context(), db)
		if verr != nil {
			t.Fatal(verr)
		}
		done = version == h.latest()
		backups, _ := filepath.Glob(path + ".schema-*")
		if done != (err == nil) || done != (len(backups) == 1) || done != (r.Backup != "") {
			t.Fatalf("error %v, version %d, result %+v, backups %v", err, version, r, backups)
		}
		if done {
			os.Remove(r.Backup)
			if _, err := h.move(t.Context(), db, course{to: Latest()}, Options{NoBackup: true}); err != nil {
				t.Fatal(err)
			}
		}
		return done
	}
	whole := newFuse(t, 0)
	if !up(whole) {
		t.Fatal("without an interruption it was not done")
	}
	seen := map[bool]int{}
	for back := whole.looks.Load(); back >= 0; back -= 1 + back/30*10 { // each of the last 30, some of the earlier
		seen[up(newFuse(t, whole.looks.Load()-back))]++
	}
	if seen[false] < 20 || seen[true] < 1 {
		t.Errorf("of %d moments, %d came before the end and %d after it: they say nothing", whole.looks.Load(), seen[false], seen[true])
	}
	t.Logf("of %d moments, %d were tried before the end and %d after it", whole.looks.Load(), seen[false], seen[true])
}
