package faultvfs_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/faultvfs"
	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

// Where SQLite cannot read a page it ends the transaction and goes on without
// one, in which every statement is durable by itself. Of puts that are written
// together, one that meets such a page must not let the others write on.
func TestUnreadablePageEndsPutsTogether(t *testing.T) {
	base := tokenStore(t)
	var calls []faultvfs.Kind
	putTogether(t, base, func(fn func()) { calls = faultvfs.Count(fn) })
	reads, fired := 0, 0
	for i, k := range calls {
		if k != faultvfs.Read {
			continue
		}
		reads++
		putTogether(t, base, func(fn func()) {
			fired += faultvfs.Inject(faultvfs.Plan{At: i + 1, How: faultvfs.IOError}, fn)
		})
	}
	t.Logf("%d reads, %d failed", reads, fired)
	if reads < 5 || fired < reads/2 {
		t.Error("the faults do not reach the puts")
	}
}

// tokenStore has a secret whose value, of several pages, a repeated put reads.
func tokenStore(t *testing.T) files {
	t.Helper()
	folder := baseStore(t).in(t)
	defer os.RemoveAll(folder)
	s, err := openIn(t.Context(), folder)
	storetest.OK(t, err)
	storetest.OK(t, storetest.Err(s.Put(t.Context(), "app/large", largeValue, &store.PutOptions{Token: "again"})))
	storetest.OK(t, s.Close())
	return readFiles(t, folder)
}

var largeValue = []byte(strings.Repeat("large again ", 2000))

// putTogether writes three puts in one transaction, the second of them the
// repetition of an earlier one, and checks that what was acknowledged is there
// once, and nothing else.
func putTogether(t *testing.T, base files, during func(func())) {
	t.Helper()
	ctx := context.Background()
	folder := base.in(t)
	defer os.RemoveAll(folder)
	s, err := openIn(ctx, folder)
	storetest.OK(t, err)
	var errs [3]error
	during(func() {
		var all sync.WaitGroup
		storetest.OK(t, s.Update(ctx, func(*sql.Tx) error {
			for i, p := range []func() error{
				func() error { return storetest.Err(s.Put(ctx, "app/db", []byte("six"), nil)) },
				func() error {
					return storetest.Err(s.Put(ctx, "app/large", largeValue, &store.PutOptions{Token: "again"}))
				},
				func() error { return storetest.Err(s.Put(ctx, "app/mail", []byte("three"), nil)) },
			} {
				all.Go(func() { errs[i] = p() })
				time.Sleep(5 * time.Millisecond) // in this order
			}
			return nil
		}))
		all.Wait()
	})
	storetest.OK(t, s.Close())
	if _, err := checked(ctx, folder); err != nil {
		t.Errorf("%v, after puts that ended with %v", err, errs)
		return
	}
	s, err = openIn(ctx, folder)
	storetest.OK(t, err)
	defer s.Close()
	for i, want := range []struct {
		name string
		n    int
	}{{"app/db", 5}, {"app/large", 2}, {"app/mail", 2}} {
		if errs[i] == nil && i != 1 {
			want.n++
		}
		info, err := s.Show(ctx, want.name)
		storetest.OK(t, err)
		if len(info.Versions) != want.n {
			t.Errorf("%q has %d versions and not %d, after puts that ended with %v", want.name, len(info.Versions), want.n, errs)
		}
	}
}
