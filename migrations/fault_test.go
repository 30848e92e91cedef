package migrations

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sqlite3 "modernc.org/sqlite/lib"
)

// TestFullDiskLeavesTheFileAsItWas gives the file ever more pages, from none
// to enough: until they are enough, nothing of the schema may be there.
func TestFullDiskLeavesTheFileAsItWas(t *testing.T) {
	full := 0
	for pages := 1; ; pages++ {
		path, db := newFile(t)
		db.SetMaxOpenConns(1)
		mustExec(t, db, `CREATE TABLE users (name TEXT)`)
		mustExec(t, db, fmt.Sprintf(`PRAGMA max_page_count = %d`, pages))
		_, err := Up(t.Context(), db, Options{Create: true})
		if err == nil {
			if err := CheckSchema(t.Context(), db); err != nil {
				t.Error(err)
			}
			break
		}
		full++
		if code(err) != sqlite3.SQLITE_FULL {
			t.Errorf("%d pages: error %v, want SQLITE_FULL", pages, err)
		}
		if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema`); n != 1 {
			t.Errorf("%d pages: %d objects are left, want 1", pages, n)
		}
		if names, _ := filepath.Glob(path + "?*"); len(names) > 0 {
			t.Errorf("%d pages: left behind: %v", pages, names)
		}
	}
	if full < 10 {
		t.Errorf("the disk was full %d times: the limit does not work", full)
	}
}

func TestLockLeftByAKilledProcessIsTaken(t *testing.T) {
	path, db := newFile(t)
	write(t, path+lockSuffix, "")
	if _, err := Up(t.Context(), db, Options{Create: true, Wait: time.Second}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path + lockSuffix); !os.IsNotExist(err) {
		t.Errorf("lock file: %v, want none", err)
	}
}

// TestUpgradesAtOnceMakeOneBackup has connections with the driver's defaults.
func TestUpgradesAtOnceMakeOneBackup(t *testing.T) {
	path, db := newFilledStore(t)
	db.Close()
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	var wg sync.WaitGroup
	for range 6 {
		own := open(t, path)
		wg.Go(func() {
			if _, err := h.move(t.Context(), own, course{to: h.latest(), up: true}, Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if names, _ := filepath.Glob(path + "?*"); len(names) != 1 {
		t.Errorf("files beside the store: %v, want one backup", names)
	}
}

// TestStoreProfileIsMigratedAndKept uses every setting that a store's own
// connection has.
func TestStoreProfileIsMigratedAndKept(t *testing.T) {
	path, db := newFilledStore(t, "_txlock=immediate", "_pragma=busy_timeout(10000)", "_pragma=synchronous(EXTRA)", "_pragma=journal_mode(WAL)",
		"_pragma=foreign_keys(1)", "_pragma=secure_delete(1)", "_pragma=trusted_schema(0)", "_pragma=cell_size_check(1)",
		"_pragma=temp_store(memory)", "_pragma=mmap_size(0)", "_defensive=1", "_dqs=0")
	had := settings(t, db)
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	r, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.move(t.Context(), db, course{to: 0}, Options{DestroyRows: fixtureRows, NoBackup: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(had, settings(t, db)); diff != "" {
		t.Errorf("connection settings (-want +got):\n%s", diff)
	}
	db.Close()
	if _, err := Restore(t.Context(), path, r.Backup); err != nil {
		t.Fatal(err)
	}
	if n := queryInt(t, open(t, path), `SELECT count(*) FROM reseal_data_keys`); n != 3 {
		t.Errorf("%d data keys after the restore, want 3", n)
	}
}

// TestBackupOfAKilledProcessIsRemoved has its incomplete copy, and files of
// others whose names are near.
func TestBackupOfAKilledProcessIsRemoved(t *testing.T) {
	path, db := newFilledStore(t)
	left := path + ".schema-1-20200101T000000Z.backup" + partial
	near := []string{path + ".schema-1-20200101T000000Z.backup", path + ".backup" + partial, path + "2.schema-1-20200101T000000Z.backup" + partial}
	for _, name := range append(near, left) {
		write(t, name, "half")
	}
	if _, err := Down(t.Context(), db, 0, Options{DestroyRows: fixtureRows}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(left); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", left, err)
	}
	for _, name := range near {
		if read(t, name) != "half" {
			t.Errorf("%s was touched", name)
		}
	}
}
