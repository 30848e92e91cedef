package rotate_test

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/reseal/reseal/store"
)

// splitName is the secret that the split set-key works on, splitVersions how
// many versions it has.
const (
	splitName     = "split/secret"
	splitVersions = 20
)

// secretRows is what a set-key writes: the wraps, the configured key, the tag.
type secretRows struct {
	wraps [splitVersions]struct {
		row, key int64
		wrapped  []byte
	}
	key int64
	tag []byte
}

func readRows(ctx context.Context, db *sql.DB) (r secretRows, err error) {
	rows, err := db.QueryContext(ctx, `
		SELECT d.id, d.master_key_version, d.wrapped, s.master_key, s.tag
		FROM reseal_secrets AS s
		JOIN reseal_secret_versions AS v ON v.secret = s.id
		JOIN reseal_data_keys AS d ON d.id = v.id
		WHERE s.name = ?
		ORDER BY v.number`, splitName)
	if err != nil {
		return r, err
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		if err := rows.Scan(&r.wraps[i].row, &r.wraps[i].key, &r.wraps[i].wrapped, &r.key, &r.tag); err != nil {
			return r, err
		}
	}
	return r, rows.Err()
}

// write writes the wraps of some versions, and with the last of them the
// secret's row, in one transaction.
func (r *secretRows) write(ctx context.Context, db *sql.DB, from, to int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, w := range r.wraps[from:to] {
		if _, err := tx.ExecContext(ctx, `UPDATE reseal_data_keys SET wrapped = ?, master_key_version = ? WHERE id = ?`, w.wrapped, w.key, w.row); err != nil {
			return err
		}
	}
	if to == splitVersions {
		if _, err := tx.ExecContext(ctx, `UPDATE reseal_secrets SET master_key = ?, tag = ? WHERE name = ?`, r.key, r.tag, splitName); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// splitSetKey changes the key of a secret back and forth, the wraps as genuine
// as SetKey's, but in so many transactions as the seed says: one or two.
func (w *worker) splitSetKey(r *rand.Rand) {
	db, err := sql.Open("sqlite", w.s.Path()+"?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&_txlock=immediate")
	if w.fails("open", err) {
		return
	}
	defer db.Close()
	var under [2]secretRows
	for i, key := range []string{"mk-1", "mk-2"} {
		_, err := w.s.SetKey(w.ctx, splitName, key)
		if w.fails("set-key", err) {
			return
		}
		if under[i], err = readRows(w.ctx, db); w.fails("read", err) {
			return
		}
	}
	parts := []int{0, splitVersions}
	if w.seed == splitInTwo {
		parts = []int{0, splitVersions / 2, splitVersions}
	}
	for i := 0; w.ctx.Err() == nil; i++ {
		for p := 1; p < len(parts); p++ {
			w.fails("write", under[i%2].write(w.ctx, db, parts[p-1], parts[p]))
		}
	}
}

const (
	whole      = 1
	splitInTwo = 2
)

// The check of the kill tests finds what it looks for: with a set-key that is
// split in two transactions, and otherwise the same, it fails.
func TestKillCheckFindsSetKeySplitInTwo(t *testing.T) {
	for name, c := range map[string]struct {
		seed  uint64
		kills int
	}{
		"one transaction":  {whole, 10},
		"two transactions": {splitInTwo, 50},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			for range splitVersions {
				if _, err := s.Put(t.Context(), splitName, []byte("value"), nil); err != nil {
					t.Fatal(err)
				}
			}
			found := 0
			for n := 1; n <= c.kills && found == 0; n++ {
				if killSplit(t, s, c.seed) {
					found = n
				}
			}
			if want := c.seed == splitInTwo; (found > 0) != want {
				t.Errorf("a secret under two keys found after %d kills; want it found: %v", found, want)
			}
			t.Logf("found after kill %d", found)
		})
	}
}

// killSplit kills a process that changes keys and says whether the secret is
// under two keys then.
func killSplit(t *testing.T, s *store.Store, seed uint64) bool {
	t.Helper()
	c := startChild(t, "split", s.Path(), seed)
	timer := time.AfterFunc(time.Duration(20_000+rand.IntN(50_000))*time.Microsecond, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	c.rest()
	if err := c.cmd.Wait(); err == nil || c.err.Len() > 0 {
		t.Fatalf("child ended by itself, or complained: %v: %s", err, &c.err)
	}
	return underTwoKeys(t, s) != ""
}
