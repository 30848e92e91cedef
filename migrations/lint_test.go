package migrations

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// wrap makes a migration of statements in its Up part, which begins on line 2.
func wrap(up string) string {
	return "-- +goose Up\n" + up + "\n-- +goose Down\nDROP TABLE reseal_x;\n"
}

func TestLintFindsMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		sql  string
		want []string // "line rule"
	}{
		"clean":                  {wrap("CREATE TABLE reseal_x (a INTEGER CHECK (a > 0)) STRICT, WITHOUT ROWID;"), nil},
		"no transaction":         {"-- +goose NO TRANSACTION\n" + wrap("CREATE INDEX reseal_i ON reseal_x (a);"), []string{"1 transaction"}},
		"no transaction, spaced": {"  --  +goose no transaction\n" + wrap(""), []string{"1 transaction"}},
		"no down":                {"-- +goose Up\nCREATE INDEX reseal_i ON reseal_x (a);\n", []string{"1 annotations"}},
		"no up":                  {"CREATE INDEX reseal_i ON reseal_x (a);\n-- +goose Down\n", []string{"1 annotations"}},
		"table dropped":          {wrap("DROP TABLE reseal_x;"), []string{"2 rebuild"}},
		"table renamed":          {wrap("ALTER TABLE reseal_x\n  RENAME TO reseal_y;"), []string{"2 rebuild"}},
		"column renamed is fine": {wrap("ALTER TABLE reseal_x RENAME COLUMN a TO b;"), nil},
		"dropped in a comment":   {wrap("-- DROP TABLE reseal_x;\n/* ON DELETE CASCADE */ CREATE INDEX reseal_i ON reseal_x (a);"), nil},
		"trigger dropped":        {wrap("DROP TRIGGER reseal_t;"), []string{"2 rebuild"}},
		"trigger replaced": {wrap("DROP TRIGGER IF EXISTS reseal_t;\n-- +goose StatementBegin\nCREATE TRIGGER reseal_t BEFORE DELETE ON reseal_x\n" +
			"BEGIN\n  SELECT CASE WHEN 1 THEN RAISE(ABORT, 'no; never') END;\n  SELECT 2;\nEND;\n-- +goose StatementEnd\nVACUUM;"), []string{"10 transaction"}},
		"trigger cut by goose": {wrap("CREATE TRIGGER reseal_t BEFORE DELETE ON reseal_x BEGIN SELECT 1; END;"), []string{"2 annotations"}},
		"cascade": {wrap("CREATE TABLE reseal_x (\n  a INTEGER REFERENCES reseal_y (id) ON DELETE CASCADE,\n  b INTEGER REFERENCES reseal_y (id) on update set null\n) STRICT;"),
			[]string{"3 cascade", "4 cascade"}},
		"not strict":             {wrap("CREATE TABLE reseal_x (strict INTEGER) WITHOUT ROWID;"), []string{"2 strict"}},
		"not ours":               {wrap("CREATE TABLE users (a INTEGER) STRICT;\nCREATE UNIQUE INDEX i ON reseal_x (a);"), []string{"2 prefix", "3 prefix"}},
		"temporary":              {wrap("CREATE TEMP TABLE reseal_x (a INTEGER) STRICT;"), []string{"2 prefix"}},
		"if not exists":          {wrap("CREATE TABLE IF NOT EXISTS reseal_x (a INTEGER) STRICT;"), []string{"2 exists"}},
		"empty check":            {wrap("CREATE TABLE reseal_x (\n  a TEXT CHECK (length(trim(a) > 0)),\n  b TEXT CHECK (length(trim(b)) > 0)\n) STRICT;"), []string{"3 empty-check"}},
		"check with null":        {wrap("CREATE TABLE reseal_x (a TEXT CHECK (a IN ('x', NULL)), b TEXT CHECK (b <> NULL)) STRICT;"), []string{"2 empty-check", "2 empty-check"}},
		"check of is null":       {wrap("CREATE TABLE reseal_x (a TEXT, b TEXT, CHECK ((a IS NULL) = (b IS NULL))) STRICT;"), nil},
		"check of a column":      {wrap("CREATE TABLE reseal_x (a INTEGER CHECK (1)) STRICT;"), []string{"2 empty-check"}},
		"check of any length":    {wrap("CREATE TABLE reseal_x (a BLOB CHECK (length(a) >= 0), b BLOB CHECK (length(b) >= 1), c BLOB CHECK (c <> x'' AND length(c) >= 0)) STRICT;"), []string{"2 empty-check"}},
		"replace":                {wrap("INSERT OR REPLACE INTO reseal_x VALUES (1);\nREPLACE INTO reseal_x VALUES (1);"), []string{"2 replace", "3 replace"}},
		"ciphertext":             {wrap("UPDATE reseal_data_keys SET wrapped = zeroblob(108);"), []string{"2 ciphertext"}},
		"pragma":                 {wrap("PRAGMA foreign_keys = OFF;"), []string{"2 pragma"}},
		"transaction statements": {wrap("COMMIT;\nBEGIN;"), []string{"2 transaction", "3 transaction"}},
	} {
		var got []string
		for _, p := range Lint("00002_x.sql", []byte(c.sql)) {
			line, _, _ := strings.Cut(strings.TrimPrefix(p.String(), "00002_x.sql:"), ":")
			got = append(got, line+" "+p.Rule)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLintAllFindsGapsDoublesAndNames(t *testing.T) {
	clean := &fstest.MapFile{Data: []byte(wrap("CREATE INDEX reseal_i ON reseal_x (a);"))}
	for name, c := range map[string]struct {
		files []string
		want  []string // "file rule"
	}{
		"clean":    {[]string{"00001_a.sql", "00002_b.sql"}, nil},
		"gap":      {[]string{"00001_a.sql", "00003_b.sql"}, []string{"00003_b.sql sequence"}},
		"double":   {[]string{"00001_a.sql", "00001_b.sql"}, []string{"00001_b.sql sequence"}},
		"bad name": {[]string{"00001_a.sql", "init.sql"}, []string{"init.sql name"}},
	} {
		fsys := fstest.MapFS{}
		for _, f := range c.files {
			fsys[f] = clean
		}
		problems, err := LintAll(fsys)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.File+" "+p.Rule)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if _, err := readHistory(fsys); (err == nil) != (c.want == nil) {
			t.Errorf("%s: readHistory: error %v", name, err)
		}
	}
	if _, err := LintAll(fstest.MapFS{}); err == nil {
		t.Error("no migrations: no error")
	}
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"", "'", "[a", "/*", "--", "a''b'c", "CREATE TABLE x (a CHECK (length(", "'é\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := canonical(s)
		// A quote that does not end takes the last space in.
		if twice := canonical(once); strings.TrimRight(twice, " ") != strings.TrimRight(once, " ") {
			t.Errorf("canonical(%q) = %q, and of that %q", s, once, twice)
		}
		Lint("00001_x.sql", []byte(s))
		for _, token := range tokens(s) {
			token.word()
		}
	})
}
