package store_test

import (
	"database/sql"
	"fmt"
	"regexp"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// Statistics tell how many rows there were when ANALYZE ran. Those of a store that
// was small then must not have every get of a large one look through a table.
func TestOldStatisticsMakeNoScans(t *testing.T) {
	large := `s|v|d|l|t|reseal_tags` // aliases of the tables that grow with the secrets
	for _, c := range []struct {
		secrets int
		never   string // what may not be scanned
	}{
		{2, "s"},
		{30, large},
	} {
		t.Run(fmt.Sprint(c.secrets), func(t *testing.T) {
			s := newStore(t)
			for i := range c.secrets {
				must(s.Put(t.Context(), fmt.Sprint("app/", i), []byte("value"), nil))(t)
			}
			db := must(sql.Open("sqlite", s.Path()))(t)
			defer db.Close()
			must(db.Exec("ANALYZE"))(t)
			scan := regexp.MustCompile(`^SCAN (` + c.never + `)\b`)
			for name, query := range store.HotStatements {
				for _, step := range planOf(t, db, query) {
					if scan.MatchString(step) {
						t.Errorf("%s: %s", name, step)
					}
				}
			}
		})
	}
}

// planOf returns the steps of a statement whose parameters are not bound.
func planOf(t *testing.T, db *sql.DB, query string) (steps []string) {
	t.Helper()
	rows := must(db.Query("EXPLAIN QUERY PLAN " + regexp.MustCompile(`\?\d*`).ReplaceAllString(query, "'a'")))(t)
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		storetest.OK(t, rows.Scan(&id, &parent, &unused, &step))
		steps = append(steps, step)
	}
	storetest.OK(t, rows.Err())
	return steps
}
