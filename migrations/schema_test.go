package migrations

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCheckSchemaNamesWhatWasAltered(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		want   AlteredError
	}{
		"trigger dropped": {`DROP TRIGGER reseal_state_delete`,
			AlteredError{Missing: []string{"trigger reseal_state_delete"}}},
		"trigger weakened": {`DROP TRIGGER reseal_audit_events_update;
			CREATE TRIGGER reseal_audit_events_update BEFORE UPDATE ON reseal_audit_events BEGIN SELECT 1; END`,
			AlteredError{Altered: []string{"trigger reseal_audit_events_update"}}},
		"index dropped": {`DROP INDEX reseal_secret_versions_token`,
			AlteredError{Missing: []string{"index reseal_secret_versions_token"}}},
		"table dropped with its triggers": {`DROP TABLE reseal_tags`,
			AlteredError{Missing: []string{"table reseal_tags"}}},
		"column added": {`ALTER TABLE reseal_tags ADD COLUMN x TEXT`,
			AlteredError{Altered: []string{"table reseal_tags"}}},
		"check removed by writable_schema": {`PRAGMA writable_schema = 1;
			UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (length(wrapped) = 108)', '') WHERE name = 'reseal_data_keys'`,
			AlteredError{Altered: []string{"table reseal_data_keys"}}},
		"table of that name": {`CREATE TABLE Reseal_mine (a)`,
			AlteredError{Foreign: []string{"table reseal_mine"}}},
		"index of that name": {`CREATE INDEX reseal_mine ON reseal_tags (value)`,
			AlteredError{Foreign: []string{"index reseal_mine"}}},
		"trigger of others": {`CREATE TRIGGER spy AFTER INSERT ON reseal_secrets BEGIN SELECT 1; END`,
			AlteredError{Foreign: []string{"trigger spy (acts on reseal_secrets)"}}},
		"trigger of others on the versions": {`CREATE TRIGGER reseal_spy AFTER INSERT ON reseal_schema_version BEGIN SELECT 1; END`,
			AlteredError{Foreign: []string{"trigger reseal_spy (acts on reseal_schema_version)", "trigger reseal_spy"}}},
		"unique index of others": {`CREATE UNIQUE INDEX one ON reseal_data_keys (master_key_version)`,
			AlteredError{Foreign: []string{"index one (is UNIQUE on reseal_data_keys)"}}},
		"view that reads": {`CREATE VIEW v AS SELECT name FROM "RESEAL_secrets"`,
			AlteredError{Foreign: []string{"view v (reads reseal's tables)"}}},
		"temporary table that hides": {`CREATE TEMP TABLE reseal_secrets (a)`,
			AlteredError{Foreign: []string{"temporary table reseal_secrets (hides reseal's)"}}},
		"temporary view that hides": {`CREATE TEMP VIEW reseal_data_keys AS SELECT 1`,
			AlteredError{Foreign: []string{"temporary view reseal_data_keys (hides reseal's)"}}},
		"temporary trigger": {`CREATE TEMP TRIGGER spy AFTER UPDATE ON main.reseal_data_keys BEGIN SELECT 1; END`,
			AlteredError{Foreign: []string{"temporary trigger spy (acts on reseal_data_keys)"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, db := newStore(t)
			mustExec(t, db, c.change)
			err := CheckSchema(t.Context(), db)
			var got *AlteredError
			if !errors.As(err, &got) || !errors.Is(err, ErrAltered) {
				t.Fatalf("error %v, want an *AlteredError", err)
			}
			c.want.Version = Latest()
			if diff := cmp.Diff(c.want, *got); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			for _, n := range append(append(got.Missing, got.Altered...), got.Foreign...) {
				if !strings.Contains(err.Error(), n) {
					t.Errorf("%q does not name %q", err, n)
				}
			}
		})
	}
}

func TestCheckSchemaAllowsWhatDoesNoHarm(t *testing.T) {
	for name, change := range map[string]string{
		"plain index":          `CREATE INDEX mine ON reseal_data_keys (master_key_version)`,
		"statistics":           `ANALYZE`,
		"host's objects":       `CREATE TABLE users (secret TEXT UNIQUE); CREATE VIEW v AS SELECT 'my_reseal_' FROM users; CREATE TRIGGER tr AFTER INSERT ON users BEGIN SELECT 1; END`,
		"host's temp":          `CREATE TEMP TABLE secrets (a); CREATE TEMP VIEW v AS SELECT a FROM secrets`,
		"LIKE with upper case": `PRAGMA case_sensitive_like = 1`,
		"vacuum":               `VACUUM`,
	} {
		_, db := newFilledStore(t)
		mustExec(t, db, change)
		if err := CheckSchema(t.Context(), db); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUpRefusesAlteredSchema(t *testing.T) {
	_, db := newStore(t)
	h := extended(t, map[string]string{nextFile("note"): addColumn})
	mustExec(t, db, `DROP TRIGGER reseal_state_delete`)
	if _, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{}); !errors.Is(err, ErrAltered) {
		t.Errorf("error %v, want ErrAltered", err)
	}
}

func TestCreateRefusesTablesInItsWay(t *testing.T) {
	path, db := newFile(t)
	mustExec(t, db, `CREATE TABLE reseal_secrets (a)`)
	_, err := Up(t.Context(), db, Options{Create: true})
	if !errors.Is(err, ErrAltered) || !strings.Contains(err.Error(), "table reseal_secrets") {
		t.Errorf("error %v, want one that names the table", err)
	}
	if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema`); n != 1 {
		t.Errorf("%q has %d objects, want 1", path, n)
	}
}

func TestCheckSchemaIsCheapEnoughForEveryOpen(t *testing.T) {
	_, db := newFilledStore(t)
	best := time.Hour
	for range 50 {
		start := time.Now()
		if err := CheckSchema(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
	}
	// It takes half a millisecond on a machine that does nothing else.
	if limit := 3 * time.Millisecond * raceFactor; best > limit {
		t.Errorf("the fastest of 50 took %v, want less than %v", best, limit)
	}
}

func TestFingerprintIgnoresLayoutOnly(t *testing.T) {
	same := []string{"CREATE TABLE a(b)", "CREATE  TABLE\n a ( b )", "CREATE TABLE a(b -- why\n)", "CREATE /* x */ TABLE a(b)"}
	for _, s := range same {
		if got, want := canonical(s), canonical(same[0]); got != want {
			t.Errorf("canonical(%q) = %q, want %q", s, got, want)
		}
	}
	differ := []string{"x = 'a b'", "x = 'a  b'", "x = 'a--b'", "x = 'a/*b'", "x = \"a b\"", "x = 'it''s'", "x = 'it' 's'", "X = 'a b'", "x = [a b]"}
	seen := map[string]string{}
	for _, s := range differ {
		if other, found := seen[canonical(s)]; found {
			t.Errorf("%q and %q have one canonical form", s, other)
		}
		seen[canonical(s)] = s
	}
}

func BenchmarkCheckSchema(b *testing.B) {
	_, db := newFilledStore(b)
	for b.Loop() {
		if err := CheckSchema(b.Context(), db); err != nil {
			b.Fatal(err)
		}
	}
}
