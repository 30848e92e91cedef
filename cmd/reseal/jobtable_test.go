package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/reseal/reseal/store"
)

// The jobs of a store fit a terminal of 100 columns.
func TestJobsFitATerminal(t *testing.T) {
	began := time.Date(2026, 11, 26, 19, 24, 7, 0, time.UTC)
	job := store.Job{ID: strings.Repeat("ab", 16), Mode: "reencrypt", From: "prod-2026", To: "prod-2027", ToVersion: 2, Total: 1_000_000,
		Done: 1_000_000, State: store.JobComplete, Verified: true, StartedAt: began, FinishedAt: began.Add(3*time.Minute + 7*time.Second)}
	open := store.Job{ID: strings.Repeat("cd", 16), Mode: "rewrap", From: "prod-2027", To: "prod-2028", ToVersion: 1, Done: 1200, Remaining: 998_800,
		State: store.JobIncomplete, StartedAt: began}
	var out bytes.Buffer
	jobTable(&out, []store.Job{job, open})
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"abababab  ", "prod-2027/2", "1,000,000", "2026-11-26T19:24Z", "3m7s\n", " complete ", "incomplete", "998,800"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "PREFIX") {
		t.Errorf("a column of prefixes, of which there are none:\n%s", &out)
	}
	open.Prefix, job.Verified = "app/", false
	out.Reset()
	jobTable(&out, []store.Job{job, open})
	if !strings.Contains(out.String(), "not verified") {
		t.Errorf("not verified, and not said:\n%s", &out)
	}
	if !strings.Contains(out.String(), "PREFIX") || !strings.Contains(out.String(), "app/\n") {
		t.Errorf("no column of prefixes:\n%s", &out)
	}
	t.Logf("\n%s", &out)
}
