package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestInterruptedRotationGoesOn(t *testing.T) {
	s := newSession(t)
	s.ok("", "key", "create", "mk-1")
	secrets := map[string]string{}
	for i := range 1500 {
		secrets[fmt.Sprintf("s-%04d", i)] = "v"
	}
	file, err := json.Marshal(secrets)
	if err != nil {
		t.Fatal(err)
	}
	s.ok(string(file), "import", "-", "--format", "json")

	rotation := []string{"rotate", "run", "--from", "default", "--to", "mk-1"}
	ctx, interrupt := context.WithCancel(context.Background())
	go func() {
		defer interrupt()
		for range 3000 {
			var st jsonStatus
			if _, out, _ := s.run("", "rotate", "status", "--json"); json.Unmarshal([]byte(out), &st) == nil && st.Done > 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	var out, errs bytes.Buffer
	code := run(ctx, append(append(rotation, "--batch", "1", "--json"), s.flags...), strings.NewReader(""), &out, &errs)
	if code != exitInterrupted {
		t.Fatalf("interrupted: exit code %d, want %d\n%s", code, exitInterrupted, errs.String())
	}
	var half jsonRun
	if err := json.Unmarshal(out.Bytes(), &half); err != nil {
		t.Fatal(err)
	}
	if half.Done == 0 || half.Remaining == 0 || half.Done+half.Remaining != 1500 || half.State != "incomplete" {
		t.Errorf("interrupted with %d done, %d left, %s", half.Done, half.Remaining, half.State)
	}
	if code, _, _ := s.run("", "rotate", "status"); code != exitIncomplete {
		t.Errorf("status while open: exit code %d, want %d", code, exitIncomplete)
	}
	s.ok("", rotation...)
	s.ok("", "rotate", "status")
	s.ok("", "verify", "--deep")
	if out := s.ok("", "list", "--key", "default"); out != "" {
		t.Errorf("secrets left under the old key:\n%s", out)
	}
}
