//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package migrations

import (
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"
)

func owner(info fs.FileInfo) (uid, gid uint32) {
	s := info.Sys().(*syscall.Stat_t)
	return s.Uid, s.Gid
}

// TestWhatRootMakesBelongsToTheStoresOwner would else lock out the service that
// owns the store: from its lock file after a kill, and from its backup.
func TestWhatRootMakesBelongsToTheStoresOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: the owner of a backup: needs root")
	}
	path, db := newFilledStore(t)
	if err := os.Chown(path, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	want := func(name string) {
		t.Helper()
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if uid, gid := owner(info); uid != 4711 || gid != 4712 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: user %d, group %d, mode %o", name, uid, gid, info.Mode().Perm())
		}
	}
	unlock, err := lock(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	want(path + lockSuffix)
	unlock()
	r, err := Down(t.Context(), db, 0, Options{DestroyRows: fixtureRows})
	if err != nil {
		t.Fatal(err)
	}
	want(r.Backup)
}

func TestRestoredFileBelongsToTheStoresOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: the owner of a restored file: needs root")
	}
	for mode, want := range map[os.FileMode]os.FileMode{0o600: 0o600, 0o644: 0o600, 0o640: 0o640, 0o660: 0o660} {
		_, path, backup := newUpgraded(t)
		if err := os.Chown(path, 4711, 4712); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), path, backup); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid, gid := owner(info); uid != 4711 || gid != 4712 || info.Mode().Perm() != want {
			t.Errorf("mode %o before: user %d, group %d, mode %o; want 4711, 4712, %o", mode, uid, gid, info.Mode().Perm(), want)
		}
	}
}
