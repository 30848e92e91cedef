package migrations

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refusal is a file that no call may touch.
type refusal struct {
	name string
	make func(t *testing.T, path string)
	want error // of Up without Create, and of CheckSchema
}

var refusals = []refusal{
	{"empty file", func(t *testing.T, path string) { write(t, path, "") }, ErrNotAStore},
	{"text file", func(t *testing.T, path string) { write(t, path, strings.Repeat("not a database\n", 100)) }, ErrNotAStore},
	{"somebody else's database", func(t *testing.T, path string) {
		db := open(t, path)
		mustExec(t, db, `CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('a')`)
		db.Close()
	}, ErrNotAStore},
	{"another goose's table", func(t *testing.T, path string) {
		db := open(t, path)
		mustExec(t, db, `CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY, version_id INTEGER, is_applied INTEGER); INSERT INTO goose_db_version VALUES (1, 7, 1)`)
		db.Close()
	}, ErrNotAStore},
	{"newer schema", func(t *testing.T, path string) {
		db := open(t, path)
		if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
			t.Fatal(err)
		}
		mustExec(t, db, `INSERT INTO `+Table+` (version_id, is_applied) VALUES (?, 1)`, Latest()+1)
		db.Close()
	}, ErrNewer},
}

func TestForeignAndNewerFilesAreRefusedUntouched(t *testing.T) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			r.make(t, path)
			before := fileSum(t, path)
			db := open(t, path)
			for what, f := range map[string]func() error{
				"Up":          func() error { _, err := Up(t.Context(), db, Options{}); return err },
				"UpTo":        func() error { _, err := UpTo(t.Context(), db, Latest(), Options{}); return err },
				"dry run":     func() error { _, err := Up(t.Context(), db, Options{DryRun: true}); return err },
				"CheckSchema": func() error { return CheckSchema(t.Context(), db) },
			} {
				if err := f(); !errors.Is(err, r.want) {
					t.Errorf("%s: error %v, want %v", what, err, r.want)
				}
			}
			_, _ = Current(t.Context(), db)
			_, _ = Status(t.Context(), db)
			db.Close()
			if diff := cmp.Diff(before, fileSum(t, path)); diff != "" {
				t.Errorf("the file changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewerSchemaIsRefusedByCreateAndDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	refusals[len(refusals)-1].make(t, path)
	before := fileSum(t, path)
	db := open(t, path)
	_, err := Up(t.Context(), db, Options{Create: true})
	var newer *NewerError
	if !errors.As(err, &newer) || newer.Version != Latest()+1 || newer.Latest != Latest() {
		t.Errorf("Up: error %v, want versions %d and %d", err, Latest()+1, Latest())
	}
	if _, err := Down(t.Context(), db, 0, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("Down: error %v, want ErrNewer", err)
	}
	db.Close()
	if diff := cmp.Diff(before, fileSum(t, path)); diff != "" {
		t.Errorf("the file changed (-want +got):\n%s", diff)
	}
}

func TestReadOnlyStoreIsReadAndNotMigrated(t *testing.T) {
	path, db := newStore(t)
	db.Close()
	db = open(t, path, "mode=ro")
	if version, err := Current(t.Context(), db); err != nil || version != Latest() {
		t.Errorf("version %d, error %v", version, err)
	}
	if err := CheckSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
	if _, err := Up(t.Context(), db, Options{}); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	if _, err := Down(t.Context(), db, 0, Options{NoBackup: true}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Down: error %v, want ErrReadOnly", err)
	}
	db.Close()
	db = open(t, path, "_pragma=query_only(1)")
	if _, err := Down(t.Context(), db, 0, Options{NoBackup: true}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("Down with query_only: error %v, want ErrReadOnly", err)
	}
}

func TestVersionsOutOfReachAreRefused(t *testing.T) {
	_, db := newStore(t)
	for what, f := range map[string]func() error{
		"UpTo 0":       func() error { _, err := UpTo(t.Context(), db, 0, Options{}); return err },
		"UpTo beyond":  func() error { _, err := UpTo(t.Context(), db, Latest()+1, Options{}); return err },
		"Down beyond":  func() error { _, err := Down(t.Context(), db, Latest()+1, Options{}); return err },
		"Down to -1":   func() error { _, err := Down(t.Context(), db, -1, Options{}); return err },
		"UpTo negativ": func() error { _, err := UpTo(t.Context(), db, -1, Options{}); return err },
	} {
		if err := f(); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: error %v, want ErrVersion", what, err)
		}
	}
}
