package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// outside reports whether a command line could reach other files than those of
// the folder it runs in, or other programs.
func outside(args []string) bool {
	for _, a := range args {
		if strings.HasPrefix(a, "/") || strings.HasPrefix(a, "-") && strings.Contains(a, "/") || strings.Contains(a, "..") ||
			strings.Contains(a, "hook") || strings.Contains(a, "demo") || strings.ContainsRune(a, 0) {
			return true
		}
	}
	return false
}

// fuzzStore is the files of a store with a key file, for command lines to work on.
func fuzzStore(f *testing.F) (db, key []byte) {
	f.Helper()
	dir := f.TempDir()
	f.Setenv("RESEAL_KEY_FILE", "")
	for _, args := range [][]string{
		{"init", "--key-file", dir + "/k", "--db", dir + "/d"},
		{"put", "app/db", "--db", dir + "/d", "--key-file", dir + "/k", "--tag", "team=red"},
		{"key", "create", "mk-1", "--db", dir + "/d", "--key-file", dir + "/k"},
		{"put", "app/mail", "--key", "mk-1", "--db", dir + "/d", "--key-file", dir + "/k"},
	} {
		var errs bytes.Buffer
		if code := run(context.Background(), args, strings.NewReader("hunter2"), new(bytes.Buffer), &errs); code != 0 {
			f.Fatalf("%v: %s", args, &errs)
		}
	}
	db, err := os.ReadFile(dir + "/d")
	if err != nil {
		f.Fatal(err)
	}
	key, err = os.ReadFile(dir + "/k")
	if err != nil {
		f.Fatal(err)
	}
	return db, key
}

// FuzzCommandLine: whatever the arguments, a line each, the command ends with a
// documented exit code. A failure is told on stderr, as JSON if that was asked
// for; a success is not; and the store is whole afterwards.
func FuzzCommandLine(f *testing.F) {
	for _, line := range []string{
		"get app/db", "get app/db --version 1 --json", "put app/db --label blue --token t", "list app --tag team=red", "show app/mail --json", "set-key app/mail default",
		"label app/db blue --version 1", "label app/db blue --remove", "delete app/db --window 7d", "restore app/db", "purge app/db --now --yes app/db", "prune --all --keep 1",
		"discard app/db --version 1", "tag app/db a=b team=", "sweep --dry-run", "import x --format json", "export --format dotenv --prefix app", "explain app/db", "random --length 8",
		"key show mk-1", "key rotate mk-1", "key disable mk-1", "key delete mk-1 --window 30d", "key destroy-version mk-1 1", "key set-default mk-1", "rotate plan --from mk-1 --to default",
		"rotate run --key mk-1 --fast --batch 1 --json --events", "rotate status", "rotate verify --key default", "verify --deep", "doctor", "unseal list", "unseal remove 000000",
		"migrate status", "migrate down 0", "migrate get 1 --down", "anchor --json", "audit list --secret app/db", "audit export", "backup b.db", "completion bash", "version", "help", "",
		"get --", "--json", "put app/db --key", "get app/db --version -1", "get app/db --version 99999999999999999999", "random --length 0", "--db reseal.key list", "list --json=maybe",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\n"), "new value\n")
	}
	db, key := fuzzStore(f)
	documented := map[int]bool{exitOK: true, exitFailed: true, exitUsage: true, exitFound: true, exitSealed: true, exitIncomplete: true,
		exitKey: true, exitDependents: true, exitDamaged: true, exitNotFound: true, exitDeleted: true}
	f.Fuzz(func(t *testing.T, line, stdin string) {
		args := strings.Split(line, "\n")
		if len(line) > 500 || outside(args) {
			return
		}
		t.Chdir(t.TempDir())
		t.Setenv("RESEAL_KEY_FILE", "reseal.key")
		for name, data := range map[string][]byte{"reseal.db": db, "reseal.key": key} {
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var out, errs bytes.Buffer
		code := run(ctx, args, strings.NewReader(stdin), &out, &errs)
		if !documented[code] || strings.Contains(errs.String(), "internal error") {
			t.Errorf("exit code %d: %s", code, &errs)
		}
		if failed := strings.Contains(errs.String(), "reseal: error:"); code != exitOK && !failed && !json.Valid(lastJSON(errs.Bytes())) {
			t.Errorf("exit code %d and no error: %q", code, &errs)
		} else if code == exitOK && failed {
			t.Errorf("exit code 0 with %q", &errs)
		}
		if _, err := os.Lstat("reseal.db"); err != nil {
			t.Error(err)
		}
		if code := run(ctx, []string{"verify", "--deep"}, strings.NewReader(""), &out, &errs); code != exitOK && !strings.Contains(line, "migrate") && !strings.Contains(line, "unseal") {
			t.Errorf("afterwards verify says %d: %s", code, &errs)
		}
	})
}

// lastJSON returns the last line of what was printed: warnings come before it.
func lastJSON(text []byte) []byte {
	text = bytes.TrimSpace(text)
	return text[bytes.LastIndexByte(text, '\n')+1:]
}
