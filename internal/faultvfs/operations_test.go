package faultvfs_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/faultvfs"
	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// operation is one thing that a program does with a store.
type operation struct {
	name string
	run  func(ctx context.Context, s *store.Store, folder string) error

	reads   bool     // changes nothing that is dumped
	parts   bool     // is several transactions, each whole
	between []string // what is so between them only
	anew    bool     // copies all of the file, or writes it anew
	bare    bool     // opens or makes the store itself: run gets none
	spoil   string   // damages the store first, as SQL
	from    func(t testing.TB) files
	after   func(t testing.TB, folder string, err error) error

	base   files
	kinds  []faultvfs.Kind // of its calls
	before []string
	result []string // of a run without a fault
}

const backupName = "backup.db"

func operations() []*operation {
	return slices.Concat(secretOperations(), keyOperations(), rotations(), wholeOperations(), readings(), repairs(), hostOperations())
}

type (
	ctxT = context.Context
	st   = *store.Store
)

func secretOperations() []*operation {
	return []*operation{
		{name: "put", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Put(ctx, "app/db", []byte("six"), nil)) }},
		{name: "put new", run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(s.Put(ctx, "new/large", make([]byte, 30_000), &store.PutOptions{Token: "t", Tags: map[string]string{"k": "v"}}))
		}},
		{name: "put twice in a transaction", run: func(ctx ctxT, s st, _ string) error {
			return s.Update(ctx, func(tx *sql.Tx) error {
				_, err := s.PutTx(ctx, tx, "app/db", []byte("six"), nil)
				_, again := s.PutTx(ctx, tx, "app/mail", []byte("three"), nil)
				return errors.Join(err, again)
			})
		}},
		{name: "put many", run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(s.PutMany(ctx, []store.Item{
				store.NewItem("app/db", []byte("six"), nil),
				store.NewItem("new/many", make([]byte, 10_000), &store.PutOptions{Token: "t", Tags: map[string]string{"k": "v"}}),
				store.NewItem("app/mail", []byte("three"), nil),
				store.NewItem("app/db", []byte("seven"), &store.PutOptions{Label: store.LabelPending}),
			}))
		}},
		{name: "get many", reads: true, run: func(ctx ctxT, s st, _ string) error {
			values, err := s.GetMany(ctx, []string{"app/db", "app/large", "app/mail"})
			if err == nil && (len(values) != 3 || string(values[2].Bytes()) != "app/mail value 2") {
				return errWrongValue
			}
			return err
		}},
		{name: "get", reads: true, run: func(ctx ctxT, s st, _ string) error {
			v, err := s.Get(ctx, "app/db", store.Label("custom"))
			if err == nil && string(v.Bytes()) != "app/db value 2" {
				return errWrongValue
			}
			return err
		}},
		{name: "get large", reads: true, run: func(ctx ctxT, s st, _ string) error {
			v, err := s.Get(ctx, "app/large")
			if err == nil && len(v.Bytes()) != 18_000 {
				return errWrongValue
			}
			return err
		}},
		{name: "get what is not there", reads: true, run: func(ctx ctxT, s st, _ string) error {
			_, err := s.Get(ctx, "app/none")
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			return err
		}},
		{name: "show", reads: true, run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Show(ctx, "app/db")) }},
		{name: "list", reads: true, run: func(ctx ctxT, s st, _ string) error {
			list, err := s.List(ctx, store.ListOptions{})
			if err == nil && len(list) != 3 {
				return errWrongValue
			}
			return err
		}},
		{name: "set-key", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.SetKey(ctx, "app/db", "mk-2")) }},
		{name: "label", run: func(ctx ctxT, s st, _ string) error { return s.SetLabel(ctx, "app/db", "current", 1) }},
		{name: "label remove", run: func(ctx ctxT, s st, _ string) error { return s.RemoveLabel(ctx, "app/db", "custom") }},
		{name: "tag", run: func(ctx ctxT, s st, _ string) error {
			return s.SetTags(ctx, "app/large", map[string]string{"team": "blue", "k": "v"})
		}},
		{name: "delete", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Delete(ctx, "app/db", 0)) }},
		{name: "restore", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Restore(ctx, "app/deleted")) }},
		{name: "purge", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Purge(ctx, "app/deleted", true)) }},
		{name: "prune", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Prune(ctx, "app/db", 0)) }},
		{name: "prune all", parts: true, run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.PruneAll(ctx, 0)) }},
		{name: "rotate value", parts: true, between: []string{"app/mail pending is 3"}, run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(rotate.Value(ctx, s, "app/mail", rotator{}))
		}},
	}
}

// rotator makes a new value that is used nowhere.
type rotator struct{}

func (rotator) Create(context.Context, rotate.Step) ([]byte, error) { return []byte("rotated"), nil }
func (rotator) Set(context.Context, rotate.Step) error              { return nil }
func (rotator) Test(context.Context, rotate.Step) error             { return nil }
func (rotator) Finish(context.Context, rotate.Step) error           { return nil }

func keyOperations() []*operation {
	return []*operation{
		{name: "key create", run: func(ctx ctxT, s st, _ string) error { return s.CreateKey(ctx, "mk-3") }},
		{name: "key rotate", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.RotateKey(ctx, "mk-1")) }},
		{name: "key rotate if older", run: func(ctx ctxT, s st, _ string) error {
			_, rotated, err := s.RotateKeyOlder(ctx, "mk-1", 24*time.Hour)
			if err == nil && !rotated {
				return errors.New("the key was not rotated")
			}
			return err
		}},
		{name: "key destroy-version", run: func(ctx ctxT, s st, _ string) error { return s.DestroyKeyVersion(ctx, "spare", 1) }},
		{name: "key disable", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.DisableKey(ctx, "mk-1")) }},
		{name: "key enable", run: func(ctx ctxT, s st, _ string) error { return s.EnableKey(ctx, "off") }},
		{name: "key delete", run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.ScheduleKeyDeletion(ctx, "spare", 0)) }},
		{name: "key cancel-deletion", run: func(ctx ctxT, s st, _ string) error { return s.CancelKeyDeletion(ctx, "due") }},
		{name: "key set-default", run: func(ctx ctxT, s st, _ string) error { return s.SetDefaultKey(ctx, "mk-1") }},
		{name: "unseal add", run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(s.AddSlot(ctx, store.Passphrase([]byte("another")), "recovery"))
		}},
		{name: "unseal remove", run: func(ctx ctxT, s st, _ string) error {
			slots, err := s.Slots(ctx)
			if err != nil {
				return err
			}
			return s.RemoveSlot(ctx, slots[len(slots)-1].ID)
		}},
		{name: "rotate root", run: func(ctx ctxT, s st, _ string) error {
			slots, err := s.Slots(ctx)
			if err != nil {
				return err
			}
			creds := map[string]store.Credential{}
			for _, sl := range slots {
				creds[sl.ID] = resealtest.Credential()
			}
			return storetest.Err(s.RotateRoot(ctx, store.RotateRootOptions{Credentials: creds}))
		}},
	}
}

func rotations() []*operation {
	newest := func(o rotate.Options) func(ctxT, st, string) error {
		return func(ctx ctxT, s st, _ string) error {
			_, err := s.RotateKey(ctx, "mk-1")
			if err == nil {
				_, err = rotate.Run(ctx, s, o)
			}
			return err
		}
	}
	return []*operation{
		{name: "rotate from key to key", parts: true, run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(rotate.Run(ctx, s, rotate.Options{From: "mk-1", To: "mk-2", Batch: 3, Pause: -1}))
		}},
		{name: "rotate to the newest version", parts: true, run: newest(rotate.Options{Key: "mk-1", Batch: 3, Pause: -1})},
		{name: "rotate fast and scrub", parts: true, anew: true, run: newest(rotate.Options{Key: "mk-1", Batch: 3, Pause: -1, Fast: true, Scrub: true})},
		{name: "reencrypt from key to key", parts: true, run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(rotate.Run(ctx, s, rotate.Options{From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt, Batch: 3, Pause: -1}))
		}},
		{name: "reencrypt to the newest version", parts: true, run: newest(rotate.Options{Key: "mk-1", Mode: rotate.Reencrypt, Batch: 3, Pause: -1})},
		{name: "pause, resume and cancel a rotation", reads: true, run: func(ctx ctxT, s st, _ string) error {
			r, err := s.StartRotation(ctx, store.RotationSpec{From: "mk-1", To: "mk-2"})
			if err != nil {
				return err
			}
			for _, steer := range []func(context.Context, string) error{s.PauseJob, s.ResumeJob, s.CancelJob} {
				if err := steer(ctx, r.Job().ID); err != nil {
					return err
				}
			}
			jobs, err := s.Jobs(ctx)
			if err == nil && (len(jobs) != 1 || jobs[0].State != store.JobCancelled) {
				return fmt.Errorf("jobs are %+v", jobs)
			}
			return err
		}},
	}
}

func wholeOperations() []*operation {
	return []*operation{
		{name: "sweep", parts: true, run: func(ctx ctxT, s st, _ string) error {
			report, err := s.Sweep(ctx, false)
			if err == nil && len(report.Skipped) > 0 {
				return fmt.Errorf("sweep skipped %+v", report.Skipped)
			}
			return err
		}},
		{name: "backup", reads: true, after: backupIsWhole, run: func(ctx ctxT, s st, folder string) error {
			return storetest.Err(s.Backup(ctx, filepath.Join(folder, backupName)))
		}},
		{name: "verify", reads: true, run: func(ctx ctxT, s st, _ string) error {
			report, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
			if err == nil && !report.OK {
				return fmt.Errorf("verify found %+v", report.Failures)
			}
			return err
		}},
		{name: "scrub", reads: true, anew: true, run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Settle(ctx, true)) }},
		{name: "open", bare: true, reads: true, run: func(ctx ctxT, _ st, folder string) error {
			s, err := openIn(ctx, folder)
			if err != nil {
				return err
			}
			return s.Close()
		}},
		{name: "create", bare: true, base: files{}, run: func(ctx ctxT, _ st, folder string) error {
			s, err := store.Create(ctx, filepath.Join(folder, fileName), resealtest.Credential(), options(later))
			if err != nil {
				return err
			}
			return s.Close()
		}},
		{name: "migrate", bare: true, parts: true, run: func(ctx ctxT, _ st, folder string) error {
			s, err := openIn(ctx, folder)
			if err != nil {
				return err
			}
			return s.Close()
		}},
	}
}

var errWrongValue = errors.New("a wrong value was given")

// prepare fills in what the operation begins with and ends with.
func (o *operation) prepare(t testing.TB, base files) {
	t.Helper()
	switch {
	case o.name == "migrate":
		data, err := os.ReadFile("../../store/testdata/released/schema-00001.db")
		storetest.OK(t, err)
		o.base = files{fileName: data}
	case o.from != nil:
		o.base = o.from(t)
	case o.base == nil:
		o.base = spoiled(t, base, o.spoil)
	}
	ctx := context.Background()
	folder := o.base.in(t)
	defer os.RemoveAll(folder)
	if o.name != "migrate" { // looking at it migrates it, which changes nothing that is dumped
		var err error
		o.before, err = o.checked(ctx, folder)
		storetest.OK(t, err)
	}
	err, _ := o.in(ctx, folder, func(fn func()) { fn() })
	storetest.OK(t, err)
	o.result, err = o.checked(ctx, folder)
	storetest.OK(t, err)
	if o.name == "migrate" {
		o.before = o.result
	}
	if same := slices.Equal(o.before, o.result); same && !o.reads && o.name != "migrate" && o.name != "rotate root" {
		t.Fatalf("%s changes nothing that is seen", o.name)
	}
}

// in runs the operation in a folder; during is called with what is to be
// watched: all but the opening of the store. When it failed, the same handle has
// to go on: handle says why it does not.
func (o *operation) in(ctx context.Context, folder string, during func(func())) (err, handle error) {
	if o.bare {
		during(func() { err = o.run(ctx, nil, folder) })
		return err, nil
	}
	s, err := openIn(ctx, folder)
	if err != nil {
		return err, nil
	}
	defer s.Close()
	during(func() { err = o.run(ctx, s, folder) })
	if err == nil {
		return nil, nil
	}
	got, handle := o.dump(ctx, s)
	if handle == nil {
		handle = o.judge(got, err)
	}
	return err, handle
}

// judge says what is wrong with a store after the operation ended with err.
func (o *operation) judge(got []string, err error) error {
	switch {
	case err == nil && !slices.Equal(got, o.result):
		return errors.New("what was acknowledged is not there: " + difference(o.result, got))
	case err == nil || slices.Equal(got, o.before) || slices.Equal(got, o.result):
		return nil
	case !o.parts:
		return errors.New("half of it is there: " + difference(o.before, got))
	}
	for _, line := range got {
		if !slices.Contains(slices.Concat(o.before, o.result, o.between), line) {
			return errors.New("there is what never was: " + line)
		}
	}
	for _, line := range o.before {
		if slices.Contains(o.result, line) && !slices.Contains(got, line) {
			return errors.New("there is no more: " + line)
		}
	}
	return nil
}

func difference(want, got []string) string {
	text := ""
	for _, l := range want {
		if !slices.Contains(got, l) {
			text += " -" + l
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			text += " +" + l
		}
	}
	return text
}

// backupIsWhole: an acknowledged backup is a whole store, one that failed is not
// there.
func backupIsWhole(t testing.TB, folder string, err error) error {
	t.Helper()
	path := filepath.Join(folder, backupName)
	_, missing := os.Lstat(path)
	if err != nil {
		if missing == nil {
			return errors.New("a backup that failed has its name")
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := store.Open(ctx, path, resealtest.Credential(), options(later))
	if err != nil {
		return err
	}
	defer s.Close()
	report, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
	if err == nil && !report.OK {
		err = errFound
	}
	return err
}
