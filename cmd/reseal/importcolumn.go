package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

// Many programs keep secrets in a column that they encrypt themselves, with
// AES-GCM under one key for all. This reads such a column. The file is opened
// for reading only, tables and columns are looked up in it before their names
// reach a statement, and an error tells the number of a row and nothing of what
// is in it.

// columnFlags say where the column is and how it was encrypted.
type columnFlags struct {
	table, name, value, nonce, aad string // columns of the table; nonce and aad may be ""

	layout      string // the order of the parts in the value
	nonceSize   int    // bytes
	encoding    string // of the value: raw, hex, base64
	keyFile     string
	keyEncoding string // raw, hex, base64, or "" to tell by the file

	leftOut int64 // rows whose value was null
}

// columnFlag names the flags that only the format sqlite-column has.
var columnFlag = []string{"table", "name-column", "value-column", "nonce-column", "aad-column", "layout", "nonce-size", "value-encoding", "aes-key-file", "aes-key-encoding"}

func (f *columnFlags) flags(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.table, "table", "", "column: the `table`")
	s.StringVar(&f.name, "name-column", "", "column: the `column` of the names")
	s.StringVar(&f.value, "value-column", "", "column: the `column` of the encrypted values")
	s.StringVar(&f.nonce, "nonce-column", "", "column: the `column` of the nonces, if the values are without")
	s.StringVar(&f.aad, "aad-column", "", "column: the `column` of the additional data (default none)")
	s.StringVar(&f.layout, "layout", "", "column: `order` of a value's parts (default nonce,ciphertext,tag)")
	s.IntVar(&f.nonceSize, "nonce-size", 12, "column: the nonce's length in `bytes`")
	s.StringVar(&f.encoding, "value-encoding", "raw", "column: of value and nonce: `raw|hex|base64`")
	s.StringVar(&f.keyFile, "aes-key-file", "", "column: the `file` of the AES key of 16, 24 or 32 bytes")
	s.StringVar(&f.keyEncoding, "aes-key-encoding", "", "column: of the key file: `raw|hex|base64` (default by length)")
}

// check looks at the flags, of which given says whether they were used.
func (f *columnFlags) check(format string, given func(name string) bool) error {
	if format != "sqlite-column" {
		for _, name := range columnFlag {
			if given(name) {
				return usagef("reseal import --help", "--%s is for --format sqlite-column", name)
			}
		}
		return nil
	}
	for _, name := range []string{"table", "name-column", "value-column", "aes-key-file"} {
		if !given(name) {
			return usagef("reseal import --help", "--format sqlite-column needs --%s", name)
		}
	}
	encodings := []string{"raw", "hex", "base64"}
	switch {
	case !slices.Contains(encodings, f.encoding):
		return usagef("", "--value-encoding %q: raw, hex or base64", f.encoding)
	case f.keyEncoding != "" && !slices.Contains(encodings, f.keyEncoding):
		return usagef("", "--aes-key-encoding %q: raw, hex or base64", f.keyEncoding)
	case f.nonceSize < 1 || f.nonceSize > 64:
		return usagef("", "--nonce-size %d: 1 to 64 bytes", f.nonceSize)
	}
	_, err := f.parts()
	return err
}

// parts returns the order of the parts of a value.
func (f *columnFlags) parts() ([]string, error) {
	want := []string{"nonce", "ciphertext", "tag"}
	if f.nonce != "" {
		want = want[1:]
	}
	if f.layout == "" {
		return want, nil
	}
	parts := strings.Split(f.layout, ",")
	if slices.Sort(want); !slices.Equal(slices.Sorted(slices.Values(parts)), want) {
		return nil, usagef("reseal import --help", "--layout %q: %s, each once", f.layout, strings.Join(want, ", "))
	}
	return parts, nil
}

// readColumn returns the names, with the prefix, and opened values of the rows.
func (a *app) readColumn(ctx context.Context, path, prefix string, f *columnFlags) ([]pair, error) {
	aead, err := f.aead()
	if err != nil {
		return nil, err
	}
	db, err := openSource(path)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	query, err := f.query(ctx, db, path)
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, sourceError(path, err)
	}
	defer rows.Close()
	r := &columnReader{columnFlags: f, rows: rows, aead: aead, prefix: prefix, seen: map[string]bool{}}
	if err := r.all(); err != nil {
		clearPairs(r.pairs)
		return nil, sourceError(path, err)
	}
	if f.leftOut = r.empty; r.empty > 0 {
		a.warn("%s without a value left out", plural(r.empty, "row"))
	}
	return r.pairs, nil
}

// aead is AES-GCM under the key of the key file.
func (f *columnFlags) aead() (cipher.AEAD, error) {
	key, err := f.readKey()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithNonceSize(block, f.nonceSize)
}

// columnReader reads the rows of a column.
type columnReader struct {
	*columnFlags
	rows   *sql.Rows
	aead   cipher.AEAD
	prefix string
	pairs  []pair
	seen   map[string]bool
	bytes  int
	empty  int64 // rows whose value is null
}

func (r *columnReader) all() error {
	for n := 1; r.rows.Next(); n++ {
		if err := r.next(); err != nil {
			return fmt.Errorf("row %d of table %q, by %q: %w", n, r.table, r.name, err)
		}
	}
	return r.rows.Err()
}

// next takes one row.
func (r *columnReader) next() error {
	p, err := r.row(r.rows, r.aead)
	if errors.Is(err, errNoValue) {
		r.empty++
		return nil
	}
	r.pairs = append(r.pairs, p)
	r.bytes += len(p.value)
	switch {
	case err != nil:
		return err
	case store.CheckName(r.prefix+p.name) != nil: // whose error shows the name, which may be from a wrong column
		return errors.New("its name, with the prefix, is none that a secret can have: 1 to 256 of A-Za-z0-9/_+=.@-")
	case r.seen[p.name]:
		return errors.New("its name is that of another row")
	case r.bytes > maxImport:
		return fmt.Errorf("the values so far are over %d MiB", maxImport>>20)
	}
	r.seen[p.name] = true
	return nil
}

func sourceError(path string, err error) error {
	if err == nil {
		return nil
	}
	return usagef("", "import %q: %v", path, err)
}

// openSource opens a database to read, and nothing else.
func openSource(path string) (*sql.DB, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, usagef("", "%v", err)
	case !info.Mode().IsRegular():
		return nil, usagef("", "import %q: it is not a file", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: abs, RawQuery: url.Values{"mode": {"ro"}, "_defensive": {"1"}, "_dqs": {"0"}, "_pragma": {
		"query_only(1)", "trusted_schema(0)", "temp_store(memory)", "busy_timeout(10000)"}}.Encode()}
	return sql.Open("sqlite", u.String())
}

// query is the statement that reads the rows, once the table and its columns
// are known to be there. Each blob and its type are read, whatever the column
// was declared as.
func (f *columnFlags) query(ctx context.Context, db *sql.DB, path string) (string, error) {
	have, err := columnsOf(ctx, db, f.table)
	if err != nil {
		return "", sourceError(path, err)
	}
	if len(have) == 0 {
		return "", usagef("", "import %q: there is no table %q", path, f.table)
	}
	for _, c := range []string{f.name, f.value, f.nonce, f.aad} {
		if c != "" && !slices.Contains(have, c) {
			return "", usagef("", "import %q: table %q has no column %q", path, f.table, c)
		}
	}
	blob := func(column string) string {
		if column == "" {
			return "'', NULL"
		}
		return fmt.Sprintf("typeof(%s), CAST(%[1]s AS BLOB)", quoteName(column))
	}
	return fmt.Sprintf("SELECT %s, %s, %s, %s FROM %s ORDER BY %s",
		blob(f.name), blob(f.value), blob(f.nonce), blob(f.aad), quoteName(f.table), quoteName(f.name)), nil
}

func columnsOf(ctx context.Context, db *sql.DB, table string) ([]string, error) {
	rows, err := db.QueryContext(ctx, `
		SELECT c.name
		FROM main.sqlite_schema AS s, pragma_table_xinfo(s.name) AS c
		WHERE s.type = 'table' AND s.name = ?`, table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// quoteName quotes an identifier.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// errNoValue is returned for a row whose value is null.
var errNoValue = errors.New("no value")

// field is a blob with the type that it has in the database.
type field struct {
	typ   string
	bytes []byte
}

// row reads and opens one row.
func (f *columnFlags) row(rows *sql.Rows, aead cipher.AEAD) (pair, error) {
	var name, value, nonce, aad field
	err := rows.Scan(&name.typ, &name.bytes, &value.typ, &value.bytes, &nonce.typ, &nonce.bytes, &aad.typ, &aad.bytes)
	if err != nil {
		return pair{}, err
	}
	if value.typ == "null" {
		return pair{}, errNoValue
	}
	sealed, err := f.decode(value)
	if err != nil {
		return pair{}, fmt.Errorf("the value: %w", err)
	}
	n, err := f.decode(nonce)
	if err != nil {
		return pair{}, fmt.Errorf("the nonce: %w", err)
	}
	n, sealed, err = f.split(n, sealed, aead.Overhead())
	if err != nil {
		return pair{}, err
	}
	plain, err := aead.Open(nil, n, sealed, aad.bytes)
	if err != nil {
		return pair{}, errors.New("it does not open: the key, the layout or the additional data is another, or it is damaged")
	}
	return pair{string(name.bytes), plain}, nil
}

func (f *columnFlags) decode(v field) ([]byte, error) {
	switch {
	case v.typ == "": // no such column
		return nil, nil
	case f.encoding == "raw" && v.typ == "blob":
		return v.bytes, nil
	case f.encoding == "raw":
		return nil, fmt.Errorf("it is of type %s and not blob: say what it is encoded in with --value-encoding", v.typ)
	case v.typ != "text" && v.typ != "blob":
		return nil, fmt.Errorf("it is of type %s and not text", v.typ)
	}
	b, ok := decodeText(v.bytes, f.encoding)
	if !ok {
		return nil, fmt.Errorf("it is not %s", f.encoding)
	}
	return b, nil
}

// decodeText decodes hex, or base64 of either alphabet with or without padding.
func decodeText(text []byte, encoding string) ([]byte, bool) {
	s := strings.TrimSpace(string(text))
	if encoding == "hex" {
		b, err := hex.DecodeString(s)
		return b, err == nil
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawStdEncoding.DecodeString(s)
	return b, err == nil
}

// split takes a value apart and returns the nonce, and ciphertext ‖ tag.
func (f *columnFlags) split(nonce, value []byte, tagSize int) (n, sealed []byte, err error) {
	parts, err := f.parts()
	if err != nil {
		return nil, nil, err
	}
	size := map[string]int{"nonce": f.nonceSize, "tag": tagSize}
	rest := len(value) - tagSize
	if f.nonce == "" {
		rest -= f.nonceSize
	}
	if size["ciphertext"] = rest; rest < 0 {
		return nil, nil, fmt.Errorf("its value of %d bytes is too short for nonce and tag", len(value))
	}
	found := map[string][]byte{"nonce": nonce}
	for _, p := range parts {
		found[p], value = value[:size[p]], value[size[p]:]
	}
	if len(found["nonce"]) != f.nonceSize {
		return nil, nil, fmt.Errorf("its nonce has %d bytes and not %d", len(found["nonce"]), f.nonceSize)
	}
	return found["nonce"], append(bytes.Clone(found["ciphertext"]), found["tag"]...), nil
}

// readKey reads the AES key from its file, which must be as private as any.
func (f *columnFlags) readKey() ([]byte, error) {
	info, err := os.Stat(f.keyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, usagef("", "AES key file: %v", err)
	case err != nil:
		return nil, err
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		return nil, credentialError(fmt.Errorf("AES key file %q has mode %04o: %w: run chmod 600 on it", f.keyFile, info.Mode().Perm(), store.ErrPermissions))
	case !info.Mode().IsRegular() || info.Size() > 4096:
		return nil, usagef("", "AES key file %q is not a small regular file", f.keyFile)
	}
	text, err := os.ReadFile(f.keyFile)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	found := f.keys(text)
	if len(found) != 1 {
		for _, k := range found {
			clear(k)
		}
		if len(found) > 1 {
			return nil, usagef("", "AES key file %q can be read in more than one way: say which with --aes-key-encoding", f.keyFile)
		}
		return nil, usagef("", "AES key file %q does not hold 16, 24 or 32 bytes, raw or as hex or base64", f.keyFile)
	}
	return found[0], nil
}

// keys returns the keys that a file can be read as.
func (f *columnFlags) keys(text []byte) (found [][]byte) {
	for _, encoding := range []string{"raw", "hex", "base64"} {
		if f.keyEncoding != "" && f.keyEncoding != encoding {
			continue
		}
		key, ok := bytes.Clone(text), true
		if encoding != "raw" {
			key, ok = decodeText(text, encoding)
		}
		if ok && (len(key) == 16 || len(key) == 24 || len(key) == 32) {
			found = append(found, key)
		} else {
			clear(key)
		}
	}
	return found
}
