package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// session runs commands on a store of its own.
type session struct {
	t     *testing.T
	flags []string
}

func newSession(t *testing.T) *session {
	t.Helper()
	for _, name := range []string{"RESEAL_DB", "RESEAL_KEY_FILE", "RESEAL_PASSPHRASE_FILE", "RESEAL_PASSPHRASE", "CREDENTIALS_DIRECTORY"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	s := &session{t: t, flags: []string{"--db", filepath.Join(dir, "reseal.db"), "--key-file", filepath.Join(dir, "reseal.key")}}
	s.ok("", "init")
	return s
}

func (s *session) run(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(context.Background(), append(args, s.flags...), strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func (s *session) ok(stdin string, args ...string) string {
	s.t.Helper()
	code, out, errs := s.run(stdin, args...)
	if code != 0 {
		s.t.Fatalf("%v: exit code %d\n%s", args, code, errs)
	}
	return out
}

// unusedSlot is the id of a slot that does not unseal the store.
func (s *session) unusedSlot() string {
	s.t.Helper()
	var slots []jsonSlot
	if err := json.Unmarshal([]byte(s.ok("", "unseal", "list", "--json")), &slots); err != nil {
		s.t.Fatal(err)
	}
	return slots[slices.IndexFunc(slots, func(l jsonSlot) bool { return !l.Unsealed })].ID
}

// fields returns the paths of all members of a JSON value: "a.b", and "a[].b"
// in an array.
func fields(t *testing.T, text string) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if n := strings.Count(strings.TrimSuffix(text, "\n"), "\n"); n > 0 {
		t.Errorf("JSON on %d lines", n+1)
	}
	found := map[string]bool{}
	collect(v, "", found)
	return slices.Sorted(maps.Keys(found))
}

func collect(v any, path string, found map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, m := range v {
			at := strings.TrimPrefix(path+"."+k, ".")
			found[at] = true
			collect(m, at, found)
		}
	case []any:
		for _, m := range v {
			collect(m, path+"[]", found)
		}
	}
}

// TestJSONFields checks the members that docs/cli.md lists: more may be there,
// none of them may go or be renamed.
func TestJSONFields(t *testing.T) {
	s := newSession(t)
	for _, k := range []string{"mk-1", "mk-2"} {
		s.ok("", "key", "create", k)
	}
	s.ok("v", "put", "app/a", "--key", "mk-1")
	s.ok("v", "put", "app/b")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"put", "app/a"}, []string{"name", "version", "key", "key_version", "created", "replayed"}},
		{[]string{"get", "app/a"}, []string{"name", "version", "created_at", "value"}},
		{[]string{"show", "app/a"}, []string{"name", "configured_key", "drift", "behind", "deleted_at", "purge_at", "authenticated", "versions",
			"versions[].version", "versions[].labels", "versions[].effective_key", "versions[].effective_key_version", "versions[].behind", "versions[].created_at"}},
		{[]string{"migrate", "up", "--show-sql"}, []string{"from", "to", "dry_run", "ran"}},
		{[]string{"migrate", "get"}, []string{"[].version", "[].name", "[].sha256", "[].sql"}},
		{[]string{"migrate", "validate"}, []string{"ok", "version", "latest", "missing", "altered", "foreign", "recorded"}},
		{[]string{"list"}, []string{"[].name", "[].configured_key", "[].drift", "[].behind", "[].deleted_at", "[].current_version", "[].effective_keys", "[].authenticated"}},
		{[]string{"key", "list"}, []string{"[].name", "[].state", "[].primary_version", "[].default", "[].dependents", "[].dependents.secrets",
			"[].dependents.versions", "[].dependents.deleted_secrets", "[].authenticated"}},
		{[]string{"key", "show", "mk-1"}, []string{"name", "state", "primary_version", "dependents.secrets", "dependents.versions", "dependents.deleted_secrets",
			"versions[].version", "versions[].state", "versions[].data_keys", "deletion_at", "authenticated"}},
		{[]string{"rotate", "plan", "--from", "mk-1", "--to", "mk-2"}, []string{"mode", "from", "to", "to_version", "secrets", "deleted_secrets", "versions", "labelled",
			"pending", "unlabelled", "of_deleted", "replaced", "value_bytes", "seconds", "rate", "batches", "log_bytes", "log_bytes_most", "disk_needed", "disk_free",
			"checked_all", "checked", "failing", "failures", "warnings"}},
		{[]string{"rotate", "run", "--from", "mk-1", "--to", "mk-2"}, []string{"job", "mode", "from", "to", "total", "done", "remaining", "state", "verified"}},
		{[]string{"rotate", "status"}, []string{"job", "mode", "from", "to", "total", "done", "remaining", "state", "verified", "jobs[].job"}},
		{[]string{"rotate", "verify", "--from", "mk-1", "--to", "mk-2"}, []string{"ok", "remaining", "checked", "failures"}},
		{[]string{"verify", "--deep"}, []string{"ok", "versions_checked", "drift", "behind", "failures"}},
		{[]string{"explain", "app/a"}, []string{"secret", "version", "labels", "configured_key", "effective_key", "effective_key_version", "key_state",
			"steps[].what", "steps[].ok", "steps[].detail", "broken"}},
		{[]string{"doctor"}, []string{"ok", "findings", "notes", "schema", "versions.sqlite"}},
		{[]string{"sweep"}, []string{"dry_run", "purged", "destroyed_keys", "skipped"}},
		{[]string{"unseal", "list"}, []string{"[].id", "[].kind", "[].label", "[].created_at"}},
		{[]string{"anchor"}, []string{"store_id", "generation", "digest", "audit_count", "audit_head"}},
		{[]string{"audit", "list"}, []string{"[].seq", "[].time", "[].actor", "[].action", "[].detail", "[].authenticated"}},
		{[]string{"audit", "verify"}, []string{"ok", "events"}},
		{[]string{"migrate", "status"}, []string{"version", "latest", "applied[].version", "pending", "authenticated"}},
		{[]string{"backup", filepath.Join(t.TempDir(), "copy.db")}, []string{"path", "created_at", "bytes", "keys[].key", "keys[].version"}},
		{[]string{"version"}, []string{"version", "go", "sqlite", "schema", "format"}},
		{[]string{"random"}, []string{"value"}},
		{[]string{"delete", "app/b"}, []string{"name", "purge_at", "warnings"}},
		{[]string{"restore", "app/b"}, []string{"name", "restored", "warnings"}},
		{[]string{"label", "app/a", "x", "--version", "1"}, []string{"name", "label", "version", "removed"}},
		{[]string{"tag", "app/a", "k=v"}, []string{"name", "tags.k"}},
		{[]string{"set-key", "app/b", "mk-1"}, []string{"name", "from", "to", "key_version", "versions", "rewrapped"}},
		{[]string{"prune", "app/a", "--keep", "0"}, []string{"versions"}},
		{[]string{"purge", "app/b", "--now", "--yes", "app/b"}, []string{"name", "versions", "residue"}},
		{[]string{"key", "create", "mk-3"}, []string{"name", "state", "version"}},
		{[]string{"key", "rotate", "mk-3"}, []string{"name", "version"}},
		{[]string{"key", "disable", "mk-3"}, []string{"name", "state", "dependents.secrets"}},
		{[]string{"key", "enable", "mk-3"}, []string{"name", "state"}},
		{[]string{"key", "destroy-version", "mk-3", "1"}, []string{"name", "version", "state", "backups", "residue.method"}},
		{[]string{"key", "delete", "mk-3"}, []string{"name", "state", "deletion_at", "backups"}},
		{[]string{"key", "cancel-deletion", "mk-3"}, []string{"name", "state"}},
		{[]string{"key", "set-default", "mk-2"}, []string{"name"}},
		{[]string{"rotate", "value", "app/a", "--hook", "echo new"}, []string{"name", "version", "old_version", "token"}},
		{[]string{"unseal", "add", "--new-key-file", filepath.Join(t.TempDir(), "new.key")}, []string{"id", "kind", "label", "kdf", "created_at", "unsealed"}},
		{[]string{"unseal", "rotate-root", "--drop-slot"}, []string{"kept[].id", "dropped[].id", "master_key_versions", "resumed", "truncated"}},
		{[]string{"export", "--format", "json", "-o", filepath.Join(t.TempDir(), "out.json")}, []string{"output", "secrets"}},
		{[]string{"migrate", "lint"}, nil},
	} {
		if c.args[0] == "unseal" && c.args[1] == "rotate-root" {
			c.args = append(c.args, s.unusedSlot())
		}
		got := fields(t, s.ok("v", append(c.args, "--json")...))
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%v: no %q in %v", c.args, want, got)
			}
		}
	}
}

func TestJSONErrorFields(t *testing.T) {
	s := newSession(t)
	s.ok("", "key", "create", "mk-1")
	s.ok("v", "put", "a", "--key", "mk-1")
	code, out, errs := s.run("", "key", "delete", "mk-1", "--json")
	if code != 7 || out != "" {
		t.Errorf("exit code %d with output %q", code, out)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(errs), &got); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"error", "remedy", "dependents"} {
		if got[k] == nil {
			t.Errorf("no %q in %s", k, errs)
		}
		delete(got, k)
	}
	want := map[string]any{"code": "dependents", "key": "mk-1", "key_state": "enabled"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

// TestRemedyNamesTheStore takes the remedy of an error as it is printed.
func TestRemedyNamesTheStore(t *testing.T) {
	s := newSession(t)
	s.ok("", "key", "create", "mk-1")
	s.ok("v", "put", "a", "--key", "mk-1")
	s.ok("", "key", "disable", "mk-1")
	_, _, errs := s.run("", "get", "a", "--json")
	var e report
	if err := json.Unmarshal([]byte(errs), &e); err != nil {
		t.Fatal(err)
	}
	args := strings.Fields(e.Remedy)[1:]
	if code := run(context.Background(), args, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}); code != 0 {
		t.Fatalf("%q: exit code %d", e.Remedy, code)
	}
	if got := s.ok("", "get", "a"); got != "v" {
		t.Errorf("get = %q, want %q", got, "v")
	}
}
