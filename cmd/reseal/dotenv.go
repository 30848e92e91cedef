package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A dotenv file is lines of NAME=value. There is no standard; this reads what
// the common readers agree on, and refuses what they read in different ways
// rather than store another value than was meant:
//
//	# comment            lines that begin with #, and empty lines
//	export NAME=value    the word export is skipped
//	NAME=value # note    no quotes: up to the line's end or a # after white space, trimmed
//	NAME='value'         single quotes: as it is, over several lines too
//	NAME="value"         double quotes: several lines too; \n \r \t \" \\ \$ \` are escapes
//
// A reference to a variable, $NAME or ${NAME} outside single quotes, is replaced
// by some readers and not by others: the caller says which is meant. Errors give
// the line and never its text.

// pair is one name with its value.
type pair struct {
	name  string
	value []byte
}

// errDollar is returned for a reference to a variable when nobody said what it
// means.
var errDollar = errors.New("a value has $ before a name, which some programs replace by a variable and some keep")

// dollar says what $NAME means outside single quotes.
type dollar int

const (
	dollarAsk     dollar = iota // errDollar
	dollarLiteral               // the characters themselves
	dollarExpand                // the value of NAME earlier in the same file
)

type dotenvReader struct {
	src    []byte
	pos    int
	line   int
	dollar dollar
	pairs  []pair
	seen   map[string]int // index in pairs
}

// parseDotenv reads a dotenv file. Names come in the file's order; a name that
// is there twice is an error.
func parseDotenv(src []byte, d dollar) ([]pair, error) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	r := &dotenvReader{src: src, line: 1, dollar: d, seen: map[string]int{}}
	for r.skipBlank() {
		start := r.line
		if err := r.statement(); err != nil {
			return nil, fmt.Errorf("line %d: %w", start, err)
		}
	}
	return r.pairs, nil
}

func (r *dotenvReader) more() bool { return r.pos < len(r.src) }

func (r *dotenvReader) next() byte {
	c := r.src[r.pos]
	r.pos++
	if c == '\n' {
		r.line++
	}
	return c
}

// skipBlank goes to the next statement and reports whether there is one.
func (r *dotenvReader) skipBlank() bool {
	for r.more() {
		switch c := r.src[r.pos]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			r.next()
		case c == '#':
			r.toLineEnd()
		default:
			return true
		}
	}
	return false
}

// toLineEnd returns the rest of the line and goes to its end.
func (r *dotenvReader) toLineEnd() []byte {
	rest := r.src[r.pos:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	r.pos += len(rest)
	return rest
}

func (r *dotenvReader) statement() error {
	name, err := r.name()
	if err != nil {
		return err
	}
	if _, ok := r.seen[name]; ok {
		return fmt.Errorf("%s is there twice", name)
	}
	value, err := r.value()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.seen[name] = len(r.pairs)
	r.pairs = append(r.pairs, pair{name, value})
	return nil
}

// name reads a name, the equals sign and the white space around it.
func (r *dotenvReader) name() (string, error) {
	name := r.word()
	if name == "export" && r.spaces() > 0 && r.more() && r.src[r.pos] != '=' {
		name = r.word()
	}
	r.spaces()
	if name == "" || name[0] >= '0' && name[0] <= '9' || !r.more() || r.src[r.pos] != '=' {
		return "", errors.New("it is not NAME=value, with a name of letters, digits and _ . -")
	}
	r.pos++
	r.spaces()
	return name, nil
}

func (r *dotenvReader) word() string {
	start := r.pos
	for r.more() && envNameByte(r.src[r.pos]) {
		r.pos++
	}
	return string(r.src[start:r.pos])
}

func envNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-'
}

func (r *dotenvReader) spaces() int {
	start := r.pos
	for r.more() && (r.src[r.pos] == ' ' || r.src[r.pos] == '\t') {
		r.pos++
	}
	return r.pos - start
}

func (r *dotenvReader) value() ([]byte, error) {
	if !r.more() {
		return nil, nil
	}
	var value []byte
	var err error
	switch r.src[r.pos] {
	case '\'':
		value, err = r.single()
	case '"':
		value, err = r.double()
	case '`':
		return nil, errors.New("put the value in single or double quotes: programs read ` in different ways")
	default:
		return r.bare()
	}
	if err != nil {
		return nil, err
	}
	rest := bytes.TrimSpace(r.toLineEnd())
	if len(rest) > 0 && rest[0] != '#' {
		return nil, errors.New("there is something after the closing quote")
	}
	return value, nil
}

// bare reads a value without quotes.
func (r *dotenvReader) bare() ([]byte, error) {
	line := bytes.TrimRight(r.toLineEnd(), "\r")
	for i, c := range line {
		if c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
			break
		}
	}
	var out []byte
	line = bytes.TrimSpace(line)
	for i := 0; i < len(line); {
		n, err := r.reference(&out, line[i:])
		if err != nil {
			return nil, err
		}
		i += n
	}
	return out, nil
}

func (r *dotenvReader) single() ([]byte, error) {
	r.next()
	var out []byte
	for r.more() {
		c := r.next()
		if c == '\'' {
			return unixLines(out), nil
		}
		if c == '\\' && r.more() && r.src[r.pos] == '\'' {
			return nil, errors.New(`\' in single quotes: use double quotes, programs read it in different ways`)
		}
		out = append(out, c)
	}
	return nil, errors.New("the closing quote is missing")
}

func (r *dotenvReader) double() ([]byte, error) {
	r.next()
	var out []byte
	for r.more() {
		switch c := r.src[r.pos]; c {
		case '"':
			r.next()
			return out, nil
		case '\\':
			r.next()
			if !r.more() {
				continue
			}
			out = appendEscape(out, r.next())
		case '\r': // of a line end of two characters; a real one is written \r
			r.next()
			if !r.more() || r.src[r.pos] != '\n' {
				out = append(out, c)
			}
		case '$':
			n, err := r.reference(&out, r.src[r.pos:])
			if err != nil {
				return nil, err
			}
			r.pos += n
		default:
			out = append(out, r.next())
		}
	}
	return nil, errors.New("the closing quote is missing")
}

func appendEscape(out []byte, c byte) []byte {
	switch c {
	case 'n':
		return append(out, '\n')
	case 'r':
		return append(out, '\r')
	case 't':
		return append(out, '\t')
	case '"', '\\', '$', '`':
		return append(out, c)
	}
	return append(out, '\\', c)
}

// unixLines makes the line ends of a file written on Windows plain newlines.
func unixLines(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }

// reference appends the first byte of s, or what a reference to a variable
// there means, and returns how many bytes of s that was.
func (r *dotenvReader) reference(out *[]byte, s []byte) (int, error) {
	name, n := variable(s)
	if n == 0 || r.dollar == dollarLiteral {
		*out = append(*out, s[0])
		return 1, nil
	}
	if r.dollar == dollarAsk {
		return 0, errDollar
	}
	i, ok := r.seen[name]
	if !ok {
		return 0, fmt.Errorf("the variable %s is not set before it in the file", name)
	}
	*out = append(*out, r.pairs[i].value...)
	return n, nil
}

// variable returns the name in $NAME or ${NAME} at the start of s, and the
// length of the reference, 0 if there is none. What $( and ${NAME:-x} mean is
// for shells to say: they count as references to a name that is never set.
func variable(s []byte) (name string, n int) {
	if len(s) < 2 || s[0] != '$' {
		return "", 0
	}
	if s[1] == '(' || s[1] == '{' {
		end := bytes.IndexByte(s, '}')
		if s[1] == '{' && end > 2 {
			return string(s[2:end]), end + 1
		}
		return string(s[:2]), 2
	}
	n = 1
	for n < len(s) && envNameByte(s[n]) && s[n] != '.' && s[n] != '-' && (n > 1 || s[n] < '0' || s[n] > '9') {
		n++
	}
	if n == 1 {
		return "", 0
	}
	return string(s[1:n]), n
}

// appendDotenv appends a line NAME=value in the form that most readers read the
// same: bare if it is plain, else in single quotes, else in double quotes with
// escapes.
func appendDotenv(out []byte, name string, value []byte) ([]byte, error) {
	if !envName(name) {
		return nil, errors.New("the name cannot be a variable's in a dotenv file")
	}
	if !utf8.Valid(value) || bytes.IndexByte(value, 0) >= 0 {
		return nil, errors.New("the value is not text")
	}
	out = append(append(out, name...), '=')
	switch {
	case !bytes.ContainsFunc(value, notBare):
		out = append(out, value...)
	case !bytes.ContainsAny(value, "'\\\r"):
		out = append(append(append(out, '\''), value...), '\'')
	default:
		out = appendDoubleQuoted(out, value)
	}
	return append(out, '\n'), nil
}

func envName(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') && !strings.ContainsFunc(name, func(r rune) bool {
		return r >= 0x80 || !envNameByte(byte(r)) || r == '-'
	})
}

func notBare(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+,=", r))
}

func appendDoubleQuoted(out, value []byte) []byte {
	out = append(out, '"')
	for _, c := range value {
		switch c {
		case '\r':
			out = append(out, '\\', 'r')
		case '"', '\\', '$', '`':
			out = append(out, '\\', c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
