package store_test

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// folder is what is in a folder: names, modes and digests of contents.
func folder(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		out[path] = d.Type().String() + string(sum[:])
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOpenRefusesWhatIsNoStore(t *testing.T) {
	for _, c := range []struct {
		why  string
		make func(t *testing.T, path string)
		want error
	}{
		{"nothing there", func(*testing.T, string) {}, store.ErrNotAStore},
		{"text file", func(t *testing.T, path string) { write(t, path, "these are not the secrets you are looking for\n") }, store.ErrNotAStore},
		{"empty file", func(t *testing.T, path string) { write(t, path, "") }, store.ErrNotAStore},
		{"one byte", func(t *testing.T, path string) { write(t, path, "S") }, store.ErrNotAStore},
		{"SQLite's first bytes only", func(t *testing.T, path string) { write(t, path, "SQLite format 3\x00") }, store.ErrNotAStore},
		{"folder", func(t *testing.T, path string) { mkdir(t, path) }, store.ErrNotAStore},
		{"device", func(t *testing.T, path string) { symlink(t, os.DevNull, path) }, store.ErrNotAStore},
		{"somebody else's database", func(t *testing.T, path string) { rawSQL(t, path, `CREATE TABLE t (x)`, `INSERT INTO t VALUES (1)`) }, store.ErrNotAStore},
		{"newer schema", func(t *testing.T, path string) {
			createAt(t, path)
			rawSQL(t, path, `PRAGMA journal_mode = DELETE`, `INSERT INTO reseal_schema_version (version_id, is_applied) VALUES (99, 1)`)
		}, store.ErrSchemaNewer},
		{"altered schema", func(t *testing.T, path string) {
			createAt(t, path)
			rawSQL(t, path, `PRAGMA journal_mode = DELETE`, `DROP TRIGGER reseal_data_keys_insert`)
		}, store.ErrSchemaAltered},
	} {
		t.Run(c.why, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "reseal.db")
			c.make(t, path)
			before := folder(t, dir)
			for range 2 {
				s, err := store.Open(t.Context(), path, store.Passphrase([]byte(passphrase)), options())
				if err == nil {
					s.Close()
				}
				if !errors.Is(err, c.want) {
					t.Errorf("Open: %v, want %v", err, c.want)
				}
				if s, err = store.OpenSealed(t.Context(), path, options()); !errors.Is(err, c.want) {
					t.Errorf("OpenSealed: %v, want %v", err, c.want)
					if err == nil {
						s.Close()
					}
				}
			}
			if c.want == store.ErrSchemaAltered {
				return // ours: it may be prepared for use
			}
			if diff := cmp.Diff(before, folder(t, dir)); diff != "" {
				t.Errorf("the folder was changed (-before +after):\n%s", diff)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// createAt makes a store and closes it.
func createAt(t *testing.T, path string) {
	t.Helper()
	s, err := store.Create(t.Context(), path, store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "one", "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesWrongCredentials(t *testing.T) {
	dir := t.TempDir()
	path, ctx := filepath.Join(dir, "reseal.db"), t.Context()
	createAt(t, path)
	other, otherPath := newKeyFile(t)
	open, openPath := newKeyFile(t)
	chmod(t, openPath, 0o644)
	cut := filepath.Join(dir, "cut.key")
	text := must(os.ReadFile(otherPath))(t)
	write(t, cut, string(text[:len(text)-3]))
	t.Setenv("RESEAL_TEST_EMPTY", "")
	for _, c := range []struct {
		why  string
		cred store.Credential
		want error
	}{
		{"wrong passphrase", store.Passphrase([]byte("wrong")), store.ErrUnseal},
		{"passphrase with a line end", store.Passphrase([]byte(passphrase + "\n")), store.ErrUnseal},
		{"wrong key file", other, store.ErrUnseal},
		{"no credential", store.Credential{}, store.ErrInvalid},
		{"empty passphrase", store.Passphrase(nil), store.ErrInvalid},
	} {
		s, err := store.Open(ctx, path, c.cred, options())
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
	// A key file is looked at when a slot asks for one.
	s := openStore(t, path)
	if _, err := s.AddSlot(ctx, other, ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why  string
		cred store.Credential
		want error
	}{
		{"key file that others can read", open, store.ErrPermissions},
		{"key file that was cut", store.KeyFile(cut), store.ErrInvalid},
		{"store as key file", store.KeyFile(path), store.ErrInvalid},
		{"key file that is not there", store.KeyFile(filepath.Join(dir, "no.key")), fs.ErrNotExist},
		{"empty environment variable", store.Environment("RESEAL_TEST_EMPTY"), store.ErrInvalid},
	} {
		s, err := store.Open(ctx, path, c.cred, options())
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestCreateRefusesAndLeavesNothing(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	path := filepath.Join(dir, "reseal.db")
	for _, c := range []struct {
		why  string
		path string
		cred store.Credential
		want error
	}{
		{"no credential", path, store.Credential{}, store.ErrInvalid},
		{"folder that is not there", filepath.Join(dir, "no", "reseal.db"), store.Passphrase([]byte(passphrase)), fs.ErrNotExist},
		{"path that exists", dir, store.Passphrase([]byte(passphrase)), store.ErrExists},
	} {
		if _, err := store.Create(ctx, c.path, c.cred, options()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
	}
	if got := folder(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	createAt(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	onlyFile(t, dir, "reseal.db")
}

func TestReadOnlyFolderIsToldAsSuch(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root writes anywhere")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "reseal.db")
	createAt(t, path)
	chmod(t, dir, 0o500)
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	if _, err := store.Open(t.Context(), path, store.Passphrase([]byte(passphrase)), options()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Open: %v, want ErrReadOnly", err)
	}
	if _, err := store.Create(t.Context(), filepath.Join(dir, "other.db"), store.Passphrase([]byte(passphrase)), options()); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Create: %v, want ErrReadOnly", err)
	}
}

func TestOddPathsAreExact(t *testing.T) {
	for _, name := range []string{"a b.db", "a?mode=memory", "a%20b", "a#b", "ключ.db", "-rf", "a&b=c;d"} {
		dir := t.TempDir()
		createAt(t, filepath.Join(dir, name))
		wantValue(t, openStore(t, filepath.Join(dir, name)), "app/db", "one")
		onlyFile(t, dir, name)
	}
}
