package store_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func TestBackupOpensByItself(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if err := s.CreateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "hunter2", "mk-1")
	if _, err := s.RotateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "hunter3", "")
	put(t, s, "app/mail", "postbox", "")
	path := filepath.Join(t.TempDir(), "copy of store.db")
	info, err := s.Backup(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "later", "")

	mode, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", mode.Mode())
	}
	want := store.BackupInfo{Path: path, Bytes: mode.Size(), Keys: []store.BackupKey{{Key: "default", Version: 1}, {Key: "mk-1", Version: 1}, {Key: "mk-1", Version: 2}}}
	info.CreatedAt = time.Time{}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("backup (-want +got):\n%s", diff)
	}
	copied := openStore(t, path)
	wantValue(t, copied, "app/db", "hunter3")
	if _, err := copied.VerifyAudit(ctx); err != nil {
		t.Error(err)
	}
	listed, err := s.Backups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want.Bytes = 0
	for i := range listed {
		listed[i].CreatedAt = time.Time{}
	}
	if diff := cmp.Diff([]store.BackupInfo{want}, listed); diff != "" {
		t.Errorf("backups (-want +got):\n%s", diff)
	}
	k, err := s.Key(ctx, "mk-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{path}, k.Dependents.Backups); diff != "" {
		t.Errorf("backups that need mk-1 (-want +got):\n%s", diff)
	}
	onlyFile(t, filepath.Dir(path), "copy of store.db")
}

// onlyFile fails unless dir holds that file and nothing else but what SQLite
// keeps beside it.
func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != name && e.Name() != name+"-wal" && e.Name() != name+"-shm" {
			t.Errorf("%s is left in the folder", e.Name())
		}
	}
}

func TestBackupRefusesPathThatExists(t *testing.T) {
	s, ctx, dir := newStore(t), t.Context(), t.TempDir()
	file, dangling := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("keep me"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dangling, dir, s.Path()} {
		if _, err := s.Backup(ctx, path); !errors.Is(err, store.ErrExists) {
			t.Errorf("Backup(%q) = %v, want ErrExists", path, err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "keep me" {
		t.Errorf("the file that was there holds %q, %v", got, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("the link was followed")
	}
	if l, err := s.Backups(ctx); err != nil || len(l) != 0 {
		t.Errorf("Backups = %v, %v after nothing but refusals", l, err)
	}
}

func TestBackupLeavesNothingWhenItFails(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if _, err := s.Backup(ctx, filepath.Join(t.TempDir(), "no", "such", "folder.db")); err == nil {
		t.Error("a backup into a folder that does not exist succeeded")
	}
	if _, err := s.Backup(ctx, "a\x00b"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a path with NUL: %v, want ErrInvalid", err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		if _, err := s.Backup(ctx, filepath.Join(dir, "copy.db")); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("a backup into a read-only folder: %v, want ErrReadOnly", err)
		}
	}
	onlyFile(t, dir, "")
	if l, err := s.Backups(ctx); err != nil || len(l) != 0 {
		t.Errorf("Backups = %v, %v after nothing but failures", l, err)
	}
}

func TestBackupIsOneMomentWhileOthersWrite(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for n := 0; err == nil; n++ {
			select {
			case <-stop:
				done <- err
				return
			default:
			}
			_, err = s.Put(ctx, "busy/secret", []byte("value"), nil)
		}
		done <- err
	}()
	for i := range 3 {
		path := filepath.Join(t.TempDir(), "copy.db")
		if _, err := s.Backup(ctx, path); err != nil {
			t.Fatal(i, err)
		}
		copied := openStore(t, path)
		if _, err := copied.VerifyAudit(ctx); err != nil {
			t.Error(i, err)
		}
		if _, err := copied.List(ctx, store.ListOptions{}); err != nil {
			t.Error(i, err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What changes while a copy is made is no difference; what was misread is.
func TestBackupIsComparedWithTheStore(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	large := strings.Repeat("large ", 3000)
	for _, name := range []string{"reencrypted", "moved", "purged", "stays"} {
		put(t, s, name, large, "mk-1")
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	must(s.Backup(ctx, path))(t)
	time.Sleep(2 * time.Millisecond) // a data key's date has milliseconds
	must(s.Purge(ctx, "purged", true))(t)
	put(t, s, "new", large, "")
	must(s.SetKey(ctx, "moved", "default"))(t)
	must(rotate.Run(ctx, s, rotate.Options{From: "mk-1", To: "default", Prefix: "reencrypted", Mode: rotate.Reencrypt}))(t)
	storetest.OK(t, s.CompareCopy(ctx, path))

	for _, misread := range []string{
		`UPDATE reseal_secret_versions SET sealed = CAST(substr(sealed, 1, length(sealed) - 100) || zeroblob(100) AS BLOB) WHERE secret = (SELECT id FROM reseal_secrets WHERE name = 'stays')`,
		`DROP TRIGGER reseal_audit_events_update; UPDATE reseal_audit_events SET mac = zeroblob(32) WHERE seq = 3`,
	} {
		altered := filepath.Join(t.TempDir(), "altered.db")
		storetest.OK(t, os.WriteFile(altered, must(os.ReadFile(path))(t), 0o600))
		db := must(sql.Open("sqlite", "file:"+altered))(t)
		must(db.ExecContext(ctx, misread))(t)
		storetest.OK(t, db.Close())
		if err := s.CompareCopy(ctx, altered); !errors.Is(err, store.ErrIO) {
			t.Errorf("%s: %v, want ErrIO", misread, err)
		}
	}
}
