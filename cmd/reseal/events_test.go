package main

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// eventLines reads standard error as a program that follows a rotation does:
// every line is JSON; the last may be the error, which it returns.
func eventLines(t *testing.T, stderr string) (events []event, failed *report) {
	t.Helper()
	for line := range strings.Lines(stderr) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if failed != nil {
			t.Errorf("%q comes after the error", line)
		}
		if e.Event != "" {
			events = append(events, e)
			continue
		}
		failed = new(report)
		if err := json.Unmarshal([]byte(line), failed); err != nil || failed.Error == "" {
			t.Errorf("neither event nor error: %q, %v", line, err)
		}
	}
	return events, failed
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *stamp) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &s.Time) }

func TestEventsTellOfProgressInJSONLines(t *testing.T) {
	s := sessionToRotate(t, 120)
	code, out, errs := s.run("", append(toMK1, "--json", "--events", "--rate", "60")...)
	if code != exitOK || len(fields(t, out)) == 0 {
		t.Fatalf("exit code %d, %q\n%s", code, out, errs)
	}
	events, failed := eventLines(t, errs)
	if failed != nil {
		t.Errorf("an error: %+v", failed)
	}
	var phases []string
	var done int64
	for _, e := range events {
		if n := len(phases); n == 0 || phases[n-1] != string(e.Phase) {
			phases = append(phases, string(e.Phase))
		}
		if e.Event != "progress" || e.Job == "" || e.From != "default" || e.To != "mk-1" || e.Total != 120 || e.Time.IsZero() || e.Done < done {
			t.Errorf("after %d done: %+v", done, e)
		}
		done = e.Done
	}
	if diff := cmp.Diff([]string{"moving", "checking", "settling"}, phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if len(events) < 4 || !slices.ContainsFunc(events, func(e event) bool { return e.Left != nil && *e.Left > 0.2 && *e.Left < 20 && e.Rate > 5 }) {
		t.Errorf("no rate or time left in two seconds of events: %+v", events)
	}
}

func TestErrorIsLastLineAfterEvents(t *testing.T) {
	s := sessionToRotate(t, 120)
	code, _, errs := s.runUntilMoved(append(toMK1, "--json", "--events", "--rate", "20")...)
	events, failed := eventLines(t, errs)
	if code != exitInterrupted || len(events) == 0 || failed == nil || failed.Code != "interrupted" {
		t.Errorf("exit code %d, %d events, error %+v", code, len(events), failed)
	}
	code, out, errs := s.run("", "rotate", "run", "--from", "default", "--to", "default", "--json", "--events")
	events, failed = eventLines(t, errs)
	if code != exitUsage || out != "" || len(events) != 0 || failed == nil {
		t.Errorf("bad flags: exit code %d, %d events, error %+v", code, len(events), failed)
	}
}

// Without --events nothing but an error is on standard error: programs read it
// as one JSON object.
func TestEventsAreAskedFor(t *testing.T) {
	s := sessionToRotate(t, 120)
	if code, _, errs := s.runUntilMoved(append(toMK1, "--json", "--rate", "20")...); code != exitInterrupted || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d with %q", code, errs)
	}
	if code, _, errs := s.run("", append(toMK1, "--events")...); code != exitUsage || !strings.Contains(errs, "--events goes with --json") {
		t.Errorf("exit code %d with %q", code, errs)
	}
}

func TestProgressOfPausedRunIsShownAtOnce(t *testing.T) {
	s := sessionToRotate(t, 120)
	errs, w := io.Pipe()
	go func() {
		run(t.Context(), append(append(toMK1, "--rate", "20"), s.flags...), strings.NewReader(""), io.Discard, w)
		w.Close()
	}()
	for s.status().Done == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	s.ok("", "rotate", "pause")
	shown := false
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		if !shown && strings.HasPrefix(lines.Text(), "reseal: paused by reseal rotate pause at ") {
			shown = true
			s.ok("", "rotate", "cancel")
		}
	}
	if !shown {
		t.Error("the run did not say that it was paused")
	}
}
