package migrations

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// token is one word, quoted name, string or sign of an SQL text.
type token struct {
	text string
	line int
}

// word returns the token in lower case and without quotes, so that names can
// be compared. SQLite takes a string for a name where only a name can stand,
// so strings count as names here.
func (t token) word() string {
	s := t.text
	if len(s) >= 2 && strings.IndexByte("'\"`[", s[0]) >= 0 {
		s = s[1 : len(s)-1]
	}
	return strings.ToLower(s)
}

// quoted reports whether the token is a string or a quoted name.
func (t token) quoted() bool { return strings.IndexByte("'\"`[", t.text[0]) >= 0 }

// tokens splits an SQL text, without its comments and spaces.
func tokens(sql string) []token {
	all := make([]token, 0, len(sql)/5)
	line := 1
	for i := 0; i < len(sql); {
		n, keep := next(sql[i:])
		if keep {
			all = append(all, token{text: sql[i : i+n], line: line})
		}
		line += strings.Count(sql[i:i+n], "\n")
		i += n
	}
	return all
}

// next returns the length of the first token, comment or space of s, which is
// not empty, and whether it is a token.
func next(s string) (n int, keep bool) {
	switch c := s[0]; {
	case isSpace(c):
		n = 1
		for n < len(s) && isSpace(s[n]) {
			n++
		}
		return n, false
	case strings.HasPrefix(s, "--"):
		return until(s, 2, "\n"), false
	case strings.HasPrefix(s, "/*"):
		return until(s, 2, "*/"), false
	case c == '\'' || c == '"' || c == '`':
		return quotedLen(s, c), true
	case c == '[':
		return until(s, 1, "]"), true
	case isWordByte(c):
		n = 1
		for n < len(s) && isWordByte(s[n]) {
			n++
		}
		return n, true
	}
	return 1, true
}

// until returns the length of s up to the end of the first stop after from.
func until(s string, from int, stop string) int {
	if i := strings.Index(s[from:], stop); i >= 0 {
		return from + i + len(stop)
	}
	return len(s)
}

// quotedLen returns the length of the string at the start of s, in which a
// doubled quote is a quote.
func quotedLen(s string, quote byte) int {
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		return i + 1
	}
	return len(s)
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// canonical returns an SQL text without its comments and with one space
// between tokens, so that texts which differ only in layout are equal.
func canonical(sql string) string { return string(appendCanonical(nil, sql)) }

func appendCanonical(to []byte, sql string) []byte {
	for i := 0; i < len(sql); {
		n, keep := next(sql[i:])
		if keep {
			to = append(to, sql[i:i+n]...)
			to = append(to, ' ')
		}
		i += n
	}
	return to
}

func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
