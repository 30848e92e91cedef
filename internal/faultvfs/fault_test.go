package faultvfs_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/faultvfs"
	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// The sweep that docs/reliability.md tells of fails every call:
//
//	go test ./internal/faultvfs -run TestEveryCallMayFail -fault-every 1 -timeout 60m -v
//
// Much of that is waiting for locks: several processes, each with some of the
// operations, take less time.
var (
	faultEvery = flag.Int("fault-every", 997, "TestEveryCallMayFail tries every so many faults")
	faultFirst = flag.Int("fault-first", 0, "which of the first so many it begins with")
)

// tally is what came of some faults.
type tally struct {
	faults, acknowledged, refused, found int
	wrong                                []string
}

func (s *tally) add(o *tally) {
	s.faults, s.acknowledged, s.refused = s.faults+o.faults, s.acknowledged+o.acknowledged, s.refused+o.refused
	s.found += o.found
	s.wrong = append(s.wrong, o.wrong...)
}

// plans lists every fault that can happen to an operation which makes these
// calls.
func plans(calls []faultvfs.Kind, hows func(faultvfs.Kind) []faultvfs.How) []faultvfs.Plan {
	var all []faultvfs.Plan
	for i, k := range calls {
		for _, how := range hows(k) {
			all = append(all, faultvfs.Plan{At: i + 1, How: how})
			if k == faultvfs.ShmLock && how == faultvfs.Busy {
				continue // SQLite tries for ten seconds each time
			}
			all = append(all, faultvfs.Plan{At: i + 1, How: how, Sticky: true})
		}
	}
	return all
}

// try runs the operation with one fault and says what was wrong then.
func (o *operation) try(t testing.TB, p faultvfs.Plan, r *tally) {
	ctx := context.Background()
	folder := o.base.in(t)
	defer os.RemoveAll(folder)
	fired := 0
	began := time.Now()
	err, handle := o.in(ctx, folder, func(fn func()) { fired = faultvfs.Inject(p, fn) })
	took := time.Since(began)
	if fired == 0 {
		return // it made fewer calls this time
	}
	r.faults++
	complain := func(format string, args ...any) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s, %s: %s (ended with %v)", o.name, p, fmt.Sprintf(format, args...), err))
	}
	if err == nil {
		r.acknowledged++
	} else {
		r.refused++
	}
	if errors.Is(err, errWrongValue) {
		complain("a wrong value")
	}
	// SQLite remembers that it read nothing until the store is opened again.
	if handle != nil && !(p.How == faultvfs.Short && (errors.Is(handle, store.ErrDamaged) || errors.Is(handle, store.ErrNotAStore))) {
		complain("the handle does not go on: %v", handle)
	}
	if unclear := unclearError(p.How, err); unclear != "" {
		complain("%s", unclear)
	}
	if took > time.Minute {
		complain("it took %v", took)
	}
	// SQLite takes a page of which nothing is read for one of zeros. No disk does
	// this; where all of the file is written anew it stays so, and verify tells.
	misread := o.anew && p.How == faultvfs.Short && (p.Sticky || o.kinds[p.At-1] == faultvfs.Read)
	if o.after != nil {
		aerr := o.after(t, folder, err)
		if misread && errors.Is(aerr, errFound) {
			r.found++
			return
		}
		if aerr != nil {
			complain("%v", aerr)
		}
	}
	if left := leftBehind(folder); left != "" {
		complain("left behind: %s", left)
	}
	got, cerr := o.checked(ctx, folder)
	if misread && errors.Is(cerr, errFound) {
		r.found++
		return
	}
	if cerr == nil {
		cerr = o.judge(got, err)
	}
	if cerr != nil {
		complain("%v", cerr)
	}
}

// unclearError says why an error would mislead its reader, or "".
func unclearError(how faultvfs.How, err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if text == "" || strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
		return "the error is unclear"
	}
	for _, misleading := range []error{store.ErrNotFound, store.ErrUnseal, store.ErrInvalid, store.ErrDeleted, store.ErrDependents, store.ErrSchemaNewer,
		store.ErrClosed, store.ErrReplaced, store.ErrRolledBack, store.ErrTokenConflict, store.ErrSealed, store.ErrRootRotated} {
		if errors.Is(err, misleading) {
			return "the error misleads"
		}
	}
	if how != faultvfs.Short && (errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrNotAStore) || errors.Is(err, store.ErrSchemaAltered)) {
		return "the error speaks of damage"
	}
	return ""
}

var ours = regexp.MustCompile(`^(reseal|backup)\.db(-wal|-shm|-journal|\.schema-1-.*\.backup|\.migrate-lock|\.replaced-[0-9TZ.]+(-wal|-shm)?)?$`)

// leftBehind names files that nobody knows of.
func leftBehind(folder string) string {
	names, _ := filepath.Glob(filepath.Join(folder, "*"))
	hidden, _ := filepath.Glob(filepath.Join(folder, ".*"))
	for _, n := range append(names, hidden...) {
		if !ours.MatchString(filepath.Base(n)) {
			return filepath.Base(n)
		}
	}
	return ""
}

// calls lists the calls of the operation.
func (o *operation) calls(t testing.TB) (calls []faultvfs.Kind) {
	folder := o.base.in(t)
	defer os.RemoveAll(folder)
	err, _ := o.in(context.Background(), folder, func(fn func()) { calls = faultvfs.Count(fn) })
	storetest.OK(t, err)
	o.kinds = calls
	return calls
}

// Every operation runs once for each of its calls to the file system and each
// way in which that can fail. It ends with a clear error or with what it was to
// do; the store in memory goes on, the file opens and verifies, and has the state
// before or after.
func TestEveryCallMayFail(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	base := baseStore(t)
	var all tally
	ways := 0
	for _, o := range operations() {
		t.Run(o.name, func(t *testing.T) {
			o.prepare(t, base)
			calls := o.calls(t)
			list := plans(calls, faultvfs.Kind.Hows)
			var r tally
			for i := (ways + *faultFirst) % *faultEvery; i < len(list); i += *faultEvery {
				o.try(t, list[i], &r)
			}
			ways += len(list)
			for _, w := range r.wrong {
				t.Error(w)
			}
			t.Logf("%d calls, %d of %d faults, %d refused, %d done all the same, %d damaged and found by verify", len(calls), r.faults, len(list), r.refused, r.acknowledged, r.found)
			all.add(&r)
		})
	}
	t.Logf("%d faults of %d, %d refused, %d done all the same, %d damaged and found by verify", all.faults, ways, all.refused, all.acknowledged, all.found)
	if all.refused == 0 || all.acknowledged == 0 {
		t.Error("the faults do not reach the store")
	}
}

// A new store whose log could not be moved into its file must not get its name:
// the log stays behind.
func TestCreateIsWholeWhenItsLogIsStuck(t *testing.T) {
	r := operationNamed("create").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		return faultvfs.Plan{At: i, How: faultvfs.IOError}, (k == faultvfs.Write || k == faultvfs.Sync) && i > last/4 && i%4 == 0
	})
	if r.refused < 5 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

// A copy that could not be read is not a damaged store.
func TestUnreadableCopyIsNotDamage(t *testing.T) {
	r := operationNamed("backup").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		return faultvfs.Plan{At: i, How: faultvfs.IOError, Sticky: true}, k == faultvfs.Read && i > last*2/3 && i%3 == 0
	})
	if r.refused < 5 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

// A page of which nothing was read while it was copied is not in a backup as one
// of zeros.
func TestMisreadPageIsNotInABackup(t *testing.T) {
	r := operationNamed("backup").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		return faultvfs.Plan{At: i, How: faultvfs.Short}, k == faultvfs.Read && i < last/2
	})
	if r.refused < 5 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

// An anchor that could not be compared is no older store.
func TestUnreadableTrailIsNoRollback(t *testing.T) {
	r := operationNamed("anchor").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		return faultvfs.Plan{At: i, How: faultvfs.IOError}, k == faultvfs.Read && i > last/2
	})
	if r.refused < 3 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

// An update whose transaction a disk has ended before it was the caller's does
// not run the caller's statements.
func TestUnreadableSchemaEndsUpdate(t *testing.T) {
	r := operationNamed("host update").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		return faultvfs.Plan{At: i, How: faultvfs.IOError}, k == faultvfs.Read && i > last/2
	})
	if r.refused < 2 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

// A get in a caller's transaction that a disk has ended does not go on outside of
// it.
func TestUnreadablePageEndsGet(t *testing.T) {
	r := operationNamed("host get").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		return faultvfs.Plan{At: i, How: faultvfs.IOError}, k == faultvfs.Read
	})
	if r.refused < 5 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

// A migration's copy leaves nothing behind when it fails on a disk on which
// SQLite itself can remove nothing.
func TestFailedCopyLeavesNothing(t *testing.T) {
	writes := 0
	r := operationNamed("migrate").tryCalls(t, func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool) {
		if k == faultvfs.Write {
			writes++
		}
		return faultvfs.Plan{At: i, How: faultvfs.IOError, Sticky: true}, k == faultvfs.Write && writes%30 == 15
	})
	if r.refused == 0 {
		t.Errorf("only %d faults reached the store", r.refused)
	}
}

func operationNamed(name string) *operation {
	for _, o := range operations() {
		if o.name == name {
			return o
		}
	}
	panic("no operation " + name)
}

// tryCalls tries the plans that which chooses by a call's number, its kind, and
// the number of the last one.
func (o *operation) tryCalls(t *testing.T, which func(i int, k faultvfs.Kind, last int) (faultvfs.Plan, bool)) (r tally) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	o.prepare(t, baseStore(t))
	calls := o.calls(t)
	for i, k := range calls {
		if p, chosen := which(i+1, k, len(calls)); chosen {
			o.try(t, p, &r)
		}
	}
	for _, w := range r.wrong {
		t.Error(w)
	}
	return r
}

// A disk that says that it wrote and did not is found out: the sweep sees what
// it looks for.
func TestFaultSweepFindsLies(t *testing.T) {
	o := secretOperations()[0]
	o.prepare(t, baseStore(t))
	var r tally
	for _, p := range plans(o.calls(t), func(k faultvfs.Kind) []faultvfs.How {
		if k == faultvfs.Write {
			return []faultvfs.How{faultvfs.Lie}
		}
		return nil
	}) {
		o.try(t, p, &r)
	}
	t.Logf("%d lies, %d found out", r.faults, len(r.wrong))
	if len(r.wrong) == 0 {
		t.Error("no lie was found out")
	}
}
