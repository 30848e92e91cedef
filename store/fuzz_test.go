package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_+=.@-]+(/[A-Za-z0-9_+=.@-]+)*$`)

// FuzzSecretName: a name is taken if it follows the rule, as a second author
// wrote it down, and nothing else is.
func FuzzSecretName(f *testing.F) {
	for _, s := range []string{"app/db", "", "/", "a//b", "a/../b", ".", "a/.", "...", "a\x00b", "é", "a b", strings.Repeat("x", 256), strings.Repeat("x", 257), "a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		want := len(name) <= 256 && nameRule.MatchString(name) && !strings.HasSuffix(name, "\n")
		for seg := range strings.SplitSeq(name, "/") {
			want = want && seg != "." && seg != ".."
		}
		err := store.CheckName(name)
		if (err == nil) != want {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
		if err != nil && (!errors.Is(err, store.ErrInvalid) || !utf8.ValidString(err.Error())) {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	})
}

// FuzzStorePath: whatever the file is called, the store is in the file of just
// that name, and no other file is made.
func FuzzStorePath(f *testing.F) {
	for _, s := range []string{"reseal.db", "a?mode=memory", "a#b", "a%00", "%2e%2e", "a b", "file:x", ":memory:", "a&cache=shared", "é", "\xff", "a'\"`;", "-", "a\nb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || name == "." || name == ".." || len(name) > 200 || strings.ContainsAny(name, "/\x00") || filepath.Clean(name) != name {
			return
		}
		dir := memoryDir(t)
		path := filepath.Join(dir, name)
		s, err := store.Create(t.Context(), path, resealtest.Credential(), flipOptions())
		storetest.OK(t, err)
		storetest.OK(t, storetest.Err(s.Put(t.Context(), "app/db", []byte("value"), nil)))
		storetest.OK(t, s.Close())
		entries, err := os.ReadDir(dir)
		storetest.OK(t, err)
		if len(entries) != 1 || entries[0].Name() != name {
			t.Errorf("the folder has %v, want %q", entries, name)
		}
		s, err = store.Open(t.Context(), path, resealtest.Credential(), flipOptions())
		storetest.OK(t, err)
		wantValue(t, s, "app/db", "value")
		storetest.OK(t, s.Close())
	})
}

// edit alters a file as some bytes say: 4 for where, 1 for what, and so on.
func edit(file, edits []byte) []byte {
	file = slices.Clone(file)
	for ; len(edits) >= 5; edits = edits[5:] {
		file[int(binary.LittleEndian.Uint32(edits))%len(file)] ^= edits[4]
	}
	if len(edits) == 2 { // and cuts it
		file = file[:len(file)*int(edits[0])/256]
	}
	return file
}

func seedEdits(f *testing.F) {
	f.Helper()
	for _, s := range []string{"", "\x10\x00\x00\x00\xff", "\x14\x00\x00\x00\x01\x15\x00\x00\x00\x01", "\x64\x00\x00\x00\x0d", "\x00\x00\x80\x00\xff\x00\x01\x80\x00\x7f", "\x80\x00"} {
		f.Add([]byte(s))
	}
}

// FuzzMutatedStore: an altered file is refused, or gives what it gave before.
func FuzzMutatedStore(f *testing.F) {
	seedEdits(f)
	_, file, should := flipStore(f, "value")
	f.Fuzz(func(t *testing.T, edits []byte) {
		path := filepath.Join(memoryDir(t), "reseal.db")
		storetest.OK(t, os.WriteFile(path, edit(file, edits), 0o600))
		if o, detail := alteredFile(path, &should); o == wrongValue || o == silentLoss {
			t.Errorf("%v: %s", o, detail)
		}
	})
}

// FuzzRestoreBackup: an altered backup is refused and the store stays as it was
// to the byte, or the store is what the backup was, as far as it opens.
func FuzzRestoreBackup(f *testing.F) {
	seedEdits(f)
	_, backup, should := flipStore(f, "value")
	_, current, _ := flipStore(f, "other")
	f.Fuzz(func(t *testing.T, edits []byte) {
		dir := memoryDir(t)
		path, from := filepath.Join(dir, "reseal.db"), filepath.Join(dir, "backup")
		storetest.OK(t, os.WriteFile(path, current, 0o600))
		storetest.OK(t, os.WriteFile(from, edit(backup, edits), 0o600))
		if _, err := migrations.Restore(context.Background(), path, from); err != nil {
			got, rerr := os.ReadFile(path)
			storetest.OK(t, rerr)
			if !slices.Equal(got, current) {
				t.Errorf("the restore was refused, %v, and the store is another", err)
			}
			return
		}
		if o, detail := alteredFile(path, &should); o == wrongValue || o == silentLoss {
			t.Errorf("%v: %s", o, detail)
		}
	})
}
