//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package migrations

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tryLock locks the file, which it creates, or returns errHeld. The unlock
// function removes the file while it is still locked.
func tryLock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create lock file: %w", explain(err))
	}
	_ = giveOwner(name, strings.TrimSuffix(name, lockSuffix)) // so that it keeps nobody out when it is left behind
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return nil, errHeld
		}
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	if !current(f, name) {
		f.Close()
		return nil, errHeld
	}
	return func() {
		os.Remove(name)
		f.Close()
	}, nil
}

// current reports whether name still names the open file f: the process that
// held the lock before has removed its file.
func current(f *os.File, name string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(held, named)
}
