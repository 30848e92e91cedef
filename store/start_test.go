package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The figure in docs/reliability.md is from
//
//	go test ./store -run TestTenProcessesOpenAnOlderStoreAtOnce -starts 50
var starts = flag.Int("starts", 3, "rounds of TestTenProcessesOpenAnOlderStoreAtOnce")

func init() { children["start"] = childStarts }

// childStarts waits for its input to close, opens the store, reads and puts.
func childStarts(ctx context.Context, args []string) error {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	s, err := store.Open(ctx, args[0], resealtest.Credential(), &store.Options{Actor: "tester"})
	if err != nil {
		return err
	}
	v, err := s.Get(ctx, "app/03")
	if err == nil && string(v.Bytes()) != "value 2 of app/03" {
		err = errors.New("app/03 has another value")
	}
	if err == nil {
		_, err = s.Put(ctx, "start/"+args[1], []byte(args[1]), nil)
	}
	return errors.Join(err, s.Close())
}

// starter is a process that waits at its gate.
type starter struct {
	*exec.Cmd
	gate io.Closer
	out  io.Reader
}

// ends returns what the process said, if it failed.
func (s *starter) ends() error {
	said, err := io.ReadAll(s.out)
	if err := errors.Join(err, s.Wait()); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

func newStarter(t *testing.T, path string, n int) *starter {
	t.Helper()
	s := &starter{Cmd: child(t, "start", path, fmt.Sprint(n))}
	gate, err := s.StdinPipe()
	storetest.OK(t, err)
	out, err := s.StdoutPipe()
	storetest.OK(t, err)
	s.gate, s.out, s.Stderr = gate, out, os.Stderr
	storetest.OK(t, s.Start())
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(out, ready); err != nil {
		t.Fatalf("process %d: %v: %s", n, err, ready)
	}
	return s
}

// TestTenProcessesOpenAnOlderStoreAtOnce has one of them migrate, and all of
// them work with the store then.
func TestTenProcessesOpenAnOlderStoreAtOnce(t *testing.T) {
	const processes = 10
	failed := 0
	for range *starts {
		path := copyReleased(t, 1)
		var all []*starter
		for n := range processes {
			all = append(all, newStarter(t, path, n))
		}
		for _, s := range all {
			storetest.OK(t, s.gate.Close())
		}
		for n, s := range all {
			if err := s.ends(); err != nil {
				t.Errorf("process %d: %v", n, err)
				failed++
			}
		}
		wantStarted(t, path, processes)
	}
	t.Logf("%d rounds of %d processes, %d failures", *starts, processes, failed)
}

// wantStarted checks what the processes leave: one backup, what they put, and
// what was there.
func wantStarted(t *testing.T, path string, processes int) {
	t.Helper()
	beside, err := filepath.Glob(path + "?*")
	storetest.OK(t, err)
	if len(beside) != 1 || !strings.HasSuffix(beside[0], ".backup") {
		t.Errorf("beside the store: %v, want one backup", beside)
	}
	s, err := store.Open(t.Context(), path, resealtest.Credential(), nil)
	storetest.OK(t, err)
	defer s.Close()
	for n := range processes {
		v, err := s.Get(t.Context(), fmt.Sprintf("start/%d", n))
		if err != nil || string(v.Bytes()) != fmt.Sprint(n) {
			t.Errorf("process %d put %q, %v", n, v.Bytes(), err)
		}
	}
	resealtest.Check(t, s)
}
