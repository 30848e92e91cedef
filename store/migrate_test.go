package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// sums hashes a file that nobody has open, and everything beside it.
func sums(t *testing.T, path string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	storetest.OK(t, err)
	all := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		storetest.OK(t, err)
		all[filepath.Base(name)] = fmt.Sprintf("%x", sha256.Sum256(text))
	}
	return all
}

// sqlOn runs statements on a file as another program does.
func sqlOn(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	storetest.OK(t, err)
	for _, s := range statements {
		storetest.OK(t, storetest.Err(db.Exec(s)))
	}
	storetest.OK(t, db.Close())
}

// doors are the ways to open a store's file: as its own, and as a host's.
var doors = map[string]func(t *testing.T, path string, o *store.Options) error{
	"Open": func(t *testing.T, path string, o *store.Options) error {
		s, err := store.Open(t.Context(), path, resealtest.Credential(), o)
		if err == nil {
			err = s.Close()
		}
		return err
	},
	"OpenSealed": func(t *testing.T, path string, o *store.Options) error {
		s, err := store.OpenSealed(t.Context(), path, o)
		if err == nil {
			err = s.Close()
		}
		return err
	},
	"New": func(t *testing.T, path string, o *store.Options) error {
		db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)")
		storetest.OK(t, err)
		defer db.Close()
		s, err := store.New(t.Context(), db, resealtest.Credential(), o)
		if err == nil {
			err = s.Close()
		}
		return err
	},
}

func TestOpeningMigratesAndTellsOfIt(t *testing.T) {
	for door, open := range doors {
		t.Run(door, func(t *testing.T) {
			path := copyReleased(t, 1)
			var told []migrations.Result
			var log bytes.Buffer
			o := &store.Options{
				Migrated: func(r migrations.Result) { told = append(told, r) },
				Logger:   slog.New(slog.NewTextHandler(&log, nil)),
			}
			storetest.OK(t, open(t, path, o))
			storetest.OK(t, open(t, path, o)) // nothing to do
			if len(told) != 1 || told[0].From != 1 || told[0].To != migrations.Latest() {
				t.Fatalf("told %+v", told)
			}
			if !strings.Contains(log.String(), told[0].Backup) || told[0].Backup == "" {
				t.Errorf("the log does not name the backup %q:\n%s", told[0].Backup, &log)
			}
			for _, secret := range []string{"correct horse", "value 1 of"} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log has %q", secret)
				}
			}
			old, err := migrations.OpenFile(told[0].Backup, true)
			storetest.OK(t, err)
			defer old.Close()
			if v, err := migrations.Current(t.Context(), old); v != 1 || err != nil {
				t.Errorf("the backup has version %d, %v; want 1", v, err)
			}
		})
	}
}

// TestModesThatDoNotMigrateLeaveTheFileAsItIs compares the bytes of the file
// and what is beside it.
func TestModesThatDoNotMigrateLeaveTheFileAsItIs(t *testing.T) {
	for door, open := range doors {
		for mode, want := range map[store.MigrateMode]string{
			store.MigrateRefuse: "run reseal migrate up",
			store.MigrateCheck:  "which would work",
		} {
			path := copyReleased(t, 1)
			before := sums(t, path)
			err := open(t, path, &store.Options{Migrate: mode})
			if !errors.Is(err, store.ErrSchemaBehind) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, mode %d: error %v, want ErrSchemaBehind and %q", door, mode, err, want)
			}
			storetest.Diff(t, door+": the file", before, sums(t, path))
			storetest.OK(t, open(t, path, nil))
			storetest.OK(t, open(t, path, &store.Options{Migrate: mode}))
		}
	}
}

// TestMigrateCheckSaysWhyItWouldFail has a row that the new schema refuses.
func TestMigrateCheckSaysWhyItWouldFail(t *testing.T) {
	path := copyReleased(t, 1)
	sqlOn(t, path, `INSERT INTO reseal_labels (secret, label, secret_version) VALUES (99999, 'x', 99999)`) // foreign keys are off
	before := sums(t, path)
	_, err := store.Open(t.Context(), path, resealtest.Credential(), &store.Options{Migrate: store.MigrateCheck})
	if !errors.Is(err, store.ErrSchemaBehind) || !strings.Contains(err.Error(), "would fail") || !strings.Contains(err.Error(), "reseal_labels") {
		t.Errorf("error %v, want ErrSchemaBehind with the reason", err)
	}
	storetest.Diff(t, "the file", before, sums(t, path))
	if _, err := store.Open(t.Context(), path, resealtest.Credential(), nil); err == nil || errors.Is(err, store.ErrSchemaBehind) {
		t.Errorf("opening with the migration: %v, want the reason", err)
	}
	storetest.Diff(t, "the file", before, sums(t, path))
}

// TestWrongCredentialMigratesNothing opens with one that opens no slot, and with
// none.
func TestWrongCredentialMigratesNothing(t *testing.T) {
	for what, c := range map[string]struct {
		cred store.Credential
		want error
	}{
		"wrong": {store.Passphrase([]byte("not this one")), store.ErrUnseal},
		"none":  {store.Credential{}, store.ErrInvalid},
	} {
		path := copyReleased(t, 1)
		before := sums(t, path)
		if _, err := store.Open(t.Context(), path, c.cred, nil); !errors.Is(err, c.want) {
			t.Errorf("%s, Open: error %v, want %v", what, err, c.want)
		}
		db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)")
		storetest.OK(t, err)
		if _, err := store.New(t.Context(), db, c.cred, nil); !errors.Is(err, c.want) {
			t.Errorf("%s, New: error %v, want %v", what, err, c.want)
		}
		storetest.OK(t, db.Close())
		storetest.Diff(t, what+": the file", before, sums(t, path))
	}
}

func TestUnknownMigrateModeIsRefused(t *testing.T) {
	if _, err := store.Open(t.Context(), copyReleased(t, 1), resealtest.Credential(), &store.Options{Migrate: 9}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("error %v, want ErrInvalid", err)
	}
}

// TestWhatCannotBeOpenedIsNotChanged has each file that an upgrade can meet and
// must not touch. A full disk and a read-only folder are in the scripts of
// cmd/reseal.
func TestWhatCannotBeOpenedIsNotChanged(t *testing.T) {
	for name, c := range map[string]struct {
		change []string // to a store of schema 1
		want   error
	}{
		"newer":             {[]string{`INSERT INTO reseal_schema_version (version_id, is_applied) VALUES (99, 1)`}, store.ErrSchemaNewer},
		"edited migration":  {[]string{`ALTER TABLE reseal_tags ADD COLUMN more TEXT`}, store.ErrSchemaAltered},
		"trigger gone":      {[]string{`DROP TRIGGER reseal_state_delete`}, store.ErrSchemaAltered},
		"out of order":      {[]string{`INSERT INTO reseal_schema_version (version_id, is_applied) VALUES (1, 1)`}, store.ErrSchemaAltered},
		"somebody's":        {[]string{`DROP TABLE reseal_schema_version`, `DROP TABLE reseal_backup_keys`, `CREATE TABLE users (name TEXT)`}, store.ErrNotAStore},
		"somebody's tables": {[]string{`DROP TABLE reseal_schema_version`}, store.ErrNotAStore},
		"foreign trigger":   {[]string{`CREATE TRIGGER spy AFTER INSERT ON reseal_secrets BEGIN SELECT 1; END`}, store.ErrSchemaAltered},
		"rollback journal":  {[]string{`PRAGMA journal_mode = DELETE`, `DROP TRIGGER reseal_state_delete`}, store.ErrSchemaAltered},
	} {
		for door, open := range doors {
			for _, mode := range []store.MigrateMode{store.MigrateUp, store.MigrateRefuse, store.MigrateCheck} {
				path := copyReleased(t, 1)
				sqlOn(t, path, c.change...)
				before := sums(t, path)
				if err := open(t, path, &store.Options{Migrate: mode}); !errors.Is(err, c.want) {
					t.Errorf("%s, %s, mode %d: error %v, want %v", name, door, mode, err, c.want)
				}
				storetest.Diff(t, name+", "+door+": the file", before, sums(t, path))
			}
		}
	}
}

// TestWhatCannotBeOpenedKeepsItsLog has stores of processes that died with a
// log: the last connection to close would play it into the file.
func TestWhatCannotBeOpenedKeepsItsLog(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		want   error
	}{
		"newer":        {`INSERT INTO reseal_schema_version (version_id, is_applied) VALUES (99, 1)`, store.ErrSchemaNewer},
		"trigger gone": {`DROP TRIGGER reseal_state_delete`, store.ErrSchemaAltered},
		"somebody's":   {`DROP TABLE reseal_schema_version`, store.ErrNotAStore},
	} {
		for _, door := range []string{"Open", "OpenSealed"} {
			path := withLog(t, copyReleased(t, 1), c.change)
			before := sums(t, path)
			if err := doors[door](t, path, nil); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: error %v, want %v", name, door, err, c.want)
			}
			after := sums(t, path)
			delete(after, filepath.Base(path)+"-shm") // SQLite's index of the log
			storetest.Diff(t, name+", "+door+": the file and its log", before, after)
		}
	}
}

// withLog makes a copy of the store whose last change is in its log only.
func withLog(t *testing.T, path, change string) (copied string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	storetest.OK(t, err)
	defer db.Close()
	storetest.OK(t, storetest.Err(db.Exec(change)))
	copied = filepath.Join(t.TempDir(), "reseal.db")
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(path + suffix)
		storetest.OK(t, err)
		storetest.OK(t, os.WriteFile(copied+suffix, text, 0o600))
	}
	return copied
}

// downAgreed goes down and agrees to lose what is lost.
func downAgreed(ctx context.Context, db *sql.DB, to int64) error {
	_, err := migrations.Down(ctx, db, to, migrations.Options{})
	var loss *migrations.DataLossError
	if errors.As(err, &loss) {
		_, err = migrations.Down(ctx, db, to, migrations.Options{DestroyRows: loss.Rows})
	}
	return err
}
