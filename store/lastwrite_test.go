package store_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

func TestWriterRemembersItsLastWriteOnly(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	remembers := func(want bool, after string) {
		t.Helper()
		storetest.Diff(t, "remembered after "+after, want, store.Remembers(s.Store))
	}
	s.MustPut(t, "app", "1", store.PutOptions{})
	remembers(true, "a put")
	must(s.PutMany(ctx, list(app(1), app(2))))(t)
	remembers(true, "PutMany")
	if _, err := s.Put(ctx, "app", []byte("x"), &store.PutOptions{Key: "other"}); err == nil {
		t.Fatal("a put with another key was written")
	}
	remembers(false, "a put that was refused")
	s.MustPut(t, "app", "2", store.PutOptions{})
	storetest.OK(t, s.Update(ctx, func(*sql.Tx) error { return nil }))
	remembers(false, "a transaction of the caller's")
	s.MustPut(t, "app", "3", store.PutOptions{})
	storetest.OK(t, s.AcceptRows(ctx))
	remembers(false, "AcceptRows")
	s.MustPut(t, "app", "4", store.PutOptions{})
	must(s.VerifyAudit(ctx))(t)
}

// A put believes what it remembers only while nobody else has changed the file,
// by whatever means.
func TestPutReadsAgainWhatOthersChanged(t *testing.T) {
	disableByHand := func(t *testing.T, tx interface {
		Exec(string, ...any) (sql.Result, error)
	}) {
		must(tx.Exec(`UPDATE reseal_master_keys SET state = 'disabled' WHERE name = ?`, store.DefaultKeyName))(t)
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, s *resealtest.Store)
		want   error
	}{
		"a key's state by another connection": {
			func(t *testing.T, s *resealtest.Store) { disableByHand(t, s.Raw(t)) }, store.ErrDamaged},
		"a key's state in the caller's transaction": {
			func(t *testing.T, s *resealtest.Store) {
				storetest.OK(t, s.Update(t.Context(), func(tx *sql.Tx) error { disableByHand(t, tx); return nil }))
			}, store.ErrDamaged},
		"the state row by another connection": {
			func(t *testing.T, s *resealtest.Store) {
				must(s.Raw(t).Exec(`UPDATE reseal_state SET generation = generation + 1`))(t)
			}, store.ErrDamaged},
		"the number of rows by another connection": {
			func(t *testing.T, s *resealtest.Store) {
				must(s.Raw(t).Exec(`UPDATE reseal_state SET secret_rows = secret_rows + 1`))(t)
			}, store.ErrDamaged},
		"a trigger by another connection": {
			func(t *testing.T, s *resealtest.Store) { must(s.Raw(t).Exec(`DROP TRIGGER reseal_secrets_insert`))(t) }, store.ErrSchemaAltered},
		"a trigger in the caller's transaction": {
			func(t *testing.T, s *resealtest.Store) {
				storetest.OK(t, s.Update(t.Context(), func(tx *sql.Tx) error {
					_, err := tx.Exec(`DROP TRIGGER reseal_secrets_insert`)
					return err
				}))
			}, store.ErrSchemaAltered},
		"the key disabled by another process": {
			func(t *testing.T, s *resealtest.Store) {
				must(s.Another(t).DisableKey(t.Context(), store.DefaultKeyName))(t)
			}, store.ErrKeyUnavailable},
		"the key disabled by itself": {
			func(t *testing.T, s *resealtest.Store) {
				must(s.DisableKey(t.Context(), store.DefaultKeyName))(t)
			}, store.ErrKeyUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := resealtest.New(t, &resealtest.Options{Damaged: true})
			s.MustPut(t, "app/0", "x", store.PutOptions{})
			s.MustPut(t, "app/1", "x", store.PutOptions{})
			c.change(t, s)
			if _, err := s.Put(t.Context(), "app/2", []byte("x"), nil); !errors.Is(err, c.want) {
				t.Errorf("put = %v, want %v", err, c.want)
			}
			if _, err := s.PutMany(t.Context(), list(app(3))); !errors.Is(err, c.want) {
				t.Errorf("PutMany = %v, want %v", err, c.want)
			}
		})
	}
}

// Two processes that take turns each go on from what the other wrote, and a
// caller's transaction that was rolled back has left nothing.
func TestPutsInTurnGoOnFromEachOther(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	other := s.Another(t)
	primary := func(r store.PutResult) uint64 { return r.KeyVersion }
	storetest.Diff(t, "key version", uint64(1), primary(s.MustPut(t, "app", "1", store.PutOptions{})))
	must(other.RotateKey(ctx, store.DefaultKeyName))(t)
	storetest.Diff(t, "key version", uint64(2), primary(s.MustPut(t, "app", "2", store.PutOptions{})))
	must(other.Put(ctx, "app", []byte("3"), nil))(t)
	rolledBack := errors.New("rolled back")
	err := s.Update(ctx, func(tx *sql.Tx) error {
		must(s.PutTx(ctx, tx, "app", []byte("never"), nil))(t)
		return rolledBack
	})
	if !errors.Is(err, rolledBack) {
		t.Fatal(err)
	}
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	res := s.MustPut(t, "app", "4", store.PutOptions{})
	storetest.Diff(t, "version and key version", [2]uint64{4, 3}, [2]uint64{res.Version, primary(res)})
	must(other.Put(ctx, "other", []byte("x"), nil))(t)
	must(s.VerifyAudit(ctx))(t)
}
