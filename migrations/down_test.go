package migrations

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDownRefusesToLoseRowsNotAgreedTo(t *testing.T) {
	path, db := newFilledStore(t)
	for _, agreed := range []int64{0, 1, fixtureRows - 1, fixtureRows + 1} {
		_, err := Down(t.Context(), db, 0, Options{DestroyRows: agreed})
		var loss *DataLossError
		if !errors.As(err, &loss) || !errors.Is(err, ErrDataLoss) {
			t.Fatalf("agreed to %d: error %v, want a *DataLossError", agreed, err)
		}
		want := DataLossError{From: Latest(), To: 0, Rows: fixtureRows, Agreed: agreed}
		if diff := cmp.Diff(want, *loss); diff != "" {
			t.Errorf("agreed to %d (-want +got):\n%s", agreed, diff)
		}
		if !strings.Contains(err.Error(), "31") {
			t.Errorf("%q does not say how many", err)
		}
	}
	if err := CheckSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
	db.Close()
	if sum := fileSum(t, path); strings.Count(sum, "\n") != 1 {
		t.Errorf("left behind:\n%s", sum)
	}
}

func TestDownRemovesTheStoreAndKeepsABackup(t *testing.T) {
	_, db := newFilledStore(t)
	mustExec(t, db, `CREATE TABLE users (name TEXT)`)
	r, err := Down(t.Context(), db, 0, Options{DestroyRows: fixtureRows})
	if err != nil {
		t.Fatal(err)
	}
	if r.From != Latest() || r.To != 0 || len(r.Ran) != int(Latest()) {
		t.Errorf("result %+v", r)
	}
	if names := queryText(t, db, `SELECT group_concat(name) FROM sqlite_schema WHERE name NOT LIKE 'sqlite%'`); names != "users" {
		t.Errorf("objects left: %s", names)
	}
	if version, err := Current(t.Context(), db); version != 0 || err != nil {
		t.Errorf("version %d, error %v", version, err)
	}
	if n := queryInt(t, open(t, r.Backup, "mode=ro"), `SELECT count(*) FROM reseal_secrets`); n != 2 {
		t.Errorf("backup has %d secrets, want 2", n)
	}
	if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
		t.Errorf("up again: %v", err)
	}
}

// TestDownCountsOnlyTablesThatLose drops one column and one table.
func TestDownCountsOnlyTablesThatLose(t *testing.T) {
	_, db := newFilledStore(t)
	h := extended(t, map[string]string{nextFile("note"): addColumn,
		fileAfterNext("more"): "-- +goose Up\nCREATE TABLE reseal_more (a INTEGER) STRICT;\nCREATE INDEX reseal_more_a ON reseal_more (a);\n-- +goose Down\nDROP TABLE reseal_more;\n"})
	if _, err := h.move(t.Context(), db, course{to: h.latest(), up: true}, Options{NoBackup: true}); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, `INSERT INTO reseal_more VALUES (1), (2); INSERT INTO reseal_tags VALUES (1, 'k', 'v', 'n')`)
	for _, c := range []struct{ to, rows int64 }{{Latest() + 1, 2}, {Latest(), 3}, {0, 3 + fixtureRows}} {
		_, err := h.move(t.Context(), db, course{to: c.to}, Options{DestroyRows: -1, NoBackup: true})
		var loss *DataLossError
		if !errors.As(err, &loss) || loss.Rows != c.rows {
			t.Errorf("down to %d: error %v, want %d rows", c.to, err, c.rows)
		}
	}
	r, err := h.move(t.Context(), db, course{to: Latest()}, Options{DestroyRows: 3, NoBackup: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Ran) != 2 || r.Ran[0].Version != h.latest() {
		t.Errorf("ran %v, want the last two", r.Ran)
	}
	if err := CheckSchema(t.Context(), db); err != nil {
		t.Error(err)
	}
}

// TestDownOverwritesWhatItFrees looks for a wrap in the file's free pages.
func TestDownOverwritesWhatItFrees(t *testing.T) {
	path, db := newFilledStore(t)
	const mark = "a wrap that has to be gone from the file!"
	mustExec(t, db, `UPDATE reseal_secret_versions SET sealed = ?`, []byte(strings.Repeat(mark, 300)))
	db.Close()
	if !strings.Contains(read(t, path), mark) {
		t.Fatal("the mark is not in the file to begin with")
	}
	db = open(t, path)
	if _, err := Down(t.Context(), db, 0, Options{DestroyRows: fixtureRows, NoBackup: true}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if strings.Contains(read(t, path), mark) {
		t.Error("the mark is still in the file")
	}
}
