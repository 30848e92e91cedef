//go:build linux

package store_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func needStrace(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("kills processes")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("SKIPPED: kills at system calls: there is no strace")
	}
}

// lockTracedChild keeps a child of that role on one thread: strace counts the
// calls of each thread by itself.
func lockTracedChild(role string) {
	if os.Getenv(childVariable) == role {
		runtime.LockOSThread()
	}
}

// call is one system call of a child: the nth of its name.
type call struct {
	name string
	nth  int
}

// traced runs a child under strace with more arguments for that. It returns what
// the child wrote to its standard output, and whether it came to its end.
func traced(t *testing.T, strace []string, role string, args ...string) (said string, ended bool) {
	t.Helper()
	cmd := child(t, role, args...)
	strace = append([]string{"strace", "-f", "-qq"}, strace...)
	cmd.Args = append(append(strace, os.Args[0]), cmd.Args[1:]...)
	var err error
	if cmd.Path, err = exec.LookPath("strace"); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled()) {
		t.Fatalf("%s %v with %v: %v: %s", role, args, strace, err, out)
	}
	return string(out), err == nil
}

// killedAt runs a child that is killed as it makes a call.
func killedAt(t *testing.T, c call, role string, args ...string) (said string, ended bool) {
	t.Helper()
	return traced(t, []string{"-o", "/dev/null", "-e", "trace=" + c.name, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", c.name, c.nth)}, role, args...)
}

// tracedCalls lists those of the system calls named that a child makes after it
// has said that it is ready, on its first thread.
func tracedCalls(t *testing.T, names, role string, args ...string) []call {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	if said, ended := traced(t, []string{"-o", log, "-e", "trace=write," + names}, role, args...); !ended {
		t.Fatalf("%s %v did not come to its end: %s", role, args, said)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var all []call
	count := map[string]int{}
	before, _, ready := strings.Cut(string(text), ` write(1, "ready`)
	if !ready {
		t.Fatalf("%s %v never said that it was ready:\n%s", role, args, text)
	}
	thread := before[strings.LastIndexByte(before, '\n')+1:] // another may have been the first to write
	begun := false
	for line := range strings.Lines(string(text)) {
		rest, ours := strings.CutPrefix(line, thread+" ")
		name, args, is := strings.Cut(strings.TrimSpace(rest), "(")
		if !ours || !is || strings.HasPrefix(name, "<") {
			continue
		}
		count[name]++
		if begun {
			all = append(all, call{name, count[name]})
		}
		begun = begun || name == "write" && strings.HasPrefix(args, `1, "ready`)
	}
	return all
}
