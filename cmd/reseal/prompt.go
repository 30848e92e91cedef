package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"
)

// terminal is the terminal device itself, whatever standard input and output
// are.
type terminal struct{ in, out *os.File }

// openTerminal returns the controlling terminal, or an error if there is none.
func openTerminal() (*terminal, error) {
	if runtime.GOOS == "windows" {
		in, err := os.OpenFile("CONIN$", os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
		return &terminal{in, out}, err
	}
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	return &terminal{f, f}, err
}

func (t *terminal) close() {
	t.in.Close()
	if t.out != t.in {
		t.out.Close()
	}
}

// secret asks for a line that is not shown. An interrupt while it waits gives
// the terminal its echo back. The caller clears what is returned.
func (t *terminal) secret(ctx context.Context, question string) ([]byte, error) {
	fd := int(t.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(t.out, question)
	defer fmt.Fprintln(t.out)
	line, err := await(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	if ctx.Err() != nil {
		term.Restore(fd, before)
	}
	return line, closed(err)
}

// closed gives the end of a terminal its words.
func closed(err error) error {
	if errors.Is(err, io.EOF) {
		return usagef("", "the terminal was closed before an answer")
	}
	return err
}

// secretTwice asks until two answers are the same, three times at most.
func (t *terminal) secretTwice(ctx context.Context, what string) ([]byte, error) {
	for range 3 {
		first, err := t.secret(ctx, what+": ")
		if err != nil {
			return nil, err
		}
		if len(first) == 0 {
			return nil, nil // refused by whoever asked, without a second question
		}
		second, err := t.secret(ctx, what+" again: ")
		if err != nil {
			clear(first)
			return nil, err
		}
		same := bytes.Equal(first, second)
		clear(second)
		if same {
			return first, nil
		}
		clear(first)
		fmt.Fprintln(t.out, "They are not the same.")
	}
	return nil, usagef("", "the two answers differed three times")
}

// line asks for a line that is shown.
func (t *terminal) line(ctx context.Context, question string) (string, error) {
	fmt.Fprint(t.out, question)
	line, err := await(ctx, t.readLine)
	if ctx.Err() != nil {
		fmt.Fprintln(t.out)
	}
	return line, closed(err)
}

func (t *terminal) readLine() (string, error) {
	var line []byte
	var b [1]byte
	for {
		n, err := t.in.Read(b[:])
		if err != nil || n == 1 && b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), err
		}
		line = append(line, b[:n]...)
	}
}
