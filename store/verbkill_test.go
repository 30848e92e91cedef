//go:build linux

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// The secrets that the verbs work on: one with three versions and a label, and a
// deleted one. They are in no actStore's values.
func makeVictims(t *testing.T, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	for i := range 3 {
		must(s.Put(ctx, "victim", fmt.Append(nil, "victim ", i+1), &store.PutOptions{Key: "mk-2"}))(t)
	}
	storetest.OK(t, s.SetLabel(ctx, "victim", "custom", 2))
	must(s.Put(ctx, "gone", []byte("gone"), nil))(t)
	must(s.Delete(ctx, "gone", 30*oneDay))(t)
	storetest.OK(t, s.CreateKey(ctx, "off"))
	must(s.DisableKey(ctx, "off"))(t)
}

// claim is a statement about a store: nil if it is so.
type claim func(ctx context.Context, s *store.Store) error

// verb is a deed of one call, which is made unless it was.
func verb(name string, done claim, do func(ctx context.Context, s *store.Store) error) deed {
	return deed{name: name, done: done, run: func(ctx context.Context, s *store.Store) error {
		if done(ctx, s) == nil {
			return nil
		}
		return do(ctx, s)
	}}
}

// verbs are the calls that change a store and that acts has not.
func verbs() []deed {
	type (
		ctxT = context.Context
		st   = *store.Store
	)
	token := func(n string) *store.PutOptions { return &store.PutOptions{Token: "t-" + n} }
	return append(keyVerbs(),
		verb("put", valueIs("victim", "four"), func(ctx ctxT, s st) error {
			return storetest.Err(s.Put(ctx, "victim", []byte("four"), token("1")))
		}),
		verb("put a new secret", valueIs("new/large", string(make([]byte, 20_000))), func(ctx ctxT, s st) error {
			return storetest.Err(s.Put(ctx, "new/large", make([]byte, 20_000), &store.PutOptions{Tags: map[string]string{"k": "v"}}))
		}),
		verb("put many", both(valueIs("victim", "four"), valueIs("new/1", "new")), func(ctx ctxT, s st) error {
			return storetest.Err(s.PutMany(ctx, []store.Item{store.NewItem("victim", []byte("four"), token("1")), store.NewItem("new/1", []byte("new"), token("2"))}))
		}),
		verb("put in a transaction", both(valueIs("victim", "four"), valueIs("new/1", "new")), func(ctx ctxT, s st) error {
			return s.Update(ctx, func(tx *sql.Tx) error {
				_, err := s.PutTx(ctx, tx, "victim", []byte("four"), nil)
				_, again := s.PutTx(ctx, tx, "new/1", []byte("new"), nil)
				return errors.Join(err, again)
			})
		}),
		verb("put of a host", rowAndSecret, hostPut),
		verb("set-key", keyOf("victim", "mk-1"), func(ctx ctxT, s st) error { return storetest.Err(s.SetKey(ctx, "victim", "mk-1")) }),
		verb("label", labelsAre("victim", map[string]uint64{"current": 1, "custom": 2, "previous": 3}), func(ctx ctxT, s st) error {
			return s.SetLabel(ctx, "victim", "current", 1)
		}),
		verb("label remove", labelsAre("victim", map[string]uint64{"current": 3, "previous": 2}), func(ctx ctxT, s st) error {
			return s.RemoveLabel(ctx, "victim", "custom")
		}),
		verb("tag", tagsAre("victim", map[string]string{"team": "red"}), func(ctx ctxT, s st) error {
			return s.SetTags(ctx, "victim", map[string]string{"team": "red"})
		}),
		verb("delete", isDeleted("victim", true), func(ctx ctxT, s st) error { return storetest.Err(s.Delete(ctx, "victim", 0)) }),
		verb("restore", isDeleted("gone", false), func(ctx ctxT, s st) error { return storetest.Err(s.Restore(ctx, "gone")) }),
		verb("purge", noSecret("gone"), func(ctx ctxT, s st) error { return storetest.Err(s.Purge(ctx, "gone", true)) }),
		verb("prune", versionsAre("victim", 2, 3), func(ctx ctxT, s st) error { return storetest.Err(s.Prune(ctx, "victim", 0)) }),
		verb("prune all", versionsAre("victim", 2, 3), func(ctx ctxT, s st) error { return storetest.Err(s.PruneAll(ctx, 0)) }),
		verb("value rotation", both(valueIs("victim", "rotated"), labelsAre("victim", map[string]uint64{"current": 4, "custom": 2, "previous": 3})), func(ctx ctxT, s st) error {
			return storetest.Err(rotate.Value(ctx, s, "victim", fixedRotator{}))
		}),
		deed{name: "backup", done: wholeBackup, run: backUp},
	)
}

// splitVerbs are what the sweep has to find wrong.
func splitVerbs() []deed {
	return []deed{verb("put of a host in two transactions", rowAndSecret, hostPutInTwo)}
}

func keyVerbs() []deed {
	type (
		ctxT = context.Context
		st   = *store.Store
	)
	return []deed{
		verb("key create", keyIs("mk-3", store.Enabled, 1), func(ctx ctxT, s st) error { return s.CreateKey(ctx, "mk-3") }),
		verb("key rotate", keyIs("mk-2", store.Enabled, 2), func(ctx ctxT, s st) error { return storetest.Err(s.RotateKey(ctx, "mk-2")) }),
		verb("key disable", keyIs("old", store.Disabled, 2), func(ctx ctxT, s st) error { return storetest.Err(s.DisableKey(ctx, "old")) }),
		verb("key enable", keyIs("off", store.Enabled, 1), func(ctx ctxT, s st) error { return s.EnableKey(ctx, "off") }),
		verb("key delete", keyIs("off", store.PendingDeletion, 1), func(ctx ctxT, s st) error { return storetest.Err(s.ScheduleKeyDeletion(ctx, "off", 0)) }),
		verb("key cancel-deletion", keyIs("going", store.Disabled, 1), func(ctx ctxT, s st) error { return s.CancelKeyDeletion(ctx, "going") }),
		verb("key set-default", defaultKey("mk-1"), func(ctx ctxT, s st) error { return s.SetDefaultKey(ctx, "mk-1") }),
		verb("unseal add", slotsAre(3), func(ctx ctxT, s st) error { return storetest.Err(s.AddSlot(ctx, resealtest.Credential(), "third")) }),
	}
}

func both(a, b claim) claim {
	return func(ctx context.Context, s *store.Store) error { return errors.Join(a(ctx, s), b(ctx, s)) }
}

func valueIs(name, want string) claim {
	return func(ctx context.Context, s *store.Store) error {
		v, err := s.Get(ctx, name)
		if err == nil && string(v.Bytes()) != want {
			err = fmt.Errorf("%s has another value", name)
		}
		return err
	}
}

// shown is a claim about what Show tells.
func shown(name string, is func(*store.SecretInfo) bool) claim {
	return func(ctx context.Context, s *store.Store) error {
		info, err := s.Show(ctx, name)
		if err == nil && !is(info) {
			err = fmt.Errorf("%s is %+v", name, info)
		}
		return err
	}
}

func keyOf(name, key string) claim {
	return shown(name, func(i *store.SecretInfo) bool { return i.ConfiguredKey == key && !i.Drift })
}

func isDeleted(name string, want bool) claim {
	return shown(name, func(i *store.SecretInfo) bool { return i.DeletedAt.IsZero() != want })
}

func tagsAre(name string, want map[string]string) claim {
	return shown(name, func(i *store.SecretInfo) bool { return maps.Equal(i.Tags, want) })
}

func labelsAre(name string, want map[string]uint64) claim {
	return shown(name, func(i *store.SecretInfo) bool {
		got := map[string]uint64{}
		for _, v := range i.Versions {
			for _, l := range v.Labels {
				got[l] = v.Version
			}
		}
		return maps.Equal(got, want)
	})
}

func versionsAre(name string, want ...uint64) claim {
	return shown(name, func(i *store.SecretInfo) bool {
		var got []uint64
		for _, v := range i.Versions {
			got = append(got, v.Version)
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

func noSecret(name string) claim {
	return func(ctx context.Context, s *store.Store) error {
		if _, err := s.Show(ctx, name); !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%s is still there: %v", name, err)
		}
		return nil
	}
}

func keyIs(name string, state store.KeyState, primary uint64) claim {
	return func(ctx context.Context, s *store.Store) error {
		k, err := s.Key(ctx, name)
		if err == nil && (k.State != state || k.PrimaryVersion != primary) {
			err = fmt.Errorf("key %s is %s, primary %d", name, k.State, k.PrimaryVersion)
		}
		return err
	}
}

func defaultKey(name string) claim {
	return func(ctx context.Context, s *store.Store) error {
		k, err := s.Key(ctx, name)
		if err == nil && !k.Default {
			err = fmt.Errorf("key %s is not the default", name)
		}
		return err
	}
}

func slotsAre(n int) claim {
	return func(ctx context.Context, s *store.Store) error {
		slots, err := s.Slots(ctx)
		if err == nil && len(slots) != n {
			err = fmt.Errorf("%d slots", len(slots))
		}
		return err
	}
}

// fixedRotator makes a value that is used nowhere.
type fixedRotator struct{}

func (fixedRotator) Create(context.Context, rotate.Step) ([]byte, error) {
	return []byte("rotated"), nil
}
func (fixedRotator) Set(context.Context, rotate.Step) error    { return nil }
func (fixedRotator) Test(context.Context, rotate.Step) error   { return nil }
func (fixedRotator) Finish(context.Context, rotate.Step) error { return nil }

// hostPut writes a row of a host's and its secret in one transaction.
func hostPut(ctx context.Context, own *store.Store) error {
	return withHost(ctx, own, func(db *sql.DB, s *store.Store) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, insertAccount); err != nil {
			return err
		}
		if _, err := s.PutTx(ctx, tx, "account/one", []byte("one"), nil); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// hostPutInTwo writes them in two, as the sweep has to find.
func hostPutInTwo(ctx context.Context, own *store.Store) error {
	return withHost(ctx, own, func(db *sql.DB, s *store.Store) error {
		if _, err := db.ExecContext(ctx, insertAccount); err != nil {
			return err
		}
		return storetest.Err(s.Put(ctx, "account/one", []byte("one"), nil))
	})
}

const insertAccount = `INSERT INTO accounts VALUES ('one')`

// withHost opens the file as a host does that has a table of its own in it.
func withHost(ctx context.Context, own *store.Store, fn func(*sql.DB, *store.Store) error) error {
	db, err := hostOf(own)
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := store.New(ctx, db, resealtest.Credential(), &store.Options{KDF: resealtest.KDF})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY) STRICT`); err != nil {
		return err
	}
	return fn(db, s)
}

func hostOf(s *store.Store) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+s.Path()+"?_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&_txlock=immediate")
}

// rowAndSecret wants both. With one of them it never is nil, also not when the
// put is done again: the row is there already.
func rowAndSecret(ctx context.Context, s *store.Store) error {
	db, err := hostOf(s)
	if err != nil {
		return err
	}
	defer db.Close()
	var rows int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM accounts`).Scan(&rows); err != nil {
		return err
	}
	if rows != 1 {
		return fmt.Errorf("%d rows", rows)
	}
	return valueIs("account/one", "one")(ctx, s)
}

func backupPath(s *store.Store) string { return filepath.Join(filepath.Dir(s.Path()), "backup.db") }

// backUp makes one, unless it is there.
func backUp(ctx context.Context, s *store.Store) error {
	if _, err := os.Lstat(backupPath(s)); err == nil {
		return wholeBackup(ctx, s)
	}
	return storetest.Err(s.Backup(ctx, backupPath(s)))
}

// A process that is killed at any of its calls that change the disk, in any verb,
// has done it or has not.
func TestVerbsKilledAtAnyWriteToDisk(t *testing.T) { sweepAll(t, verbs(), 3) }

// The sweep has teeth: a row and its secret that are written in two transactions
// are found apart after some kill.
func TestVerbKillsFindTwoTransactions(t *testing.T) {
	needStrace(t)
	a := makeActStore(t)
	kills, _, wrong := a.sweep(t, splitVerbs()[0], 3, 0)
	if len(wrong) == 0 {
		t.Errorf("%d kills, and nothing was wrong", kills)
		return
	}
	t.Logf("%d kills, %d wrong, the first: %s", kills, len(wrong), wrong[0])
}

// wholeBackup: what has a backup's name is a whole store.
func wholeBackup(ctx context.Context, s *store.Store) error {
	b, err := openActed(ctx, backupPath(s))
	if err != nil {
		return err
	}
	defer b.Close()
	r, err := b.Verify(ctx, store.VerifyOptions{Deep: true})
	if err == nil && !r.OK {
		err = fmt.Errorf("backup: %+v", r.Failures)
	}
	return err
}
