package migrations

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/pressly/goose/v3"
)

func script(t *testing.T, version int64, form Form) string {
	t.Helper()
	text, err := Script(version, form)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestScriptsLeadWhereUpAndDownLead has somebody run the plain SQL, as
// golang-migrate, atlas and the sqlite3 shell do: each step validates, and is
// what Up and Down would have made.
func TestScriptsLeadWhereUpAndDownLead(t *testing.T) {
	_, db := newFile(t)
	db.SetMaxOpenConns(1)
	for v := int64(1); v <= Latest(); v++ {
		mustExec(t, db, "BEGIN;"+script(t, v, UpScript)+"COMMIT")
		if err := Validate(t.Context(), db); err != nil {
			t.Fatalf("after the script of version %d: %v", v, err)
		}
		if got, err := Current(t.Context(), db); got != v || err != nil {
			t.Fatalf("version %d, %v; want %d", got, err, v)
		}
	}
	if r, err := Up(t.Context(), db, Options{}); err != nil || r.From != r.To {
		t.Errorf("Up after the scripts: %+v, %v", r, err)
	}
	for v := Latest(); v >= 1; v-- {
		mustExec(t, db, "BEGIN;"+script(t, v, DownScript)+"COMMIT")
		if got, err := Current(t.Context(), db); got != v-1 || err != nil {
			t.Fatalf("version %d, %v; want %d", got, err, v-1)
		}
	}
	if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema WHERE name LIKE 'reseal%'`); n != 0 {
		t.Errorf("%d reseal objects are left", n)
	}
}

// TestScriptsAndUpTakeTurns goes one version by script, the rest by Up, and
// back the same way.
func TestScriptsAndUpTakeTurns(t *testing.T) {
	_, db := newFile(t)
	db.SetMaxOpenConns(1)
	mustExec(t, db, script(t, 1, UpScript))
	if _, err := Up(t.Context(), db, Options{}); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, script(t, Latest(), DownScript))
	if _, err := Down(t.Context(), db, 0, Options{NoBackup: true}); err != nil {
		t.Fatal(err)
	}
}

// TestHostsGooseRunsTheScripts keeps account in the host's own table too.
func TestHostsGooseRunsTheScripts(t *testing.T) {
	_, db := newFile(t)
	db.SetMaxOpenConns(1)
	fsys := fstest.MapFS{}
	for v := int64(1); v <= Latest(); v++ {
		fsys[fmt.Sprintf("%05d_reseal.sql", v)] = &fstest.MapFile{Data: []byte(script(t, v, GooseScript))}
	}
	host, err := goose.NewProvider(goose.DialectSQLite3, db, fsys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := Validate(t.Context(), db); err != nil {
		t.Error(err)
	}
	if _, err := Up(t.Context(), db, Options{}); err != nil {
		t.Error(err)
	}
	if _, err := host.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema WHERE name LIKE 'reseal%'`); n != 0 {
		t.Errorf("%d reseal objects are left", n)
	}
}

func TestScriptRefusesVersionsThatThereAreNot(t *testing.T) {
	for _, v := range []int64{-1, 0, Latest() + 1} {
		if _, err := Script(v, UpScript); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: error %v, want ErrVersion", v, err)
		}
	}
}

// TestValidateNamesTablesThatNobodyRecorded runs the files as they are, without
// the statements that record them; RecordScript mends that.
func TestValidateNamesTablesThatNobodyRecorded(t *testing.T) {
	_, db := newFile(t)
	db.SetMaxOpenConns(1)
	for v := int64(1); v <= Latest(); v++ {
		text, _, _ := strings.Cut(script(t, v, UpScript), "CREATE TABLE "+Table)
		text, _, _ = strings.Cut(text, "INSERT INTO "+Table)
		mustExec(t, db, text)
		err := Validate(t.Context(), db)
		var altered *AlteredError
		if !errors.As(err, &altered) || altered.Version != v || !strings.Contains(err.Error(), fmt.Sprintf("those of version %d", v)) {
			t.Errorf("after the statements of version %d: %v", v, err)
		}
	}
	mustExec(t, db, `DROP TRIGGER reseal_state_delete`)
	var altered *AlteredError
	if err := Validate(t.Context(), db); !errors.As(err, &altered) || altered.Version != 0 {
		t.Errorf("tables of no version: %v", err)
	}
	_, db = newFile(t)
	db.SetMaxOpenConns(1)
	if err := Validate(t.Context(), db); !errors.Is(err, ErrNotAStore) {
		t.Errorf("an empty file: %v, want ErrNotAStore", err)
	}
}

func TestRecordScriptMendsWhatWasNotRecorded(t *testing.T) {
	_, db := newStore(t)
	mustExec(t, db, `DROP TABLE `+Table)
	if err := Validate(t.Context(), db); !errors.Is(err, ErrAltered) {
		t.Fatalf("without the table: %v, want ErrAltered", err)
	}
	for v := int64(1); v <= Latest(); v++ {
		mustExec(t, db, script(t, v, RecordScript))
	}
	if err := Validate(t.Context(), db); err != nil {
		t.Error(err)
	}
}

// TestRecordsOutOfOrderAreRefused edits the table of versions in every way that
// leaves the newest version readable.
func TestRecordsOutOfOrderAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		want   []string
	}{
		"a gap":     {`DELETE FROM ` + Table + ` WHERE version_id = 1`, []string{"version 2 where 1 comes next"}},
		"twice":     {`INSERT INTO ` + Table + ` (version_id, is_applied) VALUES (1, 1)`, []string{"version 1 where 3 comes next"}},
		"undone":    {`UPDATE ` + Table + ` SET is_applied = 0 WHERE version_id = 1`, []string{"version 1 as not applied", "version 2 where 1 comes next"}},
		"backwards": {`UPDATE ` + Table + ` SET id = 100 WHERE version_id = 1`, []string{"version 2 where 1 comes next", "version 1 where 3 comes next"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, db := newFile(t)
			db.SetMaxOpenConns(1)
			if _, err := UpTo(t.Context(), db, 2, Options{Create: true}); err != nil {
				t.Fatal(err)
			}
			mustExec(t, db, c.change)
			for what, f := range map[string]func() error{
				"Validate":    func() error { return Validate(t.Context(), db) },
				"CheckSchema": func() error { return CheckSchema(t.Context(), db) },
				"Down":        func() error { _, err := Down(t.Context(), db, 1, Options{NoBackup: true}); return err },
			} {
				var altered *AlteredError
				if err := f(); !errors.As(err, &altered) {
					t.Errorf("%s: error %v, want an *AlteredError", what, err)
				} else if diff := cmp.Diff(c.want, altered.Recorded); diff != "" {
					t.Errorf("%s (-want +got):\n%s", what, diff)
				}
			}
		})
	}
}

// TestEditedMigrationIsRefused has a build whose file is not the released one.
func TestEditedMigrationIsRefused(t *testing.T) {
	path, db := newStore(t)
	db.Close()
	before := fileSum(t, path)
	edited := *builtin
	edited.files = map[int64]string{1: builtin.files[2]}
	db = open(t, path)
	if err := edited.validate(t.Context(), db); !errors.Is(err, ErrEdited) {
		t.Errorf("Validate: error %v, want ErrEdited", err)
	}
	_, err := edited.move(t.Context(), db, course{to: Latest(), up: true}, Options{})
	if !errors.Is(err, ErrEdited) || !strings.Contains(err.Error(), builtin.migrations[0].Name) {
		t.Errorf("Up: error %v, want ErrEdited and the file's name", err)
	}
	db.Close()
	if diff := cmp.Diff(before, fileSum(t, path)); diff != "" {
		t.Errorf("the file changed (-want +got):\n%s", diff)
	}
}
