package main

import (
	"bytes"
	"database/sql"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// does runs the application as its user does.
func does(t *testing.T, dir, in string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), dir, args, strings.NewReader(in), &out); err != nil {
		t.Fatalf("host %v: %v", args, err)
	}
	return out.String()
}

func TestAccountAndPasswordAreOneTransaction(t *testing.T) {
	dir := t.TempDir()
	does(t, dir, "", "init")
	does(t, dir, "s3cret", "add", "work", "mail.example.org")
	err := run(t.Context(), dir, []string{"add", "work", "other.example.org"}, strings.NewReader("other"), &bytes.Buffer{})
	if err == nil {
		t.Errorf("a second account of that name: %v", err)
	}
	if got := does(t, dir, "", "password", "work"); got != "s3cret" {
		t.Errorf("password %q, want s3cret", got)
	}
	if got := does(t, dir, "", "list"); got != "work mail.example.org:993\n" {
		t.Errorf("list is %q", got)
	}
}

// shared is a file in which the host and reseal of an older release have worked:
// the host's tables at version 1, reseal's at version 1.
func shared(t *testing.T) (path string) {
	t.Helper()
	text, err := os.ReadFile("../../store/testdata/released/schema-00001.db")
	ok(t, err)
	path = filepath.Join(t.TempDir(), "host.db")
	ok(t, os.WriteFile(path, text, 0o600))
	withDB(t, path, func(db *sql.DB) {
		p, err := provider(db)
		ok(t, err)
		_, err = p.UpTo(t.Context(), 1)
		ok(t, err)
		_, err = db.Exec(`INSERT INTO accounts (name, host) VALUES ('old', 'old.example.org')`)
		ok(t, err)
	})
	return path
}

func withDB(t *testing.T, path string, fn func(db *sql.DB)) {
	t.Helper()
	db, err := openDB(path)
	ok(t, err)
	fn(db)
	ok(t, db.Close())
}

// step is what somebody does to the shared file. Each can come at any time.
type step struct {
	name string
	do   func(t *testing.T, path string)
}

var steps = []step{
	{"the host's goose", func(t *testing.T, path string) {
		withDB(t, path, func(db *sql.DB) { ok(t, migrate(t.Context(), db)) })
	}},
	{"the host's goose down and up", func(t *testing.T, path string) {
		withDB(t, path, func(db *sql.DB) {
			p, err := provider(db)
			ok(t, err)
			_, err = p.DownTo(t.Context(), 1)
			ok(t, err)
			_, err = p.Up(t.Context())
			ok(t, err)
		})
	}},
	{"the application", func(t *testing.T, path string) {
		withDB(t, path, func(db *sql.DB) {
			a, err := start(t.Context(), db, resealtest.Credential())
			ok(t, err)
			ok(t, a.add(t.Context(), "new", "new.example.org", []byte("of the application")))
			ok(t, a.secrets.Close())
		})
	}},
	{"reseal migrate up", func(t *testing.T, path string) {
		db, err := migrations.OpenFile(path, false)
		ok(t, err)
		_, err = migrations.Up(t.Context(), db, migrations.Options{})
		ok(t, err)
		ok(t, db.Close())
	}},
	{"reseal put", func(t *testing.T, path string) {
		s, err := store.Open(t.Context(), path, resealtest.Credential(), nil)
		ok(t, err)
		_, err = s.Put(t.Context(), "account/old", []byte("of the command"), nil)
		ok(t, err)
		ok(t, s.Close())
	}},
	{"another SQLite tool", func(t *testing.T, path string) {
		withDB(t, path, func(db *sql.DB) {
			for _, q := range []string{`UPDATE accounts SET host = host || '.' WHERE name = 'old'`, `ANALYZE`, `VACUUM`, `CREATE INDEX IF NOT EXISTS mine ON accounts (host)`} {
				_, err := db.Exec(q)
				ok(t, err)
			}
		})
	}},
}

// All 720 orders, which docs/reliability.md tells of, are
//
//	go test ./examples/host -run InAnyOrder -every 1
var every = flag.Int("every", 7, "TestHostAndResealShareAFileInAnyOrder takes every so many orders")

func TestHostAndResealShareAFileInAnyOrder(t *testing.T) {
	n := 0
	for i, order := range orders(len(steps)) {
		if i%*every != 0 || testing.Short() && i%25 != 0 {
			continue
		}
		n++
		path := shared(t)
		var names []string
		for _, k := range order {
			names = append(names, steps[k].name)
			steps[k].do(t, path)
			wantShared(t, path)
		}
		wantAllDone(t, path)
		if t.Failed() {
			t.Fatalf("in the order %q", names)
		}
	}
	t.Logf("%d orders", n)
}

// orders returns every order of n things.
func orders(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var all [][]int
	for _, rest := range orders(n - 1) {
		for at := 0; at <= len(rest); at++ {
			order := append(append(append([]int{}, rest[:at]...), n-1), rest[at:]...)
			all = append(all, order)
		}
	}
	return all
}

// wantShared checks what holds between any two steps.
func wantShared(t *testing.T, path string) {
	t.Helper()
	withDB(t, path, func(db *sql.DB) {
		if err := migrations.Validate(t.Context(), db); err != nil {
			t.Error(err)
		}
		var host string
		if err := db.QueryRow(`SELECT host FROM accounts WHERE name = 'old'`).Scan(&host); err != nil || !strings.HasPrefix(host, "old.example.org") {
			t.Errorf("the host's row is %q, %v", host, err)
		}
		var verdict string
		if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
			t.Errorf("integrity check: %q, %v", verdict, err)
		}
	})
}

// wantAllDone checks what all steps together leave.
func wantAllDone(t *testing.T, path string) {
	t.Helper()
	withDB(t, path, func(db *sql.DB) {
		p, err := provider(db)
		ok(t, err)
		if v, err := p.GetDBVersion(t.Context()); v != 2 || err != nil {
			t.Errorf("the host's version is %d, %v; want 2", v, err)
		}
		state, err := migrations.Status(t.Context(), db)
		if err != nil || state.Version != migrations.Latest() {
			t.Errorf("reseal's version is %d, %v", state.Version, err)
		}
		s, err := store.New(t.Context(), db, resealtest.Credential(), nil)
		ok(t, err)
		defer s.Close()
		for name, want := range map[string]string{"account/new": "of the application", "account/old": "of the command", "app/03": "value 2 of app/03"} {
			v, err := s.Get(t.Context(), name)
			if err != nil || string(v.Bytes()) != want {
				t.Errorf("%s is %q, %v; want %q", name, v.Bytes(), err, want)
			}
		}
		resealtest.Check(t, s)
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM accounts`).Scan(&n); err != nil || n != 2 {
			t.Errorf("%d accounts, %v; want 2", n, err)
		}
	})
	backups, err := filepath.Glob(path + "*.backup")
	if err != nil || len(backups) != 1 {
		t.Errorf("backups %v, %v; want one", backups, err)
	}
}
