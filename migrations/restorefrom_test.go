package migrations

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// wantBeside checks that nothing of a restore lies beside the store but what it
// replaced.
func wantBeside(t *testing.T, path string, replaced int) {
	t.Helper()
	names, _ := filepath.Glob(path + ".re*")
	for _, n := range names {
		if !strings.Contains(n, ".replaced-") {
			t.Errorf("left behind: %s", n)
		}
	}
	if len(names) != replaced {
		t.Errorf("beside the store: %v, want %d replaced files", names, replaced)
	}
}

// TestRestoreTakesWhatIsInTheBackupsLog has a backup that somebody made by
// copying the files of a store in use.
func TestRestoreTakesWhatIsInTheBackupsLog(t *testing.T) {
	path, db := newFilledStore(t, "_pragma=journal_mode(WAL)")
	mustExec(t, db, `INSERT INTO reseal_tags VALUES (1, 'only in the log', '')`)
	backup := filepath.Join(t.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		write(t, backup+suffix, read(t, path+suffix))
	}
	log := read(t, backup+"-wal")
	db.Close()
	restored := filepath.Join(t.TempDir(), "restored.db")
	if _, err := Restore(t.Context(), restored, backup); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, open(t, restored), `SELECT count(*) FROM reseal_tags`); n != 1 {
		t.Errorf("%d rows of the backup's log are there, want 1", n)
	}
	if read(t, backup+"-wal") != log {
		t.Error("the backup's log was changed")
	}
}

// TestRestoreFromAStoreInUse has a backup that is open.
func TestRestoreFromAStoreInUse(t *testing.T) {
	live, db := newFilledStore(t, "_pragma=journal_mode(WAL)")
	mustExec(t, db, `INSERT INTO reseal_tags VALUES (1, 'only in the log', '')`)
	restored := filepath.Join(t.TempDir(), "restored.db")
	if _, err := Restore(t.Context(), restored, live); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, open(t, restored), `SELECT count(*) FROM reseal_tags`); n != 1 {
		t.Errorf("%d rows of the log are there, want 1", n)
	}
	mustExec(t, db, `INSERT INTO reseal_tags VALUES (1, 'after', '')`)
}

// TestRestoreRefusesABackupToRollBack has a backup whose journal SQLite would
// have to play back into it first.
func TestRestoreRefusesABackupToRollBack(t *testing.T) {
	path, db := newFilledStore(t)
	db.Close()
	backup := filepath.Join(t.TempDir(), "copy.db")
	write(t, backup, read(t, path))
	write(t, backup+"-journal", "a journal")
	before := read(t, path)
	if _, err := Restore(t.Context(), path, backup); err == nil || !strings.Contains(err.Error(), backup) {
		t.Errorf("error %v, want one that names the backup", err)
	}
	if read(t, path) != before || read(t, backup+"-journal") != "a journal" {
		t.Error("a file was changed")
	}
	wantBeside(t, path, 0)
}

// TestRestoreOfABackupInWALMode leaves nothing that SQLite put beside the copy.
func TestRestoreOfABackupInWALMode(t *testing.T) {
	backup, db := newFilledStore(t, "_pragma=journal_mode(WAL)")
	db.Close()
	path := filepath.Join(t.TempDir(), "store.db")
	if _, err := Restore(t.Context(), path, backup); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(path + "?*"); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	if read(t, path) != read(t, backup) {
		t.Error("the restored file is not the backup")
	}
}

func TestRestoreThroughSymbolicLinks(t *testing.T) {
	backup, db := newFilledStore(t)
	db.Close()
	dir := t.TempDir()
	link := filepath.Join(dir, "link.db")
	symlink(t, "nothing.db", link)
	if _, err := Restore(t.Context(), link, backup); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link that leads nowhere: error %v", err)
	}
	write(t, filepath.Join(dir, "nothing.db"), read(t, backup))
	replaced, err := Restore(t.Context(), link, backup)
	if err != nil || !strings.HasPrefix(replaced, filepath.Join(dir, "nothing.db.replaced-")) {
		t.Errorf("replaced %q, error %v", replaced, err)
	}
	if to, err := os.Readlink(link); to != "nothing.db" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// TestRestoresAtOnceTakeTurns has all of them in the same millisecond.
func TestRestoresAtOnceTakeTurns(t *testing.T) {
	_, path, backup := newUpgraded(t)
	now := time.Now()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := builtin.restore(t.Context(), path, backup, now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantBeside(t, path, 5)
	if err := CheckSchema(t.Context(), open(t, path)); err != nil {
		t.Error(err)
	}
}

// TestRestoreTakesAwayWhatAKilledOneLeft has its copy, half made.
func TestRestoreTakesAwayWhatAKilledOneLeft(t *testing.T) {
	_, path, backup := newUpgraded(t)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		write(t, path+".restored"+partial+suffix, "half")
	}
	if _, err := Restore(t.Context(), path, backup); err != nil {
		t.Fatal(err)
	}
	wantBeside(t, path, 1)
}

func symlink(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}
