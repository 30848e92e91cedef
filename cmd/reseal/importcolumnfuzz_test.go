package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fuzzColumn is a database of two tables, each with a column that was encrypted
// under a key of 32 zero bytes: blobs in the usual layout; and text, with the
// nonce in a column of its own and the name as additional data.
func fuzzColumn(f *testing.F) (file []byte, sealed map[string]bool) {
	f.Helper()
	l := &legacy{t: f, path: filepath.Join(f.TempDir(), "legacy.db"), key: make([]byte, 32)}
	l.exec(`PRAGMA page_size = 512; CREATE TABLE blobs (name TEXT, value BLOB, nonce BLOB); CREATE TABLE texts (name TEXT, value TEXT, nonce TEXT)`)
	sealed = map[string]bool{}
	for name, plain := range map[string]string{"a": "s3cret-one", "b": "s3cret-" + strings.Repeat("long", 200), "c": "s3cret\x00\n"} {
		sealed[plain] = true
		l.exec(`INSERT INTO blobs VALUES (?, ?, NULL)`, name, joined(l.seal(12, plain, ""), "nonce", "ciphertext", "tag"))
		parts := l.seal(12, plain, name)
		l.exec(`INSERT INTO texts VALUES (?, hex(?), hex(?))`, name, joined(parts, "tag", "ciphertext"), parts["nonce"])
	}
	file, err := os.ReadFile(l.path)
	if err != nil {
		f.Fatal(err)
	}
	return file, sealed
}

// FuzzImportColumn: from an altered database, read in any layout, come values
// that were encrypted or an error that tells nothing of them. The file stays as
// it is.
func FuzzImportColumn(f *testing.F) {
	for _, edits := range []string{"", "\x10\x00\x00\x00\xff", "\x12\x00\x00\x00\x03\x13\x00\x00\x00\x03", "\x64\x00\x00\x00\x05", "\x80\x00"} {
		f.Add([]byte(edits), false, "", 12, "raw")
		f.Add([]byte(edits), true, "tag,ciphertext", 12, "hex")
	}
	f.Add([]byte{}, false, "ciphertext,tag,nonce", 13, "base64")
	f.Add([]byte{}, true, "nonce,nonce", 64, "raw")
	file, sealed := fuzzColumn(f)
	dir := f.TempDir()
	keyFile := filepath.Join(dir, "aes.key")
	if err := os.WriteFile(keyFile, make([]byte, 32), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, edits []byte, texts bool, layout string, nonceSize int, encoding string) {
		col := columnFlags{table: "blobs", name: "name", value: "value", layout: layout, nonceSize: nonceSize, encoding: encoding, keyFile: keyFile, keyEncoding: "raw"}
		if texts {
			col.table, col.nonce, col.aad = "texts", "nonce", "name"
		}
		if col.check("sqlite-column", func(string) bool { return true }) != nil {
			return
		}
		altered := alter(file, edits)
		path := filepath.Join(dir, "legacy.db")
		if err := os.WriteFile(path, altered, 0o600); err != nil {
			t.Fatal(err)
		}
		a := &app{stderr: &bytes.Buffer{}}
		pairs, err := a.readColumn(t.Context(), path, "", &col)
		if err != nil && (pairs != nil || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%d values with an error: %v", len(pairs), err)
		}
		for _, p := range pairs {
			if !sealed[string(p.value)] {
				t.Errorf("%q has a value that nobody encrypted", p.name)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, altered) {
			t.Errorf("the file is another: %v", err)
		}
		for _, of := range []string{"-wal", "-shm"} { // that whoever reads a file in WAL mode makes
			os.Remove(path + of)
		}
	})
}

// alter changes single bytes of a file: an edit is four bytes that say where and
// one that says how. Two bytes at the end cut it.
func alter(file, edits []byte) []byte {
	file = bytes.Clone(file)
	for ; len(edits) >= 5; edits = edits[5:] {
		file[int(binary.LittleEndian.Uint32(edits))%len(file)] ^= edits[4]
	}
	if len(edits) == 2 {
		file = file[:len(file)*int(edits[0])/256]
	}
	return file
}
