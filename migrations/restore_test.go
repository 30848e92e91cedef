package migrations

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// newUpgraded returns a store that was upgraded and then written to, closed,
// and the backup from before.
func newUpgraded(t *testing.T, query ...string) (h *history, path, backup string) {
	t.Helper()
	path, db := newFilledStore(t, query...)
	h = extended(t, map[string]string{nextFile("note"): addColumn})
	r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `INSERT INTO reseal_tags VALUES (1, 'after', '', '')`)
	db.Close()
	return h, path, r.Backup
}

func TestRestorePutsTheBackupBackAndKeepsTheReplaced(t *testing.T) {
	for name, query := range map[string]string{"journal": "", "wal": "_pragma=journal_mode(WAL)"} {
		t.Run(name, func(t *testing.T) {
			_, path, backup := newUpgraded(t, query)
			replaced, err := Restore(t.Context(), path, backup)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(replaced, path+".replaced-") {
				t.Errorf("replaced file is %q", replaced)
			}
			db := open(t, path, query)
			if err := CheckSchema(t.Context(), db); err != nil {
				t.Error(err)
			}
			if n := queryInt(t, db, `SELECT count(*) FROM reseal_tags`); n != 0 {
				t.Errorf("%d rows from after the backup are there", n)
			}
			old := open(t, replaced, "mode=ro")
			if n := queryInt(t, old, `SELECT count(*) FROM reseal_tags WHERE note = ''`); n != 1 {
				t.Errorf("the replaced file has %d rows, want 1", n)
			}
			for _, f := range []string{path, backup, replaced} {
				if info, err := os.Stat(f); err != nil || f == path && info.Mode().Perm() != 0o600 {
					t.Errorf("%s: %v %v", f, info, err)
				}
			}
			if left, _ := filepath.Glob(path + ".restore-*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRestoreRefusesAStoreInUse(t *testing.T) {
	for name, query := range map[string]string{"idle connection, WAL": "_pragma=journal_mode(WAL)", "reader": ""} {
		t.Run(name, func(t *testing.T) {
			_, path, backup := newUpgraded(t, query)
			user := open(t, path, query)
			tx, err := user.Begin()
			if err != nil {
				t.Fatal(err)
			}
			var n int
			if err := tx.QueryRow(`SELECT count(*) FROM reseal_tags`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			if query != "" {
				tx.Rollback() // the connection stays open in the pool
			}
			if _, err := Restore(t.Context(), path, backup); !errors.Is(err, ErrInUse) {
				t.Errorf("error %v, want ErrInUse", err)
			}
			tx.Rollback()
			if n := queryInt(t, user, `SELECT count(*) FROM reseal_tags`); n != 1 {
				t.Errorf("the store has %d rows, want 1", n)
			}
			user.Close()
			if left, _ := filepath.Glob(path + ".re*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestRestoreRefusesWhatIsNoGoodBackup(t *testing.T) {
	_, path, good := newUpgraded(t)
	dir := t.TempDir()
	for name, c := range map[string]struct {
		make func(file string)
		want error
	}{
		"text":  {func(f string) { write(t, f, strings.Repeat("no database\n", 500)) }, ErrNotAStore},
		"empty": {func(f string) { write(t, f, "") }, ErrNotAStore},
		"somebody else's": {func(f string) {
			db := open(t, f)
			mustExec(t, db, `CREATE TABLE users (name TEXT)`)
			db.Close()
		}, ErrNotAStore},
		"newer":   {func(f string) { write(t, f, read(t, path)) }, ErrNewer},
		"missing": {func(string) {}, os.ErrNotExist},
		"symlink": {func(f string) {
			if err := os.Symlink(good, f); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"cut short": {func(f string) { write(t, f, read(t, good)[:20<<10]) }, nil},
		"a guard is missing": {func(f string) {
			write(t, f, read(t, good))
			db := open(t, f)
			mustExec(t, db, `DROP TRIGGER reseal_secrets_delete`)
			db.Close()
		}, ErrAltered},
		"the store itself": {func(f string) {
			if err := os.Link(path, f); err != nil {
				t.Fatal(err)
			}
		}, nil},
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		c.make(file)
		before := read(t, path)
		replaced, err := Restore(t.Context(), path, file)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
		if replaced != "" || read(t, path) != before {
			t.Errorf("%s: the store was touched", name)
		}
		if left, _ := filepath.Glob(path + ".re*"); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

// TestRestoreReplacesADamagedStore has a log beside the damaged file, which
// SQLite would play into the restored one.
func TestRestoreReplacesADamagedStore(t *testing.T) {
	_, path, backup := newUpgraded(t)
	write(t, path, strings.Repeat("damaged", 4096))
	write(t, path+"-wal", "a log")
	replaced, err := Restore(t.Context(), path, backup)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("a log", read(t, replaced+"-wal")); diff != "" {
		t.Errorf("kept log (-want +got):\n%s", diff)
	}
	if _, err := os.Lstat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old log is still beside the new file: %v", err)
	}
	if err := CheckSchema(t.Context(), open(t, path)); err != nil {
		t.Error(err)
	}
}

func TestRestoreOfAMissingStore(t *testing.T) {
	_, path, backup := newUpgraded(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	replaced, err := Restore(t.Context(), path, backup)
	if err != nil || replaced != "" {
		t.Fatalf("replaced %q, error %v", replaced, err)
	}
	if err := CheckSchema(t.Context(), open(t, path)); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
