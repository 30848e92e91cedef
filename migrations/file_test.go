package migrations

import (
	"path/filepath"
	"testing"
)

// TestLookingLeavesTheFilesAsTheyAre looks at stores in WAL mode: one that was
// closed, and one whose process died and left a log.
func TestLookingLeavesTheFilesAsTheyAre(t *testing.T) {
	closed, db := newFilledStore(t, "_pragma=journal_mode(WAL)")
	mustExec(t, db, `INSERT INTO reseal_tags VALUES (1, 'only in the log', '')`)
	killed := filepath.Join(t.TempDir(), "killed.db")
	for _, suffix := range []string{"", "-wal"} {
		write(t, killed+suffix, read(t, closed+suffix))
	}
	db.Close()
	link := filepath.Join(t.TempDir(), "link.db")
	symlink(t, killed, link)

	for _, path := range []string{closed, killed, link} {
		before, log := read(t, killed), read(t, killed+"-wal")
		db, err := OpenFile(path, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := Validate(t.Context(), db); err != nil {
			t.Error(err)
		}
		if n := queryInt(t, db, `SELECT count(*) FROM reseal_tags`); n != 1 {
			t.Errorf("%s: %d rows, want 1", path, n)
		}
		if _, err := db.Exec(`DELETE FROM reseal_tags`); err == nil {
			t.Errorf("%s: a statement that writes was taken", path)
		}
		db.Close()
		if read(t, killed) != before || read(t, killed+"-wal") != log {
			t.Errorf("%s: the file or its log was changed", path)
		}
	}
	if names, _ := filepath.Glob(closed + "?*"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}
