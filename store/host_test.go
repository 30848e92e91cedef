package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// The hosts: how applications open their database.
var hosts = []struct{ name, query string }{
	{"driver's defaults", ""},
	{"write-ahead log", "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)"},
	{"immediate", "_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=secure_delete(FAST)"},
}

// hostDB opens a host's database with a table of the host's.
func hostDB(t *testing.T, query string) *sql.DB {
	t.Helper()
	db := openHost(t, filepath.Join(t.TempDir(), "host.db"), query)
	if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS accounts (id INTEGER PRIMARY KEY, name TEXT NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	return db
}

func openHost(t *testing.T, path, query string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?"+query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// hosted makes a store in the database, with the keys default and mk-1 and the
// secret app/db with three versions under mk-1.
func hosted(t *testing.T, db *sql.DB) *store.Store {
	t.Helper()
	ctx := t.Context()
	s, err := store.Init(ctx, db, store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.CreateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"one", "two", "three"} {
		put(t, s, "app/db", v, "mk-1")
	}
	return s
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback() })
	return tx
}

// dump is everything in the database, as text.
func dump(t *testing.T, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}) string {
	t.Helper()
	var b strings.Builder
	names := column(t, q, `SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name`)
	for _, table := range names {
		rows, err := q.QueryContext(t.Context(), `SELECT * FROM `+table)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(any)
			}
			if err := rows.Scan(values...); err != nil {
				t.Fatal(err)
			}
			b.WriteString(table)
			for _, v := range values {
				fmt.Fprintf(&b, " %v", *v.(*any))
			}
			b.WriteString("\n")
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func column(t *testing.T, q interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, query string) []string {
	t.Helper()
	rows, err := q.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// joins is every verb that joins a caller's transaction, with arguments for a
// hosted store: the first make a change, the second are refused.
var joins = map[string]struct{ works, refused []any }{
	"PutManyTx":             {[]any{list(apps(2)...)}, []any{list(app(1), input{name: "app/db", value: []byte("value"), o: store.PutOptions{Key: "default"}})}},
	"PutTx":                 {[]any{"app/new", []byte("value"), (*store.PutOptions)(nil)}, []any{"app/db", []byte("value"), &store.PutOptions{Key: "default"}}},
	"GetTx":                 {[]any{"app/db"}, []any{"no/such"}},
	"SetKeyTx":              {[]any{"app/db", "default"}, []any{"app/db", "no-such"}},
	"SetLabelTx":            {[]any{"app/db", "blue", uint64(1)}, []any{"app/db", "blue", uint64(9)}},
	"RemoveLabelTx":         {[]any{"app/db", "previous"}, []any{"app/db", "current"}},
	"SetTagsTx":             {[]any{"app/db", map[string]string{"team": "blue"}}, []any{"no/such", map[string]string{"team": "blue"}}},
	"CreateKeyTx":           {[]any{"mk-2"}, []any{"mk-1"}},
	"RotateKeyTx":           {[]any{"mk-1"}, []any{"no-such"}},
	"DisableKeyTx":          {[]any{"mk-1"}, []any{"no-such"}},
	"EnableKeyTx":           {[]any{"spare-disabled"}, []any{"spare-pending"}},
	"ScheduleKeyDeletionTx": {[]any{"spare-disabled", time.Duration(0)}, []any{"mk-1", time.Duration(0)}},
	"CancelKeyDeletionTx":   {[]any{"spare-pending"}, []any{"mk-1"}},
	"SetDefaultKeyTx":       {[]any{"mk-1"}, []any{"spare-disabled"}},
	"DeleteTx":              {[]any{"app/db", time.Duration(0)}, []any{"no/such", time.Duration(0)}},
	"RestoreTx":             {[]any{"app/deleted"}, []any{"no/such"}},
	"PurgeTx":               {[]any{"app/deleted", true}, []any{"app/deleted", false}},
	"PruneTx":               {[]any{"app/db", 0}, []any{"no/such", 1}},
	"DiscardTx":             {[]any{"app/damaged", uint64(1)}, []any{"app/db", uint64(1)}},
}

// prepared gives the store what joins needs besides.
func prepared(t *testing.T, db *sql.DB) *store.Store {
	t.Helper()
	s, ctx := hosted(t, db), t.Context()
	for _, name := range []string{"spare-disabled", "spare-pending"} {
		if err := s.CreateKey(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	_, disable := s.DisableKey(ctx, "spare-disabled")
	_, schedule := s.ScheduleKeyDeletion(ctx, "spare-pending", 0)
	put(t, s, "app/deleted", "gone", "")
	_, remove := s.Delete(ctx, "app/deleted", 0)
	put(t, s, "app/damaged", "broken", "")
	_, damage := db.Exec(`
		UPDATE reseal_secret_versions SET sealed = zeroblob(100)
		WHERE secret = (SELECT id FROM reseal_secrets WHERE name = 'app/damaged')`)
	if err := errors.Join(disable, schedule, remove, damage); err != nil {
		t.Fatal(err)
	}
	return s
}

// callTx calls a verb by name and returns its error.
func callTx(ctx context.Context, s *store.Store, verb string, tx *sql.Tx, args []any) error {
	in := []reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(tx)}
	for _, a := range args {
		in = append(in, reflect.ValueOf(a))
	}
	out := reflect.ValueOf(s).MethodByName(verb).Call(in)
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

func TestEveryTxVerbIsTested(t *testing.T) {
	methods := reflect.TypeFor[*store.Store]()
	found := map[string]bool{}
	for i := range methods.NumMethod() {
		if name := methods.Method(i).Name; strings.HasSuffix(name, "Tx") {
			found[name] = true
			if _, ok := joins[name]; !ok {
				t.Errorf("%s has no arguments in joins", name)
			}
		}
	}
	for name := range joins {
		if !found[name] {
			t.Errorf("there is no verb %s", name)
		}
	}
}

func TestTxVerbsLeaveNoTraceWhenRolledBack(t *testing.T) {
	for _, h := range hosts {
		t.Run(h.name, func(t *testing.T) {
			db := hostDB(t, h.query)
			s, ctx := prepared(t, db), t.Context()
			before := dump(t, db)
			for verb, c := range joins {
				tx := begin(t, db)
				if err := callTx(ctx, s, verb, tx, c.works); err != nil {
					t.Errorf("%s: %v", verb, err)
				}
				if verb != "GetTx" && dump(t, tx) == before {
					t.Errorf("%s changed nothing: the test has no teeth", verb)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(before, dump(t, db)); diff != "" {
					t.Errorf("%s left a trace (-before +after):\n%s", verb, diff)
				}
			}
			for i, v := range []string{"one", "two", "three"} {
				wantValue(t, s, "app/db", v, store.Version(uint64(i+1)))
			}
		})
	}
}

func TestRefusedTxVerbLeavesTheTransactionUsable(t *testing.T) {
	for _, h := range hosts {
		t.Run(h.name, func(t *testing.T) {
			db := hostDB(t, h.query)
			s, ctx := prepared(t, db), t.Context()
			for verb, c := range joins {
				tx := begin(t, db)
				if _, err := tx.Exec(`INSERT INTO accounts (name) VALUES (?)`, verb); err != nil {
					t.Fatal(err)
				}
				before := dump(t, tx)
				if err := callTx(ctx, s, verb, tx, c.refused); err == nil {
					t.Errorf("%s%v was not refused", verb, c.refused)
				}
				if diff := cmp.Diff(before, dump(t, tx)); diff != "" {
					t.Errorf("%s was refused and changed (-before +after):\n%s", verb, diff)
				}
				if err := tx.Commit(); err != nil {
					t.Errorf("%s: the transaction does not commit: %v", verb, err)
				}
			}
			var n int
			if err := db.QueryRow(`SELECT count(*) FROM accounts`).Scan(&n); err != nil || n != len(joins) {
				t.Errorf("%d rows of the host's, %v; want %d", n, err, len(joins))
			}
		})
	}
}

// A transaction that began deferred and has read cannot write once somebody
// else has written.
func TestTxVerbsAnswerBusyAtOnce(t *testing.T) {
	for _, journal := range []string{"WAL", "DELETE"} {
		t.Run(journal, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "host.db")
			db := openHost(t, path, "_pragma=busy_timeout(60000)&_pragma=journal_mode("+journal+")")
			s := prepared(t, db)
			other := openHost(t, path, "_pragma=busy_timeout(0)&_txlock=immediate")
			for verb, c := range joins {
				if verb == "GetTx" {
					continue
				}
				tx := begin(t, db)
				var n int
				if err := tx.QueryRow(`SELECT count(*) FROM reseal_secrets`).Scan(&n); err != nil {
					t.Fatal(err)
				}
				writer := begin(t, other)
				if _, err := writer.Exec(`CREATE TABLE IF NOT EXISTS others (x)`); err != nil {
					t.Fatal(err)
				}
				if _, err := writer.Exec(`INSERT INTO others VALUES (?)`, verb); err != nil {
					t.Fatal(err)
				}
				if journal == "WAL" { // a rollback journal cannot commit while tx reads
					if err := writer.Commit(); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				err := callTx(ctx, s, verb, tx, c.works)
				cancel()
				if !errors.Is(err, store.ErrBusy) {
					t.Errorf("%s: %v, want ErrBusy", verb, err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("%s answered after %s", verb, took)
				}
				writer.Rollback()
				tx.Rollback()
			}
		})
	}
}

func TestHostRowAndSecretShareTheirFate(t *testing.T) {
	for _, h := range hosts {
		t.Run(h.name, func(t *testing.T) {
			db := hostDB(t, h.query)
			db.SetMaxOpenConns(1)
			s, ctx := hosted(t, db), t.Context()
			for _, commit := range []bool{false, true} {
				tx := begin(t, db)
				if _, err := tx.Exec(`INSERT INTO accounts (id, name) VALUES (7, 'seven')`); err != nil {
					t.Fatal(err)
				}
				if _, err := s.PutTx(ctx, tx, "accounts/7", []byte("token"), nil); err != nil {
					t.Fatal(err)
				}
				v, err := s.GetTx(ctx, tx, "accounts/7")
				if err != nil || string(v.Bytes()) != "token" {
					t.Errorf("GetTx = %q, %v: the transaction does not see its own put", v.Bytes(), err)
				}
				end := tx.Rollback
				if commit {
					end = tx.Commit
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
				var rows int
				if err := db.QueryRow(`SELECT count(*) FROM accounts WHERE id = 7`).Scan(&rows); err != nil {
					t.Fatal(err)
				}
				_, err = s.Get(ctx, "accounts/7")
				if commit && (rows != 1 || err != nil) || !commit && (rows != 0 || !errors.Is(err, store.ErrNotFound)) {
					t.Errorf("committed %v: %d rows, secret: %v", commit, rows, err)
				}
			}
		})
	}
}

// A rolled-back insert's row ids come back: nothing may be remembered by them.
func TestKeyOfRolledBackTransactionIsForgotten(t *testing.T) {
	db := hostDB(t, "")
	db.SetMaxOpenConns(1)
	s, ctx := hosted(t, db), t.Context()
	tx := begin(t, db)
	if err := s.CreateKeyTx(ctx, tx, "first"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutTx(ctx, tx, "first/secret", []byte("one"), &store.PutOptions{Key: "first"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GetTx(ctx, tx, "first/secret"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetKeyTx(ctx, tx, "app/db", "first"); err != nil {
		t.Fatal(err)
	}
	rowid := func(q interface {
		QueryRow(string, ...any) *sql.Row
	}, name string) (id int64) {
		if err := q.QueryRow(`SELECT v.id FROM reseal_master_key_versions AS v JOIN reseal_master_keys AS k ON k.id = v.master_key WHERE k.name = ?`, name).Scan(&id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	before := rowid(tx, "first")
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	other, err := store.New(ctx, db, store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.CreateKey(ctx, "second"); err != nil {
		t.Fatal(err)
	}
	if after := rowid(db, "second"); after != before {
		t.Fatalf("row id %d was not used again but %d: the test has no teeth", before, after)
	}
	put(t, other, "second/secret", "two", "second")
	wantValue(t, s, "second/secret", "two") // not with what was under that row id before
	if _, err := s.SetKey(ctx, "app/db", "second"); err != nil {
		t.Fatal(err)
	}
	wantValue(t, other, "app/db", "three")
	if _, err := other.VerifyAudit(ctx); err != nil {
		t.Error(err)
	}
}

func TestHostedStoreOverwritesWhatItRetires(t *testing.T) {
	db := hostDB(t, "_pragma=secure_delete(0)")
	s, ctx := hosted(t, db), t.Context()
	path := column(t, db, `SELECT file FROM pragma_database_list WHERE name = 'main'`)[0]
	retired := wraps(t, path)
	res, err := s.RotateRoot(ctx, store.RotateRootOptions{Credentials: map[string]store.Credential{slotIDs(t, s)[0]: store.Passphrase([]byte(passphrase))}})
	if err != nil {
		t.Fatal(err)
	}
	if res.MasterKeyVersions != 2 || len(retired) != 2+1+1 {
		t.Errorf("%d master key versions, %d wraps before", res.MasterKeyVersions, len(retired))
	}
	data := must(os.ReadFile(path))(t)
	for i, w := range retired {
		if bytes.Contains(data, w) {
			t.Errorf("retired wrap %d is still in the file", i)
		}
	}
	for i, w := range wraps(t, path) { // what is looked for can be found
		if !bytes.Contains(data, w) {
			t.Errorf("wrap %d is not in the file", i)
		}
	}
}

// SQLite ends a transaction by itself at some errors, and database/sql does not
// notice.
func TestTxVerbRefusesTransactionThatHasEnded(t *testing.T) {
	db := hostDB(t, "")
	s, ctx := hosted(t, db), t.Context()
	before := dump(t, db)
	tx := begin(t, db)
	if _, err := tx.Exec(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutTx(ctx, tx, "app/db", []byte("four"), nil); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("PutTx in a transaction that has ended: %v, want sql.ErrTxDone", err)
	}
	tx.Rollback()
	if diff := cmp.Diff(before, dump(t, db)); diff != "" {
		t.Errorf("a put that cannot be rolled back was committed (-before +after):\n%s", diff)
	}
}

// pragmas is every connection and file setting that can be read.
func pragmas(t *testing.T, db *sql.DB) map[string]string {
	t.Helper()
	settings := map[string]string{}
	for _, name := range []string{
		"application_id", "auto_vacuum", "automatic_index", "busy_timeout", "cache_size", "cache_spill", "cell_size_check",
		"checkpoint_fullfsync", "defer_foreign_keys", "encoding", "foreign_keys", "fullfsync", "ignore_check_constraints",
		"journal_mode", "journal_size_limit", "legacy_alter_table", "locking_mode", "max_page_count", "mmap_size", "page_size",
		"query_only", "read_uncommitted", "recursive_triggers", "reverse_unordered_selects", "secure_delete", "synchronous",
		"temp_store", "threads", "trusted_schema", "user_version", "wal_autocheckpoint", "writable_schema",
	} {
		var v string
		if err := db.QueryRow("PRAGMA " + name).Scan(&v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		settings[name] = v
	}
	return settings
}

func TestHostSettingsAreLeftAlone(t *testing.T) {
	for _, h := range hosts {
		t.Run(h.name, func(t *testing.T) {
			db := hostDB(t, h.query)
			db.SetMaxOpenConns(1)
			ctx := t.Context()
			rawGoose := `CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY, version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL);
				INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1), (41, 1)`
			if _, err := db.Exec(rawGoose); err != nil {
				t.Fatal(err)
			}
			before := pragmas(t, db)
			s := prepared(t, db)
			for verb, c := range joins {
				tx := begin(t, db)
				if err := callTx(ctx, s, verb, tx, c.works); err != nil {
					t.Errorf("%s: %v", verb, err)
				}
				tx.Rollback()
				callTxAndRollBack(t, s, db, verb, c.refused)
			}
			if _, err := s.SetKey(ctx, "app/db", "default"); err != nil {
				t.Error(err)
			}
			if _, err := s.Show(ctx, "app/db"); err != nil {
				t.Error(err)
			}
			if _, err := s.Backup(ctx, filepath.Join(t.TempDir(), "copy.db")); err != nil {
				t.Error(err)
			}
			res, err := s.RotateRoot(ctx, store.RotateRootOptions{Credentials: map[string]store.Credential{slotIDs(t, s)[0]: store.Passphrase([]byte(passphrase))}})
			if err != nil || res.Truncated {
				t.Errorf("RotateRoot = %+v, %v; the host's log is the host's", res, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, pragmas(t, db)); diff != "" {
				t.Errorf("settings (-before +after):\n%s", diff)
			}
			if got := column(t, db, `SELECT version_id FROM goose_db_version ORDER BY id`); !cmp.Equal(got, []string{"0", "41"}) {
				t.Errorf("the host's goose table holds %v", got)
			}
		})
	}
}

func callTxAndRollBack(t *testing.T, s *store.Store, db *sql.DB, verb string, args []any) {
	t.Helper()
	tx := begin(t, db)
	if err := callTx(t.Context(), s, verb, tx, args); err == nil {
		t.Errorf("%s%v was not refused", verb, args)
	}
	tx.Rollback()
}

func TestNewRefusesForeignTriggersAndViews(t *testing.T) {
	for _, statement := range []string{
		`CREATE TRIGGER mine AFTER INSERT ON reseal_secret_versions BEGIN INSERT INTO accounts (name) VALUES (hex(NEW.sealed)); END`,
		`CREATE VIEW mine AS SELECT name FROM reseal_secrets`,
		`DROP TRIGGER reseal_data_keys_insert`,
	} {
		db := hostDB(t, "")
		hosted(t, db)
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		s, err := store.New(t.Context(), db, store.Passphrase([]byte(passphrase)), options())
		if !errors.Is(err, store.ErrSchemaAltered) {
			t.Errorf("after %s: %v, want ErrSchemaAltered", statement, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestNewAllowsTriggersOnTheHostsOwnTables(t *testing.T) {
	db := hostDB(t, "")
	hosted(t, db)
	if _, err := db.Exec(`CREATE TRIGGER mine AFTER INSERT ON accounts BEGIN SELECT 1; END; CREATE VIEW names AS SELECT name FROM accounts`); err != nil {
		t.Fatal(err)
	}
	s, err := store.New(t.Context(), db, store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := db.Ping(); err != nil {
		t.Errorf("Close closed the host's database: %v", err)
	}
}

func TestWeakDurabilityIsRefused(t *testing.T) {
	for _, c := range []struct {
		query string
		weak  bool
	}{
		{"_pragma=synchronous(OFF)", true},
		{"_pragma=synchronous(NORMAL)", true},
		{"_pragma=journal_mode(MEMORY)", true},
		{"_pragma=journal_mode(OFF)", true},
		{"_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)", true},
		{"_pragma=journal_mode(TRUNCATE)", false},
		{"_pragma=synchronous(EXTRA)", false},
	} {
		db := hostDB(t, c.query)
		before := dump(t, db)
		s, err := store.Init(t.Context(), db, store.Passphrase([]byte(passphrase)), options())
		if c.weak != errors.Is(err, store.ErrWeakDurability) || !c.weak && err != nil {
			t.Errorf("%s: %v", c.query, err)
		}
		if err == nil {
			s.Close()
			continue
		}
		if diff := cmp.Diff(before, dump(t, db)); diff != "" {
			t.Errorf("%s was refused after something was written:\n%s", c.query, diff)
		}
		o := options()
		o.AllowWeakDurability = true
		if s, err = store.Init(t.Context(), db, store.Passphrase([]byte(passphrase)), o); err != nil {
			t.Errorf("%s, allowed: %v", c.query, err)
			continue
		}
		s.Close()
	}
}

func TestInitOnlyOnce(t *testing.T) {
	db := hostDB(t, "")
	s := hosted(t, db)
	before := dump(t, db)
	if _, err := store.Init(t.Context(), db, store.Passphrase([]byte("another")), options()); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second Init: %v, want ErrExists", err)
	}
	if diff := cmp.Diff(before, dump(t, db)); diff != "" {
		t.Errorf("a second Init changed (-before +after):\n%s", diff)
	}
	wantValue(t, s, "app/db", "three")
}

func TestInitFinishesWhatACrashLeft(t *testing.T) {
	db, ctx := hostDB(t, ""), t.Context()
	if _, err := store.New(ctx, db, store.Passphrase([]byte(passphrase)), options()); !errors.Is(err, store.ErrNotAStore) {
		t.Errorf("New without Init: %v, want ErrNotAStore", err)
	}
	if n := len(column(t, db, `SELECT name FROM sqlite_schema WHERE name LIKE 'reseal%'`)); n != 0 {
		t.Errorf("New made %d objects", n)
	}
	// The tables are there, their rows are not: what is left when a process is
	// killed between the two transactions of Init.
	if _, err := store.Init(ctx, db, store.Credential{}, options()); !errors.Is(err, store.ErrInvalid) {
		t.Fatal(err)
	}
	if n := len(column(t, db, `SELECT name FROM sqlite_schema WHERE name = 'reseal_state'`)); n != 1 {
		t.Fatal("there are no tables: the test has no teeth")
	}
	if _, err := store.New(ctx, db, store.Passphrase([]byte(passphrase)), options()); !errors.Is(err, store.ErrNotAStore) {
		t.Errorf("New on half a store: %v, want ErrNotAStore", err)
	}
	wantValue(t, hosted(t, db), "app/db", "three")
}

func TestHostBackupHoldsTheHostsTablesToo(t *testing.T) {
	db := hostDB(t, "")
	s := hosted(t, db)
	if _, err := db.Exec(`INSERT INTO accounts (name) VALUES ('ada')`); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := s.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	copied := openHost(t, path, "")
	if got := column(t, copied, `SELECT name FROM accounts`); !cmp.Equal(got, []string{"ada"}) {
		t.Errorf("the copy has accounts %v", got)
	}
	other, err := store.New(t.Context(), copied, store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	wantValue(t, other, "app/db", "three")
}
