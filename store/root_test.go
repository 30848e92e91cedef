package store_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// rooted is a store with a daily passphrase and a recovery key file.
type rooted struct {
	*store.Store
	daily, recovery string // slot ids
	file            store.Credential
}

func newRooted(t *testing.T) rooted {
	t.Helper()
	s := newStore(t)
	file, _ := newKeyFile(t)
	if _, err := s.AddSlot(t.Context(), file, "recovery"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateKey(t.Context(), "mk-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "hunter2", "mk-1")
	if _, err := s.RotateKey(t.Context(), "mk-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/mail", "postbox", "")
	ids := slotIDs(t, s)
	return rooted{Store: s, daily: ids[0], recovery: ids[1], file: file}
}

func (r rooted) all() store.RotateRootOptions {
	return store.RotateRootOptions{Credentials: map[string]store.Credential{
		r.daily: store.Passphrase([]byte(passphrase)), r.recovery: r.file,
	}}
}

func (r rooted) wantWorking(t *testing.T, s *store.Store) {
	t.Helper()
	wantValue(t, s, "app/db", "hunter2")
	wantValue(t, s, "app/mail", "postbox")
	put(t, s, "app/new", "fresh", "mk-1")
	wantValue(t, s, "app/new", "fresh")
	if _, err := s.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}

// wraps returns the bytes of every wrap under a root key that is in the file.
func wraps(t *testing.T, path string) [][]byte {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`
		SELECT wrapped FROM reseal_master_key_wraps
		UNION ALL SELECT wrapped FROM reseal_unseal_slots
		UNION ALL SELECT integrity_wrapped FROM reseal_root_keys`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out [][]byte
	for rows.Next() {
		var w []byte
		if err := rows.Scan(&w); err != nil {
			t.Fatal(err)
		}
		out = append(out, w)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRotateRootKeepsEverythingReadable(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	slots, err := r.Slots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.RotateRoot(ctx, r.all())
	if err != nil {
		t.Fatal(err)
	}
	want := store.RotateRootResult{Kept: slots, MasterKeyVersions: 3, Truncated: true}
	if diff := cmp.Diff(want, res); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	r.wantWorking(t, r.Store)
	if err := r.CreateKey(ctx, "mk-2"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(slots, must(r.Slots(ctx))(t)); diff != "" {
		t.Errorf("slots (-before +after):\n%s", diff)
	}
	for _, cred := range []store.Credential{store.Passphrase([]byte(passphrase)), r.file} {
		other, err := store.Open(ctx, r.Path(), cred, options())
		if err != nil {
			t.Fatal(err)
		}
		r.wantWorking(t, other)
		other.Close()
	}
	if _, err := r.RotateRoot(ctx, r.all()); err != nil {
		t.Errorf("a second rotation: %v", err)
	}
	r.wantWorking(t, r.Store)
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRotateRootLeavesNoRetiredWrap(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	old := wraps(t, r.Path())
	if len(old) != 3+2+1 {
		t.Fatalf("%d wraps before", len(old))
	}
	res, err := r.RotateRoot(ctx, r.all())
	if err != nil {
		t.Fatal(err)
	}
	if !res.Truncated {
		t.Error("the log was not emptied")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(r.Path() + suffix)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range old {
			if bytes.Contains(data, w) {
				t.Errorf("retired wrap %d is still in reseal.db%s", i, suffix)
			}
		}
	}
	now := wraps(t, r.Path())
	if len(now) != len(old) {
		t.Errorf("%d wraps after, %d before", len(now), len(old))
	}
	data := must(os.ReadFile(r.Path()))(t)
	for i, w := range now { // what is looked for can be found
		if !bytes.Contains(data, w) {
			t.Errorf("wrap %d is not in the file", i)
		}
	}
}

func TestRotateRootRefusesUnnamedSlot(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	before := wraps(t, r.Path())
	daily := store.Passphrase([]byte(passphrase))
	otherFile, _ := newKeyFile(t)
	for _, c := range []struct {
		why  string
		o    store.RotateRootOptions
		want error
	}{
		{"nothing given", store.RotateRootOptions{}, store.ErrInvalid},
		{"one slot forgotten", store.RotateRootOptions{Credentials: map[string]store.Credential{r.daily: daily}}, store.ErrInvalid},
		{"wrong passphrase", store.RotateRootOptions{Credentials: map[string]store.Credential{r.daily: store.Passphrase([]byte("wrong")), r.recovery: r.file}}, store.ErrUnseal},
		{"wrong key file", store.RotateRootOptions{Credentials: map[string]store.Credential{r.daily: daily, r.recovery: otherFile}}, store.ErrUnseal},
		{"another kind", store.RotateRootOptions{Credentials: map[string]store.Credential{r.daily: r.file, r.recovery: r.file}}, store.ErrUnseal},
		{"empty credential", store.RotateRootOptions{Credentials: map[string]store.Credential{r.daily: {}, r.recovery: r.file}}, store.ErrInvalid},
		{"kept and dropped", store.RotateRootOptions{Credentials: r.all().Credentials, Drop: []string{r.recovery}}, store.ErrInvalid},
		{"named twice", store.RotateRootOptions{Credentials: map[string]store.Credential{r.daily: daily, r.daily[:8]: daily, r.recovery: r.file}}, store.ErrInvalid},
		{"none kept", store.RotateRootOptions{Drop: []string{r.daily, r.recovery}}, store.ErrInvalid},
		{"unknown slot", store.RotateRootOptions{Credentials: r.all().Credentials, Drop: []string{"00000000000000000000000000000000"}}, store.ErrNotFound},
	} {
		if _, err := r.RotateRoot(ctx, c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
	}
	if diff := cmp.Diff(before, wraps(t, r.Path())); diff != "" {
		t.Error("a refused rotation changed the wraps")
	}
	r.wantWorking(t, r.Store)
}

func TestRotateRootDropsOnlyNamedSlot(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	res, err := r.RotateRoot(ctx, store.RotateRootOptions{
		Credentials: map[string]store.Credential{r.daily[:10]: store.Passphrase([]byte(passphrase))},
		Drop:        []string{r.recovery[:10]},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Dropped) != 1 || res.Dropped[0].ID != r.recovery || len(res.Kept) != 1 || res.Kept[0].ID != r.daily {
		t.Errorf("kept %v, dropped %v", res.Kept, res.Dropped)
	}
	if _, err := store.Open(ctx, r.Path(), r.file, options()); !errors.Is(err, store.ErrUnseal) {
		t.Errorf("open with the dropped slot: %v, want ErrUnseal", err)
	}
	r.wantWorking(t, openStore(t, r.Path()))
}

func TestStoreWorksBetweenThePhases(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	if err := store.BeginRootRotation(ctx, r.Store, r.all()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, r.Path())
	r.wantWorking(t, s)
	if _, err := s.SetKey(ctx, "app/db", "default"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveLabel(ctx, "app/db", "previous"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	_, rotate := s.RotateKey(ctx, "mk-1")
	_, disable := s.DisableKey(ctx, "mk-1")
	_, schedule := s.ScheduleKeyDeletion(ctx, "mk-1", 0)
	_, add := s.AddSlot(ctx, r.file, "")
	for what, err := range map[string]error{
		"create key": s.CreateKey(ctx, "mk-2"), "rotate key": rotate, "disable key": disable, "enable key": s.EnableKey(ctx, "mk-1"),
		"schedule deletion": schedule, "cancel deletion": s.CancelKeyDeletion(ctx, "mk-1"), "destroy version": s.DestroyKeyVersion(ctx, "mk-1", 1),
		"add slot": add, "remove slot": s.RemoveSlot(ctx, r.recovery),
	} {
		var e *store.Error
		if !errors.Is(err, store.ErrRootRotating) || !errors.As(err, &e) || e.Remedy != "reseal unseal rotate-root" {
			t.Errorf("%s: %v, want ErrRootRotating with its remedy", what, err)
		}
	}
	res, err := s.RotateRoot(ctx, r.all())
	if err != nil {
		t.Fatal(err)
	}
	if !res.Resumed {
		t.Error("the rotation was begun again, not finished")
	}
	r.wantWorking(t, s)
	if err := s.CreateKey(ctx, "mk-2"); err != nil {
		t.Error(err)
	}
}

func TestRotateRootBeginsAgainWhenItCannotProve(t *testing.T) {
	for _, c := range []struct {
		why    string
		damage func(t *testing.T, r rooted) store.RotateRootOptions
	}{
		{"a new wrap is damaged", func(t *testing.T, r rooted) store.RotateRootOptions {
			swapWraps(t, r.Path(), `SELECT next_root_id FROM reseal_state`)
			return r.all()
		}},
		{"a new wrap is missing", func(t *testing.T, r rooted) store.RotateRootOptions {
			rawSQL(t, r.Path(), `DELETE FROM reseal_master_key_wraps WHERE root_id = (SELECT next_root_id FROM reseal_state)`)
			return r.all()
		}},
		{"a new slot is missing", func(t *testing.T, r rooted) store.RotateRootOptions {
			rawSQL(t, r.Path(), `DELETE FROM reseal_unseal_slots WHERE root_id = (SELECT next_root_id FROM reseal_state) AND kind = 'key-file'`)
			return r.all()
		}},
		{"the new root key is missing", func(t *testing.T, r rooted) store.RotateRootOptions {
			rawSQL(t, r.Path(), `DELETE FROM reseal_unseal_slots WHERE root_id = (SELECT next_root_id FROM reseal_state)`,
				`DELETE FROM reseal_master_key_wraps WHERE root_id = (SELECT next_root_id FROM reseal_state)`,
				`DELETE FROM reseal_root_keys WHERE root_id = (SELECT next_root_id FROM reseal_state)`)
			return r.all()
		}},
		{"other slots are to be kept", func(t *testing.T, r rooted) store.RotateRootOptions {
			o := r.all()
			delete(o.Credentials, r.recovery)
			o.Drop = []string{r.recovery}
			return o
		}},
	} {
		t.Run(c.why, func(t *testing.T) {
			r, ctx := newRooted(t), t.Context()
			if err := store.BeginRootRotation(ctx, r.Store, r.all()); err != nil {
				t.Fatal(err)
			}
			o := c.damage(t, r)
			res, err := r.RotateRoot(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Resumed || len(res.Kept) != len(o.Credentials) {
				t.Errorf("resumed %v, kept %d slots", res.Resumed, len(res.Kept))
			}
			r.wantWorking(t, openStore(t, r.Path()))
			if n := len(wraps(t, r.Path())); n != 3+len(o.Credentials)+1 {
				t.Errorf("%d wraps are left", n)
			}
		})
	}
}

// swapWraps exchanges the bytes of two wraps under the root key that a query
// selects.
func swapWraps(t *testing.T, path, root string) {
	t.Helper()
	rawSQL(t, path, `CREATE TEMP TABLE w AS SELECT * FROM reseal_master_key_wraps WHERE root_id = (`+root+`)`,
		`DELETE FROM reseal_master_key_wraps WHERE id IN (SELECT id FROM w)`,
		`INSERT INTO reseal_master_key_wraps SELECT a.id, a.master_key_version, a.root_id,
			(SELECT wrapped FROM w AS b WHERE b.id <> a.id LIMIT 1) FROM w AS a`)
}

func TestRotateRootStopsAtDamagedKey(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	if err := store.BeginRootRotation(ctx, r.Store, r.all()); err != nil {
		t.Fatal(err)
	}
	rawSQL(t, r.Path(), `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`)
	if _, err := r.RotateRoot(ctx, r.all()); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("rotation with an altered key record: %v, want ErrDamaged", err)
	}
	// The command that the error names repairs it, and the rotation then works.
	if _, err := r.DisableKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	if err := r.EnableKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RotateRoot(ctx, r.all()); err != nil {
		t.Fatal(err)
	}
	r.wantWorking(t, r.Store)
}

func TestOlderRootIsToldToUnsealAgain(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	older := openStore(t, r.Path())
	wantValue(t, older, "app/db", "hunter2")
	if _, err := r.RotateRoot(ctx, r.all()); err != nil {
		t.Fatal(err)
	}
	_, put := older.Put(ctx, "app/db", []byte("hunter3"), nil)
	_, setKey := older.SetKey(ctx, "app/db", "default")
	_, get := older.Get(ctx, "app/mail") // needs an unwrap; app/db does not
	_, anchor := older.Anchor(ctx)
	_, add := older.AddSlot(ctx, r.file, "")
	_, again := older.RotateRoot(ctx, r.all())
	for what, err := range map[string]error{"put": put, "set-key": setKey, "get": get, "anchor": anchor, "add slot": add, "rotate root": again, "create key": older.CreateKey(ctx, "mk-2")} {
		if !errors.Is(err, store.ErrRootRotated) {
			t.Errorf("%s: %v, want ErrRootRotated", what, err)
		}
	}
	wantValue(t, r.Store, "app/db", "hunter2")
}

func TestReadersAndWritersGoOnWhileTheRootRotates(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	stop, done := make(chan struct{}), make(chan error, 4)
	for i := range 4 {
		go func() {
			done <- func() error {
				name := fmt.Sprintf("busy/%d", i)
				for n := 0; ; n++ {
					select {
					case <-stop:
						return nil
					default:
					}
					if _, err := r.Put(ctx, name, []byte{byte(n), 1}, &store.PutOptions{Key: "mk-1"}); err != nil {
						return fmt.Errorf("put %d: %w", n, err)
					}
					v, err := r.Get(ctx, name)
					if err != nil {
						return fmt.Errorf("get %d: %w", n, err)
					}
					if v.Bytes()[0] != byte(n) {
						return fmt.Errorf("get %d gave %d", n, v.Bytes()[0])
					}
					if _, err := r.Show(ctx, "app/db"); err != nil {
						return fmt.Errorf("show: %w", err)
					}
				}
			}()
		}()
	}
	for range 5 {
		if _, err := r.RotateRoot(ctx, r.all()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r.wantWorking(t, r.Store)
}

func TestRotateRootReportsLogThatAReaderHolds(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	db := must(sql.Open("sqlite", r.Path()))(t)
	defer db.Close()
	reader := must(db.Begin())(t)
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow(`SELECT count(*) FROM reseal_secrets`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	res, err := r.RotateRoot(ctx, r.all())
	if err != nil {
		t.Fatal(err)
	}
	if res.Truncated {
		t.Error("the log is said to be empty while a reader holds it")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the rotation waited %s for the reader", took)
	}
	if info := must(os.Stat(r.Path() + "-wal"))(t); info.Size() == 0 {
		t.Error("the log is empty: the test has no teeth")
	}
}

func TestKilledBetweenPhasesResumes(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	keyFile := filepath.Join(t.TempDir(), "again.key")
	again, err := store.NewKeyFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	added, err := r.AddSlot(ctx, again, "")
	if err != nil {
		t.Fatal(err)
	}
	out, err := child(t, "begin-root", r.Path(), r.daily, r.recovery, added.ID, keyFile).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("phase one is done")) {
		t.Fatalf("the child was not killed after phase one: %v\n%s", err, out)
	}
	s := openStore(t, r.Path())
	r.wantWorking(t, s)
	res, err := s.RotateRoot(ctx, store.RotateRootOptions{
		Credentials: map[string]store.Credential{r.daily: store.Passphrase([]byte(passphrase)), added.ID: again},
		Drop:        []string{r.recovery},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Resumed {
		t.Error("the rotation was begun again, not finished")
	}
	r.wantWorking(t, s)
}
