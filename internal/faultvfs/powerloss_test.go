package faultvfs_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/faultvfs"
	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The sweep that docs/reliability.md tells of:
//
//	go test ./internal/faultvfs -run PowerLoss -crashes 10000 -timeout 60m -v
var crashes = flag.Int("crashes", 60, "how many states after a power loss TestPowerLoss looks at, per course of operations")

// stage is a moment that was acknowledged: what the store is from then on.
type stage struct {
	state   []string
	parts   bool // what leads to the next stage is several transactions
	between []string
	next    string
}

// course runs operations one after the other on a store in a folder, which is
// closed and opened again in the middle.
func course(t testing.TB, folder string, names []string) (*faultvfs.Log, []stage) {
	t.Helper()
	ctx := context.Background()
	var stages []stage
	log, err := faultvfs.Record(folder, func(log *faultvfs.Log) {
		s, err := openIn(ctx, folder)
		storetest.OK(t, err)
		for i, name := range names {
			state, err := dump(ctx, s)
			storetest.OK(t, err)
			o := operationNamed(name)
			stages = append(stages, stage{state, o.parts, o.between, name})
			if err := o.run(ctx, s, folder); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			log.Ack()
			if i%5 == 4 {
				storetest.OK(t, s.Close())
				s, err = openIn(ctx, folder)
				storetest.OK(t, err)
			}
		}
		state, err := dump(ctx, s)
		storetest.OK(t, errors.Join(err, s.Close()))
		stages = append(stages, stage{state: state})
	})
	storetest.OK(t, err)
	return log, stages
}

// fits says what is wrong with a state in which so many stages were
// acknowledged.
func fits(stages []stage, acks int, got []string) error {
	now := stages[acks]
	if slices.Equal(got, now.state) {
		return nil
	}
	if acks+1 == len(stages) {
		return errors.New("what was acknowledged is not there: " + difference(now.state, got))
	}
	o := operation{before: now.state, result: stages[acks+1].state, parts: now.parts, between: now.between}
	if err := o.judge(got, context.Canceled); err != nil {
		return fmt.Errorf("before %s was acknowledged: %w", now.next, err)
	}
	return nil
}

// lose looks at n states that a power loss could have left, spread over the
// moments of the log from one on.
func lose(t testing.TB, log *faultvfs.Log, from, n int, seed uint64, look func(folder string, acks int) error) (wrong []string) {
	t.Helper()
	for i := range n {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		span := log.Events() - from
		after := from + i%(span+1)
		if n <= span {
			after = from + i*span/max(1, n-1)
		}
		folder := files{}.in(t)
		acks, err := log.Crash(after, folder, r)
		storetest.OK(t, err)
		if err := look(folder, acks); err != nil {
			wrong = append(wrong, fmt.Sprintf("power lost after event %d of %d, state %d of seed %d: %v", after, log.Events(), i, seed, err))
		}
		os.RemoveAll(folder)
	}
	return wrong
}

// The power fails at every moment of a course of operations, and what was not
// synced is lost, reordered and torn. Every acknowledged change is there, none is
// there in half.
func TestPowerLoss(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	base := baseStore(t)
	for _, names := range [][]string{
		{"put", "put new", "rotate value", "put many", "label", "set-key", "put twice in a transaction", "tag", "key rotate", "key enable", "prune", "restore", "key create", "delete", "purge", "key destroy-version", "unseal add", "prune all"},
		{"put", "rotate to the newest version", "put new", "reencrypt to the newest version", "backup", "sweep", "rotate fast and scrub", "put", "rotate from key to key", "rotate root", "put many", "label", "put"},
	} {
		t.Run(names[1], func(t *testing.T) {
			folder := base.in(t)
			defer os.RemoveAll(folder)
			log, stages := course(t, folder, names)
			wrong := lose(t, log, 0, *crashes, 1, func(folder string, acks int) error {
				got, err := checked(context.Background(), folder)
				if err != nil {
					return err
				}
				return fits(stages, acks, got)
			})
			for _, w := range wrong {
				t.Error(w)
			}
			t.Logf("%d states at %d moments", *crashes, log.Events())
		})
	}
}

// Opening a store of an older schema migrates it.
func TestPowerLossWhileMigrating(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	o := operationNamed("migrate")
	o.prepare(t, nil)
	folder := o.base.in(t)
	defer os.RemoveAll(folder)
	log, err := faultvfs.Record(folder, func(*faultvfs.Log) { storetest.OK(t, o.run(context.Background(), nil, folder)) })
	storetest.OK(t, err)
	n := *crashes / 4
	for _, w := range lose(t, log, 0, n, 2, func(folder string, _ int) error {
		got, err := checked(context.Background(), folder)
		if err == nil && !slices.Equal(got, o.result) {
			err = errors.New(difference(o.result, got))
		}
		return err
	}) {
		t.Error(w)
	}
	t.Logf("%d states at %d moments", n, log.Events())
}

// What gets the new store's name is on the disk by then.
func TestPowerLossAfterCreate(t *testing.T) {
	ctx := context.Background()
	folder := files{}.in(t)
	defer os.RemoveAll(folder)
	named := 0
	log, err := faultvfs.Record(folder, func(log *faultvfs.Log) {
		s, err := store.Create(ctx, filepath.Join(folder, fileName), resealtest.Credential(), options(later))
		storetest.OK(t, err)
		log.Ack()
		named = log.Events()
		storetest.OK(t, s.Close())
	})
	storetest.OK(t, err)
	for _, w := range lose(t, log, named, max(20, *crashes/10), 3, func(folder string, _ int) error {
		built, _ := filepath.Glob(filepath.Join(folder, ".reseal.db.creating-????????"))
		if len(built) != 1 {
			return errors.New("the file is not there")
		}
		storetest.OK(t, os.Rename(built[0], filepath.Join(folder, fileName))) // its log does not come along
		_, err := checked(ctx, folder)
		return err
	}) {
		t.Error(w)
	}
}

// Acknowledged puts are lost with synchronous OFF, and with NORMAL, and not with
// FULL: the sweep sees what it looks for.
func TestPowerLossFindsWeakSettings(t *testing.T) {
	for _, c := range []struct {
		synchronous string
		loses       bool
	}{{"OFF", true}, {"NORMAL", true}, {"FULL", false}} {
		t.Run(c.synchronous, func(t *testing.T) {
			folder := files{}.in(t)
			defer os.RemoveAll(folder)
			made := func() { // on a disk that is left alone
				db := hostDB(t, folder, "FULL")
				s, err := store.Init(context.Background(), db, resealtest.Credential(), options(later))
				storetest.OK(t, errors.Join(err, s.Close(), db.Close()))
			}
			made()
			log, err := faultvfs.Record(folder, func(log *faultvfs.Log) { putInHost(t, folder, c.synchronous, log) })
			storetest.OK(t, err)
			wrong := lose(t, log, 0, 120, 4, func(folder string, acks int) error { return hostHas(t, folder, acks) })
			if (len(wrong) > 0) != c.loses {
				t.Errorf("%d states are wrong, want some: %v: %s", len(wrong), c.loses, strings.Join(wrong[:min(3, len(wrong))], "; "))
			}
			t.Logf("%d of 120 states are wrong", len(wrong))
		})
	}
}

func hostDB(t testing.TB, folder, synchronous string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "host.db")+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(WAL)&_pragma=synchronous("+synchronous+")&_txlock=immediate")
	storetest.OK(t, err)
	db.SetMaxOpenConns(2)
	return db
}

func weakOptions() *store.Options {
	o := options(later)
	o.AllowWeakDurability = true
	return o
}

const hostPuts = 10

func putInHost(t testing.TB, folder, synchronous string, log *faultvfs.Log) {
	t.Helper()
	ctx := context.Background()
	db := hostDB(t, folder, synchronous)
	defer db.Close()
	s, err := store.New(ctx, db, resealtest.Credential(), weakOptions())
	storetest.OK(t, err)
	defer s.Close()
	for i := range hostPuts {
		storetest.OK(t, storetest.Err(s.Put(ctx, fmt.Sprintf("app/%d", i), []byte("value"), nil)))
		log.Ack()
	}
}

// hostHas says which acknowledged put is not there.
func hostHas(t testing.TB, folder string, acks int) error {
	t.Helper()
	ctx := context.Background()
	db := hostDB(t, folder, "FULL")
	defer db.Close()
	s, err := store.New(ctx, db, resealtest.Credential(), weakOptions())
	if err != nil {
		return err
	}
	defer s.Close()
	for i := range acks {
		v, err := s.Get(ctx, fmt.Sprintf("app/%d", i))
		if err != nil || string(v.Bytes()) != "value" {
			return fmt.Errorf("app/%d: %w", i, err)
		}
	}
	return nil
}
