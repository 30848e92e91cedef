//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// giveOwner gives a file the owner and group of another, if there is one: what
// root puts beside a store has to be usable by whom the store belongs to.
func giveOwner(name, like string) error {
	want, err := os.Stat(like)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return explain(err)
	}
	have, err := os.Stat(name)
	if err != nil {
		return err
	}
	to, of := want.Sys().(*syscall.Stat_t), have.Sys().(*syscall.Stat_t)
	if to.Uid == of.Uid && (to.Gid == of.Gid || !shared(want)) {
		return nil
	}
	if err := os.Chown(name, int(to.Uid), int(to.Gid)); err != nil {
		return fmt.Errorf("%q belongs to user %d: run this as that user, or as root: %w", like, to.Uid, err)
	}
	return nil
}

// giveMode gives the file, which has mode 0600, what another one gives its
// group, if that one gives nothing to others: then somebody decided so.
func giveMode(name, like string) error {
	want, err := os.Stat(like)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !shared(want) {
		return nil
	} else if err != nil {
		return explain(err)
	}
	return os.Chmod(name, want.Mode().Perm()&0o660)
}

// shared reports whether a file's mode gives its group something, and others
// nothing.
func shared(info fs.FileInfo) bool {
	mode := info.Mode().Perm()
	return mode&0o060 != 0 && mode&0o007 == 0
}
