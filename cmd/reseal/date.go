package main

import (
	"errors"
	"time"
)

// moment is a flag with a time.
type moment time.Time

// Set parses a day, which begins at 00:00 UTC, or a time as RFC 3339 writes it.
func (m *moment) Set(s string) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		if t, err := time.Parse(layout, s); err == nil && t.UnixMilli() > 0 {
			*m = moment(t)
			return nil
		}
	}
	return errors.New("write it like 2026-01-31 or 2026-01-31T12:00:00Z")
}

func (m *moment) String() string {
	if time.Time(*m).IsZero() {
		return ""
	}
	return time.Time(*m).UTC().Format(time.RFC3339Nano)
}

// Type names the flag's value in help.
func (m *moment) Type() string { return "date" }
