package migrations

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Table is the name of the table in which goose records the versions that were
// applied.
const Table = "reseal_schema_version"

//go:embed *.sql
var files embed.FS

// SQL holds the migrations of this build, one file a version.
var SQL fs.FS = files

// released pins each migration and the schema that it leads to. A file that
// was released is never edited: the test that compares it with this list fails.
var released = []release{
	{
		version: 1,
		file:    "394e749276e16da7bff0d6f25956bfa58b851cf0ec1fdb51a3f894d13ebde159",
		schema:  "0784e534b83396b39db0b2e3bd8bc57a1a8df2beb9b368f37dd39baf441021ae",
	},
	{
		version: 2,
		file:    "6783aa7bf9f99c9cd2fe3fa7aba39862a6a08313ef100d4100dce365b67d4ac3",
		schema:  "9cfe49866881ee4d975fab1928f5f3cef0e43ce12efa645d164220fdaeed76bb",
	},
	{
		version: 3,
		file:    "6fcc77be5c1b6b526cb5e93206ddedbaff34ffc55eb58f63247caf19053603b0",
		schema:  "a84cb87631426de1028221fdb6e204c6e615c6a460fc9782f91bff9f52285574",
	},
}

// release is what is known of one version.
type release struct {
	version int64
	file    string // SHA-256 of the SQL file
	schema  string // fingerprint of the schema after it, see [objects.fingerprint]
}

// A Migration is one SQL file.
type Migration struct {
	Version int64
	Name    string // of the file
	SHA256  string // of the file, in hexadecimal
}

// history is an ordered set of migrations, without gaps from version 1.
type history struct {
	fsys       fs.FS
	migrations []Migration
	files      map[int64]string // SHA-256 that a version's file was released with
	schemas    map[int64]string // fingerprint by version
}

var builtin = mustRead(SQL, released)

// Latest returns the newest schema version that this build knows.
func Latest() int64 { return builtin.latest() }

// All returns the migrations of this build, the first first.
func All() []Migration { return slices.Clone(builtin.migrations) }

func (h *history) latest() int64 { return int64(len(h.migrations)) }

// mustRead panics if the embedded files are not a sequence: no input causes it.
func mustRead(fsys fs.FS, known []release) *history {
	h, err := readHistory(fsys)
	if err != nil {
		panic(err)
	}
	for _, r := range known {
		h.files[r.version], h.schemas[r.version] = r.file, r.schema
	}
	return h
}

func readHistory(fsys fs.FS) (*history, error) {
	h := &history{fsys: fsys, files: map[int64]string{}, schemas: map[int64]string{}}
	names, err := fs.Glob(fsys, "*.sql") // sorted
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		version, err := versionOf(name)
		if err != nil {
			return nil, err
		}
		if version != int64(i)+1 {
			return nil, fmt.Errorf("migration %q: its number should be %d", name, i+1)
		}
		h.migrations = append(h.migrations, Migration{Version: version, Name: name, SHA256: hexSum(text)})
	}
	return h, nil
}

// versionOf reads the number in front of a migration's name.
func versionOf(name string) (int64, error) {
	digits, _, found := strings.Cut(name, "_")
	version, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil || version < 1 {
		return 0, fmt.Errorf("migration %q: the name should be like 00002_what_it_does.sql", name)
	}
	return version, nil
}
