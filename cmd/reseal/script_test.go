//go:build unix

package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets scripts run reseal as a command of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"reseal": func() {
			syscall.Setsid() // no terminal, unless the script gives one
			ctx := context.Background()
			if d, err := strconv.Atoi(os.Getenv("TEST_DAYS_LATER")); err == nil {
				ctx = later(ctx, time.Duration(d)*24*time.Hour)
			}
			os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
		"guarded": main,
		"sqlite":  func() { os.Exit(rawSQL(os.Args[1:])) },
		"lock":    func() { os.Exit(holdLock(os.Args[1])) },
	})
}

// later is a context whose clock is ahead.
func later(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, clock{}, func() time.Time { return time.Now().Add(d) })
}

// rawSQL runs statements on a file as any SQLite client could.
func rawSQL(args []string) int {
	db, err := sql.Open("sqlite", "file:"+args[0]+"?mode=rw")
	if err == nil {
		_, err = db.Exec(strings.Join(args[1:], " "))
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	db.Close()
	return 0
}

// holdLock keeps the write lock of a file until it is killed.
func holdLock(path string) int {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=rw&_txlock=immediate")
	if err != nil {
		return 1
	}
	if _, err := db.Begin(); err != nil {
		return 1
	}
	os.WriteFile(path+".locked", nil, 0o600)
	time.Sleep(time.Minute)
	return 0
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			released, err := filepath.Abs(filepath.Join("..", "..", "store", "testdata", "released"))
			e.Setenv("RELEASED", released)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"mode":     mode,
			"zeros":    zeros,
			"same":     same,
			"waitfile": waitFile,
			"smalldir": smallDir,
			"silent":   silent,
		},
		Condition: func(cond string) (bool, error) {
			if cond == "mount" {
				return canMount(), nil
			}
			return false, errors.New("unknown condition")
		},
	})
}

// exits runs a command that must end with an exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil || neg {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		got = -1
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// mode checks a file's permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// zeros writes a file of so many zero bytes.
func zeros(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), make([]byte, n), 0o600))
}

// same compares two files byte for byte.
func same(ts *testscript.TestScript, neg bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	if bytes.Equal(a, b) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], !neg)
	}
}

// waitFile waits until a file is there.
func waitFile(ts *testscript.TestScript, _ bool, args []string) {
	for range 500 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s did not appear", args[0])
}

// silent checks that a text is in no output of the last command.
func silent(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range []string{"stdout", "stderr"} {
		if strings.Contains(ts.ReadFile(name), args[0]) {
			ts.Fatalf("%s shows %q", name, args[0])
		}
	}
}

func canMount() bool {
	dir, err := os.MkdirTemp("", "reseal-mount-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(dir)
	if exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).Run() != nil {
		return false
	}
	return exec.Command("umount", dir).Run() == nil
}

// smallDir mounts a file system of a size on a folder, until the script ends.
func smallDir(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(exec.Command("mount", "-t", "tmpfs", "-o", "size="+args[1], "tmpfs", dir).Run())
	ts.Defer(func() { exec.Command("umount", "-l", filepath.Clean(dir)).Run() })
}
