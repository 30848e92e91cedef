package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// legacy is a database with a column that a program encrypted itself.
type legacy struct {
	t       testing.TB
	path    string
	keyFile string
	key     []byte
}

func newLegacy(t *testing.T, keySize int) *legacy {
	t.Helper()
	l := &legacy{t: t, path: filepath.Join(t.TempDir(), "legacy.db"), key: make([]byte, keySize)}
	rand.Read(l.key)
	l.keyFile = filepath.Join(t.TempDir(), "aes.key")
	l.writeKey(l.key)
	return l
}

func (l *legacy) writeKey(text []byte) {
	l.t.Helper()
	if err := os.WriteFile(l.keyFile, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *legacy) exec(query string, args ...any) {
	l.t.Helper()
	db, err := sql.Open("sqlite", "file:"+l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(query, args...); err != nil {
		l.t.Fatal(err)
	}
}

// seal encrypts as the program did, and returns the parts.
func (l *legacy) seal(nonceSize int, plain, aad string) map[string][]byte {
	l.t.Helper()
	block, err := aes.NewCipher(l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, nonceSize)
	if err != nil {
		l.t.Fatal(err)
	}
	nonce := make([]byte, nonceSize)
	rand.Read(nonce)
	out := aead.Seal(nil, nonce, []byte(plain), []byte(aad))
	return map[string][]byte{"nonce": nonce, "ciphertext": out[:len(plain)], "tag": out[len(plain):]}
}

func joined(parts map[string][]byte, order ...string) (all []byte) {
	for _, p := range order {
		all = append(all, parts[p]...)
	}
	return all
}

// fill makes a table of three secrets in the usual layout.
func (l *legacy) fill() *legacy {
	l.exec(`CREATE TABLE accounts (email TEXT, password BLOB)`)
	for name, plain := range legacyValues {
		l.exec(`INSERT INTO accounts VALUES (?, ?)`, name, joined(l.seal(12, plain, ""), "nonce", "ciphertext", "tag"))
	}
	return l
}

var legacyValues = map[string]string{"a@example.org": "first s3cret", "b@example.org": "second s3cret", "c@example.org": "third\x00s3cret\n"}

// args is an import in the usual layout, with more flags.
func (l *legacy) args(more ...string) []string {
	return append([]string{"import", l.path, "--format", "sqlite-column", "--table", "accounts", "--name-column", "email", "--value-column", "password",
		"--aes-key-file", l.keyFile, "--prefix", "mail/"}, more...)
}

func sum(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// wantImported compares what is in the store under mail/.
func (s *session) wantImported(want map[string]string) {
	s.t.Helper()
	got := map[string]string{}
	var list []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal([]byte(s.ok("", "list", "mail/", "--json")), &list); err != nil {
		s.t.Fatal(err)
	}
	for _, sec := range list {
		got[strings.TrimPrefix(sec.Name, "mail/")] = s.ok("", "get", sec.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("what was imported (-want +got):\n%s", diff)
	}
}

func TestImportColumnDryRunThenImportThenNothingNew(t *testing.T) {
	s, l := newSession(t), newLegacy(t, 32).fill()
	before := sum(t, l.path)
	if out := s.ok("", l.args("--dry-run")...); strings.Count(out, "created") != 3 {
		t.Errorf("dry run: %s", out)
	}
	s.wantImported(map[string]string{})
	s.ok("", l.args()...)
	s.wantImported(legacyValues)
	if out := s.ok("", l.args("--json")...); !strings.Contains(out, `"created":[],"updated":[],"unchanged":["mail/a@example.org",`) {
		t.Errorf("again: %s", out)
	}
	if sum(t, l.path) != before {
		t.Error("the source has changed")
	}
	if beside, _ := filepath.Glob(l.path + "?*"); len(beside) > 0 {
		t.Errorf("left beside the source: %v", beside)
	}
}

// TestImportColumnReadsEveryLayout has one table with odd names for each.
func TestImportColumnReadsEveryLayout(t *testing.T) {
	raw := func(b []byte) any { return b }
	hexed := func(b []byte) any { return hex.EncodeToString(b) }
	based := func(b []byte) any { return base64.StdEncoding.EncodeToString(b) }
	urled := func(b []byte) any { return []byte(base64.RawURLEncoding.EncodeToString(b) + "\n") }
	for name, c := range map[string]struct {
		keySize, nonceSize int
		order              string
		aad, ownNonce      bool
		encode             func([]byte) any
		flags              []string
	}{
		"prefix":       {32, 12, "nonce,ciphertext,tag", false, false, raw, nil},
		"AES-128":      {16, 12, "nonce,ciphertext,tag", false, false, raw, nil},
		"AES-192":      {24, 12, "nonce,ciphertext,tag", false, false, raw, nil},
		"suffix":       {32, 12, "ciphertext,tag,nonce", false, false, raw, []string{"--layout", "ciphertext,tag,nonce"}},
		"tag first":    {32, 12, "nonce,tag,ciphertext", false, false, raw, []string{"--layout", "nonce,tag,ciphertext"}},
		"long nonce":   {32, 16, "nonce,ciphertext,tag", false, false, raw, []string{"--nonce-size", "16"}},
		"nonce column": {32, 12, "ciphertext,tag", false, true, raw, []string{"--nonce-column", `no"nce`}},
		"tag, column":  {32, 12, "tag,ciphertext", false, true, hexed, []string{"--nonce-column", `no"nce`, "--layout", "tag,ciphertext", "--value-encoding", "hex"}},
		"hex":          {32, 12, "nonce,ciphertext,tag", false, false, hexed, []string{"--value-encoding", "hex"}},
		"base64":       {32, 12, "nonce,ciphertext,tag", false, false, based, []string{"--value-encoding", "base64"}},
		"base64 URL":   {32, 12, "nonce,ciphertext,tag", false, false, urled, []string{"--value-encoding", "base64"}},
		"bound to id":  {32, 12, "nonce,ciphertext,tag", true, false, raw, []string{"--aad-column", "id"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := newSession(t), newLegacy(t, c.keySize)
			l.exec(`CREATE TABLE "odd ""table"" ; --" (id INTEGER PRIMARY KEY, "the name" DATE, "select" DATETIME, "no""nce" BOOLEAN)`)
			id := 7
			for name, plain := range legacyValues {
				aad := ""
				if c.aad {
					aad = fmt.Sprint(id)
				}
				parts := l.seal(c.nonceSize, plain, aad)
				l.exec(`INSERT INTO "odd ""table"" ; --" VALUES (?, ?, ?, ?)`, id, name, c.encode(joined(parts, strings.Split(c.order, ",")...)), c.encode(parts["nonce"]))
				id++
			}
			s.ok("", append([]string{"import", l.path, "--format", "sqlite-column", "--table", `odd "table" ; --`, "--name-column", "the name",
				"--value-column", "select", "--aes-key-file", l.keyFile, "--prefix", "mail/"}, c.flags...)...)
			s.wantImported(legacyValues)
		})
	}
}

func TestImportColumnReadsEveryFormOfTheKey(t *testing.T) {
	s, l := newSession(t), newLegacy(t, 32).fill()
	for _, text := range []string{hex.EncodeToString(l.key), hex.EncodeToString(l.key) + "\n", base64.StdEncoding.EncodeToString(l.key), base64.RawURLEncoding.EncodeToString(l.key) + "\r\n"} {
		l.writeKey([]byte(text))
		s.ok("", l.args("--dry-run")...)
	}
	// 32 hexadecimal digits are 32 bytes, and a key of 16.
	l = newLegacy(t, 16).fill()
	l.writeKey([]byte(hex.EncodeToString(l.key)))
	if code, _, errs := s.run("", l.args()...); code != exitUsage || !strings.Contains(errs, "--aes-key-encoding") {
		t.Errorf("a key file of two meanings: exit code %d, %s", code, errs)
	}
	s.ok("", l.args("--aes-key-encoding", "hex")...)
	s.wantImported(legacyValues)
}

// TestImportColumnLeavesOutRowsWithoutAValue and says how many.
func TestImportColumnLeavesOutRowsWithoutAValue(t *testing.T) {
	s, l := newSession(t), newLegacy(t, 32).fill()
	l.exec(`INSERT INTO accounts VALUES ('d', NULL), ('not a name', NULL)`)
	if code, _, errs := s.run("", l.args()...); code != 0 || !strings.Contains(errs, "2 rows without a value left out") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	s.wantImported(legacyValues)
	if code, out, errs := s.run("", l.args("--json")...); code != 0 || !strings.Contains(out, `"left_out":2`) || errs != "" {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
}

// TestImportColumnRefuses what it cannot read for certain: with nothing stored,
// the source as it was, and nothing of it in the error.
func TestImportColumnRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *legacy)
		more   []string
		want   string
	}{
		"another key":          {func(l *legacy) { l.writeKey(bytes.Repeat([]byte{7}, 32)) }, nil, `row 1 of table "accounts", by "email": it does not open`},
		"another layout":       {nil, []string{"--layout", "nonce,tag,ciphertext"}, "row 1 .* it does not open"},
		"another nonce size":   {nil, []string{"--nonce-size", "13"}, "it does not open"},
		"additional data":      {nil, []string{"--aad-column", "email"}, "it does not open"},
		"one row damaged":      {func(l *legacy) { l.exec(`UPDATE accounts SET password = zeroblob(40) WHERE email LIKE 'b%'`) }, nil, "row 2 .* it does not open"},
		"one row too short":    {func(l *legacy) { l.exec(`UPDATE accounts SET password = x'00' WHERE email LIKE 'c%'`) }, nil, "row 3 .*its value of 1 bytes is too short"},
		"text for a blob":      {func(l *legacy) { l.exec(`UPDATE accounts SET password = 's3cret'`) }, nil, "of type text and not blob"},
		"a number for a blob":  {func(l *legacy) { l.exec(`UPDATE accounts SET password = 12345`) }, []string{"--value-encoding", "hex"}, "of type integer and not text"},
		"not hex":              {func(l *legacy) { l.exec(`UPDATE accounts SET password = 's3cret'`) }, []string{"--value-encoding", "hex"}, "the value: it is not hex"},
		"not base64":           {nil, []string{"--value-encoding", "base64"}, "the value: it is not base64"},
		"a name twice":         {func(l *legacy) { l.exec(`INSERT INTO accounts SELECT * FROM accounts`) }, nil, "row 2 .*its name is that of another row"},
		"a name that is none":  {func(l *legacy) { l.exec(`UPDATE accounts SET email = 's3cret word'`) }, nil, "row 1 .*its name, with the prefix, is none"},
		"columns exchanged":    {nil, []string{"--name-column", "password", "--value-column", "email", "--value-encoding", "base64"}, "row 1 "},
		"no such table":        {nil, []string{"--table", `x"; DROP TABLE accounts; --`}, "there is no table"},
		"no such column":       {nil, []string{"--value-column", `password" FROM accounts; --`}, "has no column"},
		"a view":               {func(l *legacy) { l.exec(`CREATE VIEW v AS SELECT * FROM accounts`) }, []string{"--table", "v"}, "there is no table"},
		"no database":          {func(l *legacy) { os.WriteFile(l.path, bytes.Repeat([]byte("s3cret text\n"), 99), 0o600) }, nil, "not a database"},
		"layout twice":         {nil, []string{"--layout", "nonce,nonce,tag"}, "each once"},
		"layout with the own":  {nil, []string{"--layout", "nonce,ciphertext,tag", "--nonce-column", "email"}, "ciphertext, tag, each once"},
		"a short key":          {func(l *legacy) { l.writeKey([]byte("s3cret")) }, nil, "does not hold 16, 24 or 32 bytes"},
		"unknown encoding":     {nil, []string{"--value-encoding", "rot13"}, "raw, hex or base64"},
		"unknown key encoding": {nil, []string{"--aes-key-encoding", "rot13"}, "raw, hex or base64"},
		"no nonce":             {nil, []string{"--nonce-size", "0"}, "1 to 64 bytes"},
		"flag of this format":  {nil, []string{"--format", "json"}, "--table is for --format sqlite-column"},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := newSession(t), newLegacy(t, 32).fill()
			if c.change != nil {
				c.change(l)
			}
			before := sum(t, l.path)
			code, out, errs := s.run("", l.args(c.more...)...)
			if code != exitUsage || out != "" || !matches(t, c.want, errs) {
				t.Errorf("exit code %d, output %q, error %s; want %q", code, out, errs, c.want)
			}
			for _, hidden := range []string{"s3cret", hex.EncodeToString(l.key), base64.StdEncoding.EncodeToString(l.key)} {
				if strings.Contains(errs, hidden) {
					t.Errorf("the error shows %q: %s", hidden, errs)
				}
			}
			s.wantImported(map[string]string{})
			if sum(t, l.path) != before {
				t.Error("the source has changed")
			}
		})
	}
}

func matches(t *testing.T, want, text string) bool {
	t.Helper()
	at := 0
	return !slices.ContainsFunc(strings.Split(want, ".*"), func(part string) bool {
		i := strings.Index(text[at:], part)
		at += max(i, 0) + len(part)
		return i < 0
	})
}

func TestImportColumnRefusesAKeyThatOthersCanRead(t *testing.T) {
	s, l := newSession(t), newLegacy(t, 32).fill()
	if err := os.Chmod(l.keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := s.run("", l.args()...); code != exitSealed || !strings.Contains(errs, "chmod 600") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if code, _, errs := s.run("", l.args("--aes-key-file", l.keyFile+".none")...); code != exitUsage {
		t.Errorf("no key file: exit code %d, %s", code, errs)
	}
	if code, _, errs := s.run("", "import", l.path, "--format", "sqlite-column", "--table", "accounts"); code != exitUsage || !strings.Contains(errs, "needs --name-column") {
		t.Errorf("no columns: exit code %d, %s", code, errs)
	}
}

// TestImportColumnFromTheStoresOwnFile is a host's: the column and the store are
// in one database.
func TestImportColumnFromTheStoresOwnFile(t *testing.T) {
	s, l := newSession(t), newLegacy(t, 32)
	l.path = s.flags[1]
	l.fill()
	s.ok("", l.args()...)
	s.wantImported(legacyValues)
	s.ok("", "verify", "--deep")
}
