//go:build linux

package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"modernc.org/sqlite"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func init() {
	children["scan"] = childScans
}

// childScans opens the store, writes, looks at the file as it is told to, and
// waits until its input ends: arguments are the locks, what to do, and the file.
func childScans(ctx context.Context, args []string) error {
	if args[0] == "posix" { // as where a host used SQLite before: the choice is made
		db, err := sql.Open("sqlite", args[2]+".other")
		if err == nil {
			_, err = db.Exec(`CREATE TABLE t (a)`)
		}
		if err != nil {
			return err
		}
		defer db.Close()
	}
	s, err := store.Open(ctx, args[2], resealtest.Credential(), nil)
	if err != nil {
		return err
	}
	if on := sqlite.OFDLockingEnabled(); on != (args[0] == "ofd") {
		return fmt.Errorf("OFD locks: %v", on)
	}
	_, err = s.Put(ctx, "a", []byte("1"), nil)
	if err := errors.Join(err, childLooks(ctx, s, args[1])); err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	_, err = s.Put(ctx, "a", []byte("2"), nil)
	return errors.Join(err, s.Close())
}

func childLooks(ctx context.Context, s *store.Store, how string) error {
	if how == "scan" {
		res, err := s.ScanResidue(ctx)
		if err == nil && res.Files[0].Bytes < 4096 {
			err = fmt.Errorf("the scan saw %+v", res)
		}
		return err
	}
	f, err := os.Open(s.Path())
	return errors.Join(err, f.Close())
}

// A scan takes none of SQLite's locks away from its process. With POSIX locks a
// descriptor of the database file that is opened and closed does: another
// program could then take the store for one that nobody uses.
func TestScanLeavesTheLocksAlone(t *testing.T) {
	for _, c := range []struct {
		locks, look string
		stays       bool
	}{
		{"ofd", "scan", true},
		{"posix", "scan", true},
		{"ofd", "open", true},
		{"posix", "open", false}, // why the scan does not do that
	} {
		t.Run(c.locks+" "+c.look, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "reseal.db")
			s := must(store.Create(t.Context(), path, resealtest.Credential(), &store.Options{KDF: resealtest.KDF}))(t)
			storetest.OK(t, s.Close())
			if got := lockedAfter(t, path, c.locks, c.look); got != c.stays {
				t.Errorf("the database file is locked: %v, want %v", got, c.stays)
			}
		})
	}
}

// lockedAfter reports whether a process that works on the store has its lock on
// the database file after it looked at it.
func lockedAfter(t *testing.T, path, locks, look string) bool {
	t.Helper()
	cmd := child(t, "scan", locks, look, path)
	in := must(cmd.StdinPipe())(t)
	out := must(cmd.StdoutPipe())(t)
	storetest.OK(t, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the child said %q", lines.Text())
	}
	info := must(os.Stat(path))(t)
	table := must(os.ReadFile("/proc/locks"))(t)
	storetest.OK(t, in.Close())
	storetest.OK(t, cmd.Wait())
	return strings.Contains(string(table), fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino))
}
