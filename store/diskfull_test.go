//go:build linux

package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// diskSizes is how many sizes of a disk are tried, each a page larger than the
// last, so that it is full at another step of the work.
const diskSizes = 20

// smallDisk mounts a file system in memory of so many bytes. Without the right
// to mount the test is skipped.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("reseal-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Skipf("SKIPPED: no small disk without the right to mount one: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	return dir
}

func growDisk(t *testing.T, dir string, size int) {
	t.Helper()
	storetest.OK(t, syscall.Mount("reseal-test", dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
}

// fillDisk works on the store until the disk is full a number of times, and
// returns what was acknowledged.
func fillDisk(t *testing.T, s *store.Store) (acknowledged, refused map[string]string, full int) {
	t.Helper()
	ctx := context.Background()
	acknowledged, refused = map[string]string{}, map[string]string{}
	note := func(what string, err error) bool {
		if err == nil {
			return true
		}
		if full++; !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("%s: %v, want ErrDiskFull", what, err)
		}
		return false
	}
	for i := range 300 {
		name, value := fmt.Sprintf("app/%d", i), strings.Repeat(fmt.Sprint(i, " "), 100*(i%7)+1)
		if _, err := s.Put(ctx, name, []byte(value), nil); note("put", err) {
			acknowledged[name] = value
		} else {
			refused[name] = value
		}
		switch i % 10 {
		case 3:
			_, err := s.SetKey(ctx, "app/0", []string{"mk-1", "default"}[i/10%2])
			note("set-key", err)
		case 6:
			path := filepath.Join(filepath.Dir(s.Path()), fmt.Sprintf("copy-%d.db", i))
			if _, err := s.Backup(ctx, path); note("backup", err) {
				storetest.OK(t, os.Remove(path))
			} else if _, err := os.Lstat(path); err == nil {
				t.Error("a backup that failed has its name")
			}
		}
		if full >= 8 {
			break
		}
	}
	return acknowledged, refused, full
}

// The disk becomes full at 20 different moments. What was acknowledged is there,
// what was refused is not, reading goes on, and with more room so does writing.
func TestFullDiskLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	total := 0
	for i := range diskSizes {
		size := 700<<10 + i*4096
		dir := smallDisk(t, size)
		s, err := store.Create(t.Context(), filepath.Join(dir, "reseal.db"), resealtest.Credential(), flipOptions())
		storetest.OK(t, err)
		storetest.OK(t, s.CreateKey(t.Context(), "mk-1"))
		acknowledged, refused, full := fillDisk(t, s)
		total += full
		if full == 0 {
			t.Errorf("a disk of %d bytes was never full", size)
		}
		for name, want := range acknowledged {
			wantValue(t, s, name, want)
		}
		for name := range refused {
			storetest.Refused(t, storetest.Err(s.Get(t.Context(), name)), store.ErrNotFound)
		}
		growDisk(t, dir, 4<<20)
		storetest.OK(t, storetest.Err(s.Put(t.Context(), "app/more", []byte("room"), nil)))
		resealtest.Check(t, s)
		storetest.OK(t, s.Close())
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	t.Logf("%d sizes, full %d times", diskSizes, total)
}
