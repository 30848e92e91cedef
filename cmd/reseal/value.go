package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/reseal/reseal/store"
)

// valueInput is how a value comes in, which is never an argument.
type valueInput struct {
	fromFile string
	trim     bool // remove white space around it
	keep     bool // keep it
}

// readValue returns the value: from the file or the pipe byte for byte, or from the
// terminal, asked for twice. The caller clears it.
func (a *app) readValue(ctx context.Context, in valueInput) ([]byte, error) {
	if in.trim && in.keep {
		return nil, usagef("", "--trim and --keep: give one of them")
	}
	var value []byte
	var err error
	switch {
	case in.fromFile != "":
		if hasInput(a.stdin) {
			return nil, usagef("give only one of them: for the file, add </dev/null", "there is a value on standard input and one in --from-file")
		}
		value, err = await(ctx, func() ([]byte, error) { return readFile(in.fromFile) })
		in.keep = in.keep || !in.trim
	case isTerminal(a.stdin):
		return a.promptValue(ctx)
	default:
		value, err = await(ctx, func() ([]byte, error) { return readLimited(a.stdin) })
		if err != nil && ctx.Err() == nil {
			err = usagef("", "read the value: %v", err)
		}
	}
	if err != nil {
		return nil, err
	}
	return a.settleSpace(ctx, value, in)
}

func (a *app) promptValue(ctx context.Context) ([]byte, error) {
	t, err := openTerminal()
	if err != nil {
		return nil, err
	}
	defer t.close()
	return t.secretTwice(ctx, "Value")
}

// hasInput reports whether something waits on standard input. A pipe that
// somebody merely left open is not something.
func hasInput(r io.Reader) bool {
	if r == nil || isTerminal(r) {
		return false
	}
	got := make(chan bool, 1)
	go func() {
		var b [1]byte
		n, _ := io.ReadFull(r, b[:])
		got <- n > 0
	}()
	select {
	case yes := <-got:
		return yes
	case <-time.After(200 * time.Millisecond):
		return false
	}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("", "%v", err)
	}
	defer f.Close()
	value, err := readLimited(f)
	if err != nil {
		return nil, usagef("", "read %q: %v", path, plainError(err))
	}
	return value, nil
}

// readLimited reads what is no longer than any value may be.
func readLimited(r io.Reader) ([]byte, error) {
	buf := make([]byte, store.MaxValueLimit+1)
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err == nil && n > store.MaxValueLimit {
		err = fmt.Errorf("it is longer than %d bytes, which no value may be", store.MaxValueLimit)
	}
	if err != nil {
		clear(buf)
		return nil, err
	}
	return buf[:n:n], nil
}

// settleSpace decides about white space around a value. A value of several
// lines keeps it, a text file ends in a line end. Around a single line it is
// most often an accident, the newline of echo: then somebody has to say so.
func (a *app) settleSpace(ctx context.Context, value []byte, in valueInput) ([]byte, error) {
	trimmed := bytes.TrimSpace(value)
	if in.trim {
		return trimmed, nil
	}
	if len(trimmed) == 0 && len(value) > 0 && !in.keep {
		return nil, usagef("add --keep if that is the value", "there is nothing but white space on standard input")
	}
	if in.keep || len(trimmed) == len(value) || bytes.ContainsAny(trimmed, "\r\n") {
		return value, nil
	}
	where := spaceAround(value, trimmed)
	t, err := openTerminal()
	if err != nil {
		return nil, usagef("add --trim to remove it or --keep to keep it; printf %s writes no newline", "the value on standard input %s", where)
	}
	defer t.close()
	answer, err := t.line(ctx, fmt.Sprintf("The value %s. Remove it? [y]es, [n]o, [c]ancel: ", where))
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return trimmed, nil
	case "n", "no":
		return value, nil
	}
	return nil, usagef("", "cancelled, nothing was stored")
}

func spaceAround(value, trimmed []byte) string {
	switch {
	case string(value) == string(trimmed)+"\n", string(value) == string(trimmed)+"\r\n":
		return "ends in a newline"
	case bytes.HasPrefix(value, trimmed):
		return "ends in white space"
	case bytes.HasSuffix(value, trimmed):
		return "begins with white space"
	}
	return "begins and ends with white space"
}

// writeNewFile writes a new file that only its owner can read.
func writeNewFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return makeError(strconv.Quote(path), plainError(err))
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
		return makeError(strconv.Quote(path), plainError(err))
	}
	return nil
}

// plainError is an error without the path that it repeats.
func plainError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// freePath refuses a file that exists, or could not be made, before somebody is
// asked for a passphrase or work begins whose result it is to hold. An empty path
// is none.
func freePath(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return existsf("%q", path)
	}
	if err := writeNewFile(path, nil); err != nil {
		return err
	}
	return os.Remove(path)
}
