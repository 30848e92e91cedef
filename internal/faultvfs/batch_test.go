package faultvfs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/faultvfs"
	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// A batch of a rotation that meets a page which cannot be read changes nothing:
// a data key that was replaced without its value would be the end of that value.
func TestUnreadablePageEndsABatch(t *testing.T) {
	base, before := manyVersions(t)
	for _, spec := range []store.RotationSpec{
		{From: "many", To: "many"},
		{From: "many", To: "many", Mode: store.ModeReencrypt},
		{From: "many", To: "default"},
		{From: "many", To: "default", Mode: store.ModeReencrypt},
	} {
		t.Run(fmt.Sprintf("%s to %s %s", spec.From, spec.To, spec.Mode), func(t *testing.T) {
			var calls []faultvfs.Kind
			oneBatch(t, base, spec, func(fn func()) { calls = faultvfs.Count(fn) })
			refused := 0
			for i, k := range calls {
				if k != faultvfs.Read {
					continue
				}
				after, err := oneBatch(t, base, spec, func(fn func()) {
					faultvfs.Inject(faultvfs.Plan{At: i + 1, How: faultvfs.IOError}, fn)
				})
				if err == nil {
					continue
				}
				refused++
				if !slices.Equal(before, after) {
					t.Errorf("read %d: a batch that ended with %v left %s", i+1, err, difference(before, after))
				}
			}
			t.Logf("%d batches refused", refused)
			if refused < 3 {
				t.Error("the faults do not reach the batch")
			}
		})
	}
}

// manyVersions is a store with a master key whose versions take several pages,
// data keys under the newest but one and after them some under the first.
func manyVersions(t *testing.T) (base files, before []string) {
	t.Helper()
	ctx := t.Context()
	folder := files{}.in(t)
	defer os.RemoveAll(folder)
	s, err := store.Create(ctx, filepath.Join(folder, fileName), resealtest.Credential(), options(start))
	storetest.OK(t, err)
	storetest.OK(t, s.CreateKey(ctx, "many"))
	storetest.OK(t, putMany(ctx, s, "old", "many", 3))
	for range 60 {
		storetest.OK(t, storetest.Err(s.RotateKey(ctx, "many")))
	}
	storetest.OK(t, putMany(ctx, s, "new", "many", 3))
	storetest.OK(t, storetest.Err(s.RotateKey(ctx, "many")))
	storetest.OK(t, s.Close())
	base = readFiles(t, folder)
	before, err = checked(ctx, folder)
	storetest.OK(t, err)
	return base, before
}

func oneBatch(t *testing.T, base files, spec store.RotationSpec, during func(func())) (after []string, err error) {
	t.Helper()
	ctx := context.Background()
	folder := base.in(t)
	defer os.RemoveAll(folder)
	s, err := openIn(ctx, folder)
	storetest.OK(t, err)
	r, err := s.StartRotation(ctx, spec)
	storetest.OK(t, err)
	during(func() { _, err = r.Step(ctx, 0, 100, time.Second) })
	storetest.OK(t, s.Close())
	after, cerr := checked(ctx, folder)
	if cerr != nil {
		t.Errorf("%v, after a batch that ended with %v", cerr, err)
	}
	return after, err
}
