package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
)

// waiting is the command with a store open and unsealed, waiting for a value on
// its standard input.
type waiting struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	key    []byte // of the key file
}

// startWaiting starts it, with core dumps allowed. Its key comes from a file.
func startWaiting(t *testing.T) *waiting {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "guarded")); err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	for _, args := range [][]string{{"init", "--key-file", dir + "/k", "--db", dir + "/d"}, {"put", "app/db", "--db", dir + "/d", "--key-file", dir + "/k"}} {
		if run(t.Context(), args, strings.NewReader("first"), io.Discard, &errs) != 0 {
			t.Fatal(errs.String())
		}
	}
	w := &waiting{cmd: exec.Command("sh", "-c", `ulimit -c unlimited; exec ./guarded put app/db --db d --key-file k`)}
	w.cmd.Dir, w.cmd.Stderr = dir, &w.stderr
	w.cmd.Env = append(os.Environ(), "GOTRACEBACK=crash")
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.cmd.Process.Kill(); w.cmd.Wait() })
	text, err := os.ReadFile(dir + "/k")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(text, []byte("reseal-key-v1:"))
	if w.key, err = hex.DecodeString(string(line[:64])); err != nil {
		t.Fatal(err)
	}
	w.settle(t, dir)
	return w
}

// settle waits until the command has read its key and sleeps.
func (w *waiting) settle(t *testing.T, dir string) {
	t.Helper()
	for range 200 {
		time.Sleep(50 * time.Millisecond)
		_, err := os.Stat(dir + "/d-shm")
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.cmd.Process.Pid))
		if err == nil && bytes.Contains(stat, []byte(") S ")) {
			time.Sleep(300 * time.Millisecond)
			return
		}
	}
	t.Skip("SKIPPED: the command reads its input before it opens the store")
}

// status returns what the kernel tells of the process, by name.
func (w *waiting) status(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		out[name] = strings.TrimSpace(value)
	}
	return out
}

func TestCommandLocksItsMemory(t *testing.T) {
	if err := syscall.Mlockall(syscall.MCL_CURRENT); err != nil {
		t.Skipf("SKIPPED: the system does not let this user lock memory: %v", err)
	}
	syscall.Munlockall()
	status := startWaiting(t).status(t)
	if locked := status["VmLck"]; locked == "" || locked == "0 kB" {
		t.Errorf("%q of memory is locked", locked)
	}
	var resident int
	if _, err := fmt.Sscan(status["VmRSS"], &resident); err != nil || resident > 200<<10 {
		t.Errorf("%s are resident: more than what is used was locked", status["VmRSS"])
	}
	t.Logf("%s of address space are locked, %s of it resident", status["VmLck"], status["VmRSS"])
}

// A crash of the command leaves no core file, where another program's does.
func TestCommandDumpsNoCore(t *testing.T) {
	other := exec.Command("sh", "-c", `ulimit -c unlimited; kill -ABRT $$`)
	other.Dir = t.TempDir()
	other.Run()
	if ws, ok := other.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.CoreDump() {
		t.Skip("SKIPPED: no program dumps core here")
	}
	w := startWaiting(t)
	if err := w.cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	w.cmd.Wait()
	ws := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ws.Signaled() || ws.CoreDump() {
		t.Errorf("the command ended with %v, core dumped: %v", w.cmd.ProcessState, ws.CoreDump())
	}
	if cores, _ := filepath.Glob(filepath.Join(w.cmd.Dir, "*core*")); len(cores) > 0 {
		t.Errorf("there is %v", cores)
	}
	if bytes.Contains(w.stderr.Bytes(), []byte(hex.EncodeToString(w.key[:8]))) {
		t.Error("the crash report shows the key")
	}
}

// keyCopies is how many copies of the credential the command may have in memory
// while it waits: the text that was read, and the key made of it, where they were
// and where the runtime moved them.
const keyCopies = 4

// What is nowhere but in memory: the command line and the environment do not
// have the key, and memory has no more than a few copies.
func TestKeyIsOnlyInMemory(t *testing.T) {
	w := startWaiting(t)
	forms := map[string][]byte{"key": w.key, "text": []byte(hex.EncodeToString(w.key))}
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", w.cmd.Process.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		for what, form := range forms {
			if bytes.Contains(text, form) {
				t.Errorf("%s has the %s", name, what)
			}
		}
	}
	for what, form := range forms {
		n := storetest.CopiesInMemory(t, w.cmd.Process.Pid, form)[0]
		t.Logf("%s: %d copies in memory", what, n)
		if n > keyCopies {
			t.Errorf("%s: %d copies in memory, at most %d", what, n, keyCopies)
		}
	}
	if n := storetest.CopiesInMemory(t, w.cmd.Process.Pid, []byte("reseal-key-v1:"))[0]; n == 0 {
		t.Error("the scan finds nothing at all")
	}
	copies := map[string]int{}
	for key, what := range storetest.Keys(t, filepath.Join(w.cmd.Dir, "d"), filepath.Join(w.cmd.Dir, "k")) {
		copies[what] += storetest.CopiesInMemory(t, w.cmd.Process.Pid, []byte(key))[0]
	}
	t.Logf("copies in memory: %v", copies)
	for what, most := range storedKeyCopies {
		n, known := copies[what]
		if !known {
			t.Errorf("the store has no %s", what)
		}
		if n > most {
			t.Errorf("%s: %d copies in memory, at most %d", what, n, most)
		}
	}
}

// storedKeyCopies is how many copies of the keys that the store holds the command
// may have: those that it needs, where they are and where the runtime has moved
// them. It has not used the master key and the data key that are there.
var storedKeyCopies = map[string]int{"root key": 2, "integrity key": 2, "master key": 1, "data key": 0}
