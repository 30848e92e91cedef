package store

import (
	"strings"
	"time"
	"unicode/utf8"
)

const nameChars = "A-Za-z0-9/_+=.@-"

func nameByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("_+=.@-", c) >= 0
}

func plainName(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

// CheckName reports whether name can be a secret's: 1 to 256 of
// A-Za-z0-9/_+=.@- in segments between slashes that are not empty, "." or "..".
// The error wraps ErrInvalid.
func CheckName(name string) error {
	if name == "" {
		return invalid("a secret's name is empty")
	}
	if len(name) > 256 {
		return invalid("the secret name is %d characters long; at most 256", len(name))
	}
	for _, seg := range strings.Split(name, "/") {
		if seg == "" || seg == "." || seg == ".." {
			return invalid(`secret name %q: a part between slashes is empty, "." or ".."`, name)
		}
		if !plainName(seg) {
			return invalid("secret name %q: only %s may be in it", name, nameChars)
		}
	}
	return nil
}

func checkKeyName(name string) error {
	if len(name) < 1 || len(name) > 64 || !plainName(name) {
		return invalid("master key name %.80q: 1 to 64 of A-Za-z0-9_+=.@-", name)
	}
	return nil
}

func checkLabel(label string) error {
	if len(label) < 1 || len(label) > 64 || !plainName(label) {
		return invalid("label %.80q: 1 to 64 of A-Za-z0-9_+=.@-", label)
	}
	return nil
}

func checkToken(token string) error {
	if token != "" && (utf8.RuneCountInString(token) > 64 || !plainText(token)) {
		return invalid("version token: 1 to 64 characters without control characters")
	}
	return nil
}

// plainText reports whether s is valid UTF-8 without control characters.
func plainText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// text reports whether s is valid UTF-8 without NUL and other control
// characters than line ends and tabs.
func text(s string) bool {
	return plainText(strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(s))
}

func checkDescription(d string) error {
	if utf8.RuneCountInString(d) > 1024 || !text(d) {
		return invalid("description: at most 1024 characters of text")
	}
	return nil
}

func checkTags(tags map[string]string) error {
	for k, v := range tags {
		if k == "" || utf8.RuneCountInString(k) > 128 || !plainText(k) {
			return invalid("tag key %.80q: 1 to 128 characters without control characters", k)
		}
		if utf8.RuneCountInString(v) > 256 || !text(v) {
			return invalid("value of tag %.80q: at most 256 characters of text", k)
		}
	}
	return nil
}

func (s *Store) checkValue(value []byte) error {
	switch {
	case len(value) == 0:
		return invalid("the value is empty; to remove a secret, delete it")
	case len(value) > s.opts.MaxValue:
		return invalid("the value is %d bytes long; at most %d are allowed here", len(value), s.opts.MaxValue)
	}
	return nil
}

// window returns d, or the default for 0, in milliseconds.
func window(d time.Duration) (int64, error) {
	if d == 0 {
		d = DefaultWindow
	}
	if d < MinWindow || d > MaxWindow {
		return 0, invalid("window of %s: between 7 and 30 days (168h to 720h)", d)
	}
	return d.Milliseconds(), nil
}
