//go:build linux

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// The sweep that docs/reliability.md tells of kills at every call:
//
//	go test ./store -run KilledAtAnyWriteToDisk -act-kill-every 1 -timeout 90m -v
var actKillEvery = flag.Int("act-kill-every", 40, "TestKilledAtAnyWriteToDisk and TestVerbsKilledAtAnyWriteToDisk kill at every so many system calls")

// diskCalls are the system calls that change what is on the disk.
const diskCalls = "pwrite64,write,fsync,fdatasync,unlink,unlinkat,ftruncate,truncate,rename,renameat,renameat2,linkat"

func init() {
	children["act"] = childActs
	lockTracedChild("act")
}

// deed is what a process does in the course of which it is killed.
type deed struct {
	name string
	run  func(ctx context.Context, s *store.Store) error // again after a kill: it finishes what was begun
	done func(ctx context.Context, s *store.Store) error // nil if it is
	bare func(path string) error                         // in place of run, on the file itself
}

// childActs does one act, and says when it is acknowledged.
func childActs(ctx context.Context, args []string) error {
	fmt.Println("ready")
	a := findDeed(args[0])
	if a.bare != nil {
		return a.bare(args[1])
	}
	s, err := openActed(ctx, args[1])
	if err != nil {
		return err
	}
	if err := a.run(ctx, s); err != nil {
		return err
	}
	fmt.Println("done")
	return s.Close()
}

// openActed opens the store at a time when everything in it is past its date.
func openActed(ctx context.Context, path string) (*store.Store, error) {
	return store.Open(ctx, path, resealtest.Credential(), &store.Options{
		KDF: resealtest.KDF,
		Now: func() time.Time { return time.Now().Add(31 * oneDay) },
	})
}

func findDeed(name string) deed {
	all := slices.Concat(acts(), verbs(), splitVerbs(), bareActs(), splitActs())
	return all[slices.IndexFunc(all, func(a deed) bool { return a.name == name })]
}

func acts() []deed {
	return []deed{
		rotation("rewrap", rotate.Options{From: "mk-1", To: "mk-2", Batch: 1}),
		rotation("rewrap to the newest", rotate.Options{Key: "mk-1", Batch: 1, Fast: true}),
		rotation("reencrypt", rotate.Options{From: "mk-1", To: "mk-2", Batch: 1, Mode: rotate.Reencrypt}),
		rotation("reencrypt to the newest", rotate.Options{Key: "mk-1", Batch: 1, Mode: rotate.Reencrypt, Fast: true}),
		rotation("reencrypt a part", rotate.Options{Key: "mk-1", Batch: 2, Mode: rotate.Reencrypt, TouchedBy: 1}),
		rotation("rewrap and scrub", rotate.Options{From: "mk-1", To: "mk-2", Scrub: true}),
		{name: "scrub", run: scrub, done: scrubbed},
		{name: "root rotation", run: rotateRoot, done: rootRotated},
		{name: "destruction of a key version",
			run:  func(ctx context.Context, s *store.Store) error { return s.DestroyKeyVersion(ctx, "old", 1) },
			done: func(ctx context.Context, s *store.Store) error { return destroyed(ctx, s, "old", 1) }},
		{name: "sweep",
			run:  func(ctx context.Context, s *store.Store) error { return storetest.Err(s.Sweep(ctx, false)) },
			done: func(ctx context.Context, s *store.Store) error { return destroyed(ctx, s, "going", 1) }},
		{name: "removal of a slot", run: removeSlot, done: slotRemoved},
	}
}

func rotation(name string, o rotate.Options) deed {
	return deed{name: name,
		run: func(ctx context.Context, s *store.Store) error { return storetest.Err(rotate.Run(ctx, s, o)) },
		done: func(ctx context.Context, s *store.Store) error {
			jobs, err := s.Jobs(ctx)
			if err != nil {
				return err
			}
			if len(jobs) != 1 || jobs[0].State != store.JobComplete || o.Scrub && !jobs[0].Receipt.Residue.Clean() {
				return fmt.Errorf("jobs: %+v", jobs)
			}
			v, err := rotate.Verify(ctx, s, o)
			if err == nil && !v.OK {
				err = fmt.Errorf("not at its end: %+v", v)
			}
			return errors.Join(err, storetest.Err(rotate.VerifyReceipt(ctx, s, *jobs[0].Receipt, nil)))
		}}
}

func scrub(ctx context.Context, s *store.Store) error { return storetest.Err(s.Settle(ctx, true)) }

func scrubbed(ctx context.Context, s *store.Store) error {
	res, err := s.ScanResidue(ctx)
	if err == nil && !res.Clean() {
		err = fmt.Errorf("%+v", res)
	}
	return err
}

// rotateRoot makes a new root key, once.
func rotateRoot(ctx context.Context, s *store.Store) error {
	if rootRotated(ctx, s) == nil {
		return nil
	}
	slots, err := s.Slots(ctx)
	if err != nil {
		return err
	}
	creds := map[string]store.Credential{}
	for _, sl := range slots {
		creds[sl.ID] = resealtest.Credential()
		if sl.Kind == "key-file" {
			creds[sl.ID] = store.KeyFile(actKeyFile(s.Path()))
		}
	}
	return storetest.Err(s.RotateRoot(ctx, store.RotateRootOptions{Credentials: creds}))
}

func rootRotated(ctx context.Context, s *store.Store) error {
	rotating, err := s.RootRotating(ctx)
	if err != nil {
		return err
	}
	events, err := s.Events(ctx, store.EventFilter{})
	is := func(e store.Event) bool { return e.Action == "root-rotate" }
	if err == nil && (rotating || !slices.ContainsFunc(events, is)) {
		err = errors.New("the root key was not rotated")
	}
	return err
}

func destroyed(ctx context.Context, s *store.Store, key string, version uint64) error {
	k, err := s.Key(ctx, key)
	if err != nil {
		return err
	}
	for _, v := range k.Versions {
		if v.Version == version && v.State == store.Destroyed {
			return nil
		}
	}
	return fmt.Errorf("key %s version %d is not destroyed", key, version)
}

func removeSlot(ctx context.Context, s *store.Store) error {
	slots, err := s.Slots(ctx)
	for _, sl := range slots {
		if sl.Kind == "key-file" {
			err = s.RemoveSlot(ctx, sl.ID)
		}
	}
	return err
}

func slotRemoved(ctx context.Context, s *store.Store) error {
	slots, err := s.Slots(ctx)
	if err == nil && len(slots) != 1 {
		err = fmt.Errorf("%d slots", len(slots))
	}
	return err
}

func actKeyFile(path string) string { return filepath.Join(filepath.Dir(path), "act.key") }

// actStore is the file that every act begins with, and what is in it.
type actStore struct {
	path   string
	values map[string]string // by name and version
}

// makeActStore makes a store with versions under two keys, one of which has two
// versions; a key version and a key that nothing needs; a deleted secret; two
// slots; and what another program left in free space.
func makeActStore(t *testing.T) actStore {
	t.Helper()
	ctx := t.Context()
	a := actStore{path: filepath.Join(t.TempDir(), "reseal.db"), values: map[string]string{}}
	s := must(store.Create(ctx, a.path, resealtest.Credential(), &store.Options{KDF: resealtest.KDF}))(t)
	for _, key := range []string{"mk-1", "mk-2", "old", "going"} {
		storetest.OK(t, s.CreateKey(ctx, key))
	}
	put := func(name, value, key string) {
		res := must(s.Put(ctx, name, []byte(value), &store.PutOptions{Key: key}))(t)
		a.values[fmt.Sprintf("%s %d", name, res.Version)] = value
	}
	for round := range 2 {
		for i := range 4 {
			put(fmt.Sprint("app/", i), fmt.Sprintf("value %d of %d", round, i), "mk-1")
		}
		put("large", strings.Repeat("large ", 1000+round), "mk-1")
		must(s.RotateKey(ctx, "mk-1"))(t)
	}
	put("other", "under the target already", "mk-2")
	must(s.RotateKey(ctx, "old"))(t)
	put("purged", strings.Repeat("purged ", 3000), "mk-2")
	put("deleted", "to be swept", "mk-2")
	must(s.Purge(ctx, "purged", true))(t)
	must(s.Delete(ctx, "deleted", 7*oneDay))(t)
	must(s.ScheduleKeyDeletion(ctx, "going", 7*oneDay))(t)
	must(s.AddSlot(ctx, must(store.NewKeyFile(actKeyFile(a.path)))(t), "second"))(t)
	makeVictims(t, s)
	for _, name := range []string{"purged 1", "deleted 1"} {
		delete(a.values, name)
	}
	storetest.OK(t, s.Close())
	return a
}

// copy copies the store for one kill.
func (a actStore) copy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"reseal.db", "act.key"} {
		text := must(os.ReadFile(filepath.Join(filepath.Dir(a.path), name)))(t)
		storetest.OK(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return filepath.Join(dir, "reseal.db")
}

// whole says what is wrong with a store: a value that is another, a version
// under another key than its secret's, anything that does not verify.
func (a actStore) whole(ctx context.Context, s *store.Store) error {
	for version, want := range a.values {
		var name string
		var n uint64
		fmt.Sscan(version, &name, &n)
		got, err := s.Get(ctx, name, store.Version(n))
		if err != nil {
			return err
		}
		if string(got.Bytes()) != want {
			return fmt.Errorf("%s has another value", version)
		}
	}
	r, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
	if err == nil && (!r.OK || r.Drift != 0) {
		err = fmt.Errorf("verify: %+v", r)
	}
	return errors.Join(err, storetest.Err(s.VerifyAudit(ctx)))
}

// violation says what is wrong after a kill, if anything is.
func (a actStore) violation(ctx context.Context, act deed, path, said string) error {
	if _, err := os.Lstat(path); err != nil {
		return err
	}
	s, err := openActed(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := a.whole(ctx, s); err != nil {
		return err
	}
	if act.bare != nil {
		return nil
	}
	if strings.Contains(said, "done") {
		if err := act.done(ctx, s); err != nil {
			return fmt.Errorf("acknowledged and undone: %w", err)
		}
	}
	if err := act.run(ctx, s); err != nil {
		return fmt.Errorf("to finish it: %w", err)
	}
	if err := act.done(ctx, s); err != nil {
		return fmt.Errorf("finished: %w", err)
	}
	before, err := s.Anchor(ctx)
	if err != nil {
		return err
	}
	if err := act.run(ctx, s); err != nil {
		return fmt.Errorf("once more: %w", err)
	}
	after, err := s.Anchor(ctx)
	if err == nil && before != after {
		err = errors.New("once more changed the store")
	}
	if err != nil {
		return err
	}
	return errors.Join(a.whole(ctx, s), a.opensByFile(ctx, act, path))
}

// opensByFile checks that the other slot opens too, unless it was removed.
func (a actStore) opensByFile(ctx context.Context, act deed, path string) error {
	s, err := store.Open(ctx, path, store.KeyFile(actKeyFile(path)), nil)
	if act.name == "removal of a slot" {
		if errors.Is(err, store.ErrUnseal) {
			return nil
		}
		err = fmt.Errorf("the slot that was removed: %v", err)
	}
	if err != nil {
		return err
	}
	return s.Close()
}

// sweep kills the act at every so many of its calls that change the disk,
// beginning somewhere among the first so many.
func (a actStore) sweep(t *testing.T, act deed, every, begin int) (kills int, acknowledged int, wrong []string) {
	t.Helper()
	all := tracedCalls(t, diskCalls, "act", act.name, a.copy(t))
	for i := begin % min(every, len(all)); i < len(all); i += every {
		path := a.copy(t)
		said, ended := killedAt(t, all[i], "act", act.name, path)
		if ended {
			continue // it made fewer of them this time
		}
		kills++
		if strings.Contains(said, "done") {
			acknowledged++
		}
		if err := a.violation(t.Context(), act, path, said); err != nil {
			wrong = append(wrong, fmt.Sprintf("killed at %s number %d, call %d of %d: %v", all[i].name, all[i].nth, i+1, len(all), err))
		}
		storetest.OK(t, os.RemoveAll(filepath.Dir(path)))
	}
	return kills, acknowledged, wrong
}

// sweepAll kills each act at every so many calls, and wants nothing to be wrong.
// Each begins some calls later than the one before it, so that those whose first
// calls are the same are killed at different ones.
func sweepAll(t *testing.T, all []deed, later int) {
	t.Helper()
	needStrace(t)
	a := makeActStore(t)
	total := 0
	for i, act := range all {
		t.Run(act.name, func(t *testing.T) {
			kills, acknowledged, wrong := a.sweep(t, act, *actKillEvery, later*i)
			for _, w := range wrong {
				t.Error(w)
			}
			if kills == 0 {
				t.Error("nothing was killed")
			}
			t.Logf("%d kills, %d after it was acknowledged, %d wrong", kills, acknowledged, len(wrong))
			total += kills
		})
	}
	t.Logf("%d kills", total)
}

// A process that is killed at any of its calls that change the disk, in the
// course of what takes several transactions, has lost nothing and finishes it.
func TestKilledAtAnyWriteToDisk(t *testing.T) { sweepAll(t, acts(), 0) }

// bareActs are what the sweep has to find wrong.
func bareActs() []deed {
	return []deed{
		{name: "scrub by replacing the file", bare: func(path string) error {
			db, err := sql.Open("sqlite", path)
			if err == nil {
				_, err = db.Exec(`VACUUM INTO ?`, path+".new")
			}
			return errors.Join(err, db.Close(), os.Remove(path), os.Rename(path+".new", path))
		}},
		{name: "rows anew, statement by statement", bare: func(path string) error {
			db, err := sql.Open("sqlite", path)
			for _, statement := range []string{
				`CREATE TABLE data_keys AS SELECT * FROM reseal_data_keys`,
				`DELETE FROM reseal_data_keys`,
				`INSERT INTO reseal_data_keys SELECT * FROM data_keys`,
				`DROP TABLE data_keys`,
			} {
				if err == nil {
					_, err = db.Exec(statement)
				}
			}
			return errors.Join(err, db.Close())
		}},
	}
}

// The sweep has teeth: a file that is replaced in two steps, and rows that are
// written anew in two transactions, are found wrong after a kill, and not when
// nobody kills.
func TestKillSweepFindsActsInTwoSteps(t *testing.T) {
	needStrace(t)
	a := makeActStore(t)
	for _, act := range bareActs() {
		t.Run(act.name, func(t *testing.T) {
			path := a.copy(t)
			if said, ended := traced(t, []string{"-o", "/dev/null", "-e", "trace=fsync"}, "act", act.name, path); !ended {
				t.Fatal(said)
			}
			if err := a.violation(t.Context(), act, path, ""); err != nil {
				t.Fatalf("without a kill: %v", err)
			}
			kills, _, wrong := a.sweep(t, act, 1, 0)
			if len(wrong) == 0 {
				t.Errorf("%d kills, and nothing was wrong", kills)
				return
			}
			t.Logf("%d kills, %d wrong, the first: %s", kills, len(wrong), wrong[0])
		})
	}
}
