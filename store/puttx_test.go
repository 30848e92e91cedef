package store_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/reseal/reseal/store"
)

// joinable is a store with a way to run a caller's transaction, which is rolled
// back when fn fails.
type joinable struct {
	name string
	s    *store.Store
	in   func(fn func(*sql.Tx) error) error
}

func joinables(t *testing.T) []joinable {
	t.Helper()
	own, db := newStore(t), hostDB(t, hosts[1].query)

	return []joinable{
		{"own file", own, func(fn func(*sql.Tx) error) error { return own.Update(t.Context(), fn) }},
		{"host", hosted(t, db), func(fn func(*sql.Tx) error) error {
			tx := begin(t, db)
			defer tx.Rollback()
			if err := fn(tx); err != nil {
				return err
			}
			return tx.Commit()
		}},
	}
}

// What a caller does between two puts of one transaction, the second of them sees.
func TestPutTxSeesWhatTheCallerDid(t *testing.T) {
	for _, c := range []struct {
		name string
		do   []string
		want error // of the next put
	}{
		{"nothing", nil, nil},
		{"a table of its own", []string{`CREATE TABLE own (x)`, `INSERT INTO own VALUES (1)`}, nil},
		{"a key disabled by other means", []string{`UPDATE reseal_master_keys SET state = 'disabled'`}, store.ErrDamaged},
		{"a key disabled and back", []string{`SAVEPOINT s`, `UPDATE reseal_master_keys SET state = 'disabled'`, `ROLLBACK TO s`}, nil},
		{"the state row's count", []string{`UPDATE reseal_state SET generation = generation + 1`}, store.ErrDamaged},
		{"a row set's count", []string{`UPDATE reseal_state SET secret_rows = secret_rows + 1`}, store.ErrDamaged},
		{"a trigger dropped", []string{`DROP TRIGGER reseal_secrets_delete`}, store.ErrSchemaAltered},
	} {
		for _, j := range joinables(t) {
			err := j.in(func(tx *sql.Tx) error {
				for i := range 3 { // the third begins with what the second knew
					if _, err := j.s.PutTx(t.Context(), tx, fmt.Sprint("before/", i), []byte("value"), nil); err != nil {
						t.Fatal(err)
					}
				}
				for _, query := range c.do {
					if _, err := tx.Exec(query); err != nil {
						t.Fatal(err)
					}
				}
				_, err := j.s.PutTx(t.Context(), tx, "after", []byte("value"), nil)
				return err
			})
			if !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", j.name, c.name, err, c.want)
			}
			wantWhole(t, j.s)
		}
	}
}

// A put after ROLLBACK TO goes on from what there is then, and not from what the
// put that was rolled back left.
func TestPutTxAfterTheCallersRollback(t *testing.T) {
	for _, j := range joinables(t) {
		put := func(tx *sql.Tx, name string) {
			t.Helper()
			if _, err := j.s.PutTx(t.Context(), tx, name, []byte(name), nil); err != nil {
				t.Fatalf("%s: %v", j.name, err)
			}
		}
		if err := j.in(func(tx *sql.Tx) error {
			put(tx, "kept/1")
			put(tx, "kept/2")
			for i := range 3 {
				for _, query := range []string{`SAVEPOINT s`, "", "", `ROLLBACK TO s`, `RELEASE s`} {
					if query == "" {
						put(tx, fmt.Sprint("rolled-back/", i))
					} else if _, err := tx.Exec(query); err != nil {
						t.Fatal(err)
					}
				}
			}
			put(tx, "kept/3")
			put(tx, "kept/3")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		wantWhole(t, j.s)
		for i := range 3 {
			name := fmt.Sprint("kept/", i+1)
			wantValue(t, j.s, name, name)
			if _, err := j.s.Get(t.Context(), fmt.Sprint("rolled-back/", i)); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", j.name, err)
			}
		}
	}
}

// A verb between two puts may change what they look up.
func TestPutTxAfterAnotherVerb(t *testing.T) {
	for _, j := range joinables(t) {
		if err := j.s.CreateKey(t.Context(), "spare"); err != nil {
			t.Fatal(err)
		}
		spare := &store.PutOptions{Key: "spare"}
		err := j.in(func(tx *sql.Tx) error {
			for i := range 3 {
				if _, err := j.s.PutTx(t.Context(), tx, fmt.Sprint("under-spare/", i), []byte("value"), spare); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := j.s.RotateKeyTx(t.Context(), tx, "spare"); err != nil || n != 2 {
				t.Fatal(n, err)
			}
			if res, err := j.s.PutTx(t.Context(), tx, "under-spare/3", []byte("value"), spare); err != nil || res.KeyVersion != 2 {
				t.Errorf("%s: %+v, %v", j.name, res, err)
			}
			if _, err := j.s.DisableKeyTx(t.Context(), tx, "spare"); err != nil {
				t.Fatal(err)
			}
			_, err := j.s.PutTx(t.Context(), tx, "under-spare/4", []byte("value"), spare)
			return err
		})
		if !errors.Is(err, store.ErrKeyUnavailable) {
			t.Errorf("%s: %v", j.name, err)
		}
		wantWhole(t, j.s)
	}
}

func wantWhole(t *testing.T, s *store.Store) {
	t.Helper()
	if rep, err := s.Verify(t.Context(), store.VerifyOptions{Deep: true}); err != nil || !rep.OK {
		t.Errorf("%+v, %v", rep, err)
	}
}
