package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// How reseal talks.
//
// Standard output carries the data that was asked for and nothing else: a
// value byte for byte, a table, or with --json one JSON value on one line. A
// change says what it did there in one line.
//
// Standard error carries everything else: "reseal: error: …", then
// "reseal: hint: …" with a command that can be pasted, warnings, notes and
// progress. With --json an error is one JSON object there.
//
// Questions go to the terminal device, so that they work while standard input
// and output are pipes; where there is no terminal, the error names the flag
// that answers the question.
//
// Colors and a newline after a value are for terminals only. No value, key or
// passphrase is ever printed, except the value that get, export or random was
// asked for.

// checkedWriter remembers the first error of a write, so that output that
// nobody received is an error of the command.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.err = err
	return n, err
}

// emit prints a command's result: v with --json, else what text writes.
func (a *app) emit(v any, text func(w io.Writer)) error {
	if !a.json {
		text(a.stdout)
		return nil
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say is an emit of one line of text.
func (a *app) say(v any, format string, args ...any) error {
	return a.emit(v, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// hint names the next useful command on standard error.
func (a *app) hint(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stderr, "reseal: hint: "+format+"\n", args...)
	}
}

// warn reports something that did not stop the command, and that its JSON says
// too: standard error is empty then, or the one error object.
func (a *app) warn(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stderr, "reseal: warning: "+format+"\n", args...)
	}
}

// table writes rows in columns, and no spaces at the ends of lines. Only the
// last column may have colors.
func table(w io.Writer, header string, rows [][]string) {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(strings.Fields(header), "\t"))
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r, "\t"))
	}
	tw.Flush()
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// isTerminal reports whether v is a terminal.
func isTerminal(v any) bool {
	if c, ok := v.(*checkedWriter); ok {
		v = c.w
	}
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

type color string

const (
	red    color = "\x1b[31m"
	green  color = "\x1b[32m"
	yellow color = "\x1b[33m"
	dim    color = "\x1b[2m"
)

// paint colors s for w, if w is a terminal and nobody asked for no colors.
func (a *app) paint(w any, c color, s string) string {
	if s == "" || a.noColor || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !isTerminal(w) {
		return s
	}
	return string(c) + s + "\x1b[0m"
}

// stamp is a time in JSON: RFC 3339 in UTC, or null.
type stamp struct{ time.Time }

func (s stamp) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(s.UTC().Format(time.RFC3339Nano))
}

// date is a time in text.
func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// list is a JSON array that is never null.
func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%s %ss", thousands(n), noun)
}

// thousands writes 10000 as 10,000.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
