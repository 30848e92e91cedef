package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/store"
)

// sessionToRotate is a store with so many secrets under the key default, and
// the key mk-1 to move them to.
func sessionToRotate(t *testing.T, secrets int) *session {
	t.Helper()
	s := newSession(t)
	s.ok("", "key", "create", "mk-1")
	values := map[string]string{}
	for i := range secrets {
		values[fmt.Sprintf("s-%04d", i)] = "v"
	}
	file, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	s.ok(string(file), "import", "-", "--format", "json")
	return s
}

var toMK1 = []string{"rotate", "run", "--from", "default", "--to", "mk-1"}

// status returns what rotate status says, whatever its exit code.
func (s *session) status() jsonStatus {
	s.t.Helper()
	code, out, errs := s.run("", "rotate", "status", "--json")
	var st jsonStatus
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		s.t.Errorf("rotate status: exit code %d, %v in %q\n%s", code, err, out, errs)
	}
	return st
}

func TestInterruptedRotationGoesOn(t *testing.T) {
	const secrets = 600
	s := sessionToRotate(t, secrets)
	code, out, errs := s.runUntilMoved(append(toMK1, "--batch", "1", "--json")...)
	if code != exitInterrupted {
		t.Fatalf("interrupted: exit code %d, want %d\n%s", code, exitInterrupted, errs)
	}
	var half jsonRun
	if err := json.Unmarshal([]byte(out), &half); err != nil {
		t.Fatalf("%v in %q\n%s", err, out, errs)
	}
	if half.Done == 0 || half.Remaining == 0 || half.Done+half.Remaining != secrets || half.State != "incomplete" {
		t.Errorf("interrupted with %d done, %d left, %s", half.Done, half.Remaining, half.State)
	}
	if code, _, _ := s.run("", "rotate", "status"); code != exitIncomplete {
		t.Errorf("status while open: exit code %d, want %d", code, exitIncomplete)
	}
	s.ok("", toMK1...)
	s.ok("", "rotate", "status")
	s.ok("", "verify", "--deep")
	if out := s.ok("", "list", "--key", "default"); out != "" {
		t.Errorf("secrets left under the old key:\n%s", out)
	}
}

// Interrupted at any moment, a run either says where it is, or did nothing.
func TestRotationInterruptedAtAnyMomentSaysWhereItIs(t *testing.T) {
	s := sessionToRotate(t, 60)
	began := time.Now()
	s.ok("", append(toMK1, "--batch", "1")...)
	whole := time.Since(began)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	said, silent := 0, 0
	for range rounds {
		before := s.status()
		if !before.State.Open() {
			s.ok("", "rotate", "run", "--from", "mk-1", "--to", "default")
			before = s.status()
		}
		code, out, errs := s.runFor(time.Duration(rand.Int64N(int64(whole))), append(toMK1, "--batch", "1", "--json")...)
		after := s.status()
		var half jsonRun
		switch {
		case code == exitOK:
		case code != exitInterrupted:
			t.Fatalf("exit code %d, want %d\n%s", code, exitInterrupted, errs)
		case out == "":
			silent++
			if before.Done != after.Done || before.UpdatedAt != after.UpdatedAt {
				t.Errorf("silent, and it went from %+v to %+v\n%s", before, after, errs)
			}
		default:
			said++
			err := json.Unmarshal([]byte(out), &half)
			if err != nil || half.Job == "" || half.Done != after.Done || half.Remaining != after.Remaining || half.State != after.State {
				t.Errorf("%v in %q; status says %+v", err, out, after)
			}
		}
	}
	t.Logf("%d said where they were, %d had not begun", said, silent)
	if said == 0 {
		t.Error("no interrupt came after the beginning")
	}
}

// runFor interrupts the command after a while.
func (s *session) runFor(d time.Duration, args ...string) (code int, stdout, stderr string) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	defer time.AfterFunc(d, interrupt).Stop()
	return s.runIn(ctx, args...)
}

// runUntilMoved interrupts a rotation when it has moved something.
func (s *session) runUntilMoved(args ...string) (code int, stdout, stderr string) {
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s.status().Done == 0 && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		interrupt()
	}()
	code, stdout, stderr = s.runIn(ctx, args...)
	interrupt()
	<-done
	return code, stdout, stderr
}

func (s *session) runIn(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	return s.runWith(ctx, strings.NewReader(""), args...)
}

func (s *session) runWith(ctx context.Context, stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, append(args, s.flags...), stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// A command that waits for a pipe that nobody writes to ends when it is
// interrupted.
func TestInterruptEndsWaitingForInput(t *testing.T) {
	s := newSession(t)
	for _, args := range [][]string{{"put", "a"}, {"import", "-", "--format", "json"}} {
		stdin, w := io.Pipe()
		ctx, interrupt := context.WithCancel(context.Background())
		defer time.AfterFunc(300*time.Millisecond, interrupt).Stop()
		code, out, errs := s.runWith(ctx, stdin, args...)
		w.Close()
		if code != exitInterrupted || out != "" {
			t.Errorf("%v: exit code %d, want %d; %q\n%s", args, code, exitInterrupted, out, errs)
		}
	}
	if out := s.ok("", "list"); out != "" {
		t.Errorf("something was stored:\n%s", out)
	}
}

// A value's rotation that is interrupted in its hook says so and goes on there.
func TestInterruptedHookGoesOn(t *testing.T) {
	s := newSession(t)
	s.ok("old", "put", "a")
	began := filepath.Join(t.TempDir(), "began")
	t.Setenv("BEGAN", began)
	slow := []string{"rotate", "value", "a", "--json", "--hook", `case $RESEAL_STEP in create) printf new;; set) touch "$BEGAN"; exec sleep 20;; esac`}
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(began); err == nil {
				interrupt()
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	code, out, errs := s.runIn(ctx, slow...)
	if code != exitInterrupted || out != "" || !strings.Contains(errs, `"interrupted in step set","code":"interrupted"`) {
		t.Errorf("exit code %d, want %d; %q\n%s", code, exitInterrupted, out, errs)
	}
	// What a terminal interrupts is the hook itself.
	code, out, errs = s.run("", "rotate", "value", "a", "--json", "--hook", "kill -INT $$; exit 1")
	if code != exitInterrupted || out != "" {
		t.Errorf("exit code %d, want %d; %q\n%s", code, exitInterrupted, out, errs)
	}
	if got := s.ok("", "get", "a"); got != "old" {
		t.Errorf("get = %q before the end", got)
	}
	s.ok("", "rotate", "value", "a", "--hook", "true")
	if got := s.ok("", "get", "a"); got != "new" {
		t.Errorf("get = %q at the end", got)
	}
}

// What is said of a rotation that a process is at work on does not tell to start
// it.
func TestRunningRotationIsLeftAlone(t *testing.T) {
	s := sessionToRotate(t, 400)
	ctx, interrupt := context.WithCancel(context.Background())
	defer interrupt()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.runIn(ctx, append(toMK1, "--rate", "50", "--json")...)
	}()
	for s.status().State != store.JobRunning {
		time.Sleep(10 * time.Millisecond)
	}
	code, _, errs := s.run("", "rotate", "status")
	if code != exitIncomplete || strings.Contains(errs, "rotate run") || !strings.Contains(errs, "hint: a process is at work on it") {
		t.Errorf("status: exit code %d\n%s", code, errs)
	}
	code, out, errs := s.run("", "doctor")
	if code != exitFound || strings.Contains(out, "rotate run --from") || !strings.Contains(out, "run: reseal rotate status") {
		t.Errorf("doctor: exit code %d\n%s%s", code, out, errs)
	}
	interrupt()
	<-ended
	if _, _, errs := s.run("", "rotate", "status"); !strings.Contains(errs, "hint: run: reseal rotate run --from default --to mk-1") {
		t.Errorf("status of what is interrupted: %s", errs)
	}
}
