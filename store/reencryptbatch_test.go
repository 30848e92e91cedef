package store_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// valuesStore has secrets in/… and out/… in turn, with values of many lengths, a
// gap between their rows, and one version behind the newest of their key.
func valuesStore(t *testing.T, o *resealtest.Options) (s *resealtest.Store, want map[string]string) {
	t.Helper()
	s, want = resealtest.New(t, o), map[string]string{}
	for i := range 200 {
		for _, side := range []string{"in", "out"} {
			name := fmt.Sprintf("%s/%d", side, i)
			want[name] = strings.Repeat("v", 1+i*i%1000+i/199*60_000)
			s.MustPut(t, name, want[name], store.PutOptions{})
		}
	}
	for _, name := range []string{"in/7", "out/7", "in/8"} {
		must(s.Delete(t.Context(), name, 0))(t)
		must(s.Purge(t.Context(), name, true))(t)
		delete(want, name)
	}
	must(s.RotateKey(t.Context(), store.DefaultKeyName))(t)
	return s, want
}

// sealedValues are the sealed values of secrets whose names begin so.
func sealedValues(t *testing.T, s *resealtest.Store, prefix string) (out [][]byte) {
	t.Helper()
	rows := must(s.Raw(t).Query(`
		SELECT v.sealed
		FROM reseal_secret_versions AS v
		JOIN reseal_secrets AS s ON s.id = v.secret
		WHERE s.name LIKE ? || '%' ORDER BY v.id`, prefix))(t)
	defer rows.Close()
	for rows.Next() {
		var b []byte
		storetest.OK(t, rows.Scan(&b))
		out = append(out, b)
	}
	storetest.OK(t, rows.Err())
	return out
}

// Values are written in ranges, whatever their lengths. Between them lie rows that
// are not in the batch, which stay as they are to the byte.
func TestReencryptWritesRangesOfValues(t *testing.T) {
	s, want := valuesStore(t, nil)
	spec := renewDefault
	spec.Prefix = "in/"
	in, out := sealedValues(t, s, "in/"), sealedValues(t, s, "out/")
	r := must(s.StartRotation(t.Context(), spec))(t)
	b := must(r.Apply(t.Context(), must(store.Prepare(t.Context(), r, 0, 1000))(t)))(t)
	if b.Replaced != 198 || b.Moved != 198 || !b.End {
		t.Errorf("Apply = %+v", b)
	}
	if len(out) != 199 {
		t.Fatalf("%d values outside", len(out))
	}
	storetest.Diff(t, "the others", out, sealedValues(t, s, "out/"))
	for i, now := range sealedValues(t, s, "in/") {
		if len(now) != len(in[i]) || bytes.Equal(now[4:60], in[i][4:60]) {
			t.Errorf("value %d: %d bytes after %d, or the same", i, len(now), len(in[i]))
		}
	}
	for name, value := range want {
		storetest.Diff(t, name, value, s.MustGet(t, name))
	}
	storetest.OK(t, r.Release(t.Context()))
}

// A value that another program changed since it was read does not become half
// of the new one: one of another length is left, and told.
func TestApplyLeavesValueOfAnotherLength(t *testing.T) {
	for name, changed := range map[string]string{
		"shorter":                "substr(sealed, 1, 300)",
		"longer":                 "CAST(sealed || x'00' AS BLOB)",
		"as long as the longest": "CAST(sealed || zeroblob(775) AS BLOB)",
	} {
		t.Run(name, func(t *testing.T) {
			s := resealtest.New(t, &resealtest.Options{Damaged: true})
			for i, n := range []int{1000, 225, 225, 64} {
				s.MustPut(t, app(i).name, strings.Repeat("v", n), store.PutOptions{})
			}
			must(s.RotateKey(t.Context(), store.DefaultKeyName))(t)
			r := must(s.StartRotation(t.Context(), renewDefault))(t)
			p := must(store.Prepare(t.Context(), r, 0, 100))(t)
			s.Exec(t, `UPDATE reseal_secret_versions SET sealed = `+changed+` WHERE id = 2`)
			was := sealedValues(t, s, app(1).name)
			b := must(r.Apply(t.Context(), p))(t)
			if b.Moved != 3 || b.Replaced != 3 || len(b.Failures) != 1 || b.Failures[0].Secret != app(1).name {
				t.Errorf("Apply = %+v", b)
			}
			storetest.Diff(t, "the value that was changed", was, sealedValues(t, s, app(1).name))
			for _, i := range []int{0, 2, 3} {
				s.MustGet(t, app(i).name)
			}
			storetest.OK(t, r.Release(t.Context()))
		})
	}
}

// The value of a row that is not in the batch may be so long that what would lie
// behind it is what lies behind the value of another row.
func TestReencryptLeavesLongValueBetweenOthers(t *testing.T) {
	const size, envelope, mark = 32, 76, 16
	for rows := 1; rows <= 3; rows++ { // from that row to the other
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			s := resealtest.New(t, nil)
			long := size + rows*(size+envelope+mark)
			for i, n := range []int{size, long, size, size, size} {
				side := "in"
				if n == long {
					side = "out"
				}
				s.MustPut(t, fmt.Sprintf("%s/%d", side, i), strings.Repeat("v", n), store.PutOptions{})
			}
			must(s.RotateKey(t.Context(), store.DefaultKeyName))(t)
			spec, out := renewDefault, sealedValues(t, s, "out/")
			spec.Prefix = "in/"
			r := must(s.StartRotation(t.Context(), spec))(t)
			b := must(r.Apply(t.Context(), must(store.Prepare(t.Context(), r, 0, 100))(t)))(t)
			if b.Replaced != 4 || len(b.Failures) != 0 {
				t.Errorf("Apply = %+v", b)
			}
			storetest.Diff(t, "the long value", out, sealedValues(t, s, "out/"))
			storetest.OK(t, r.Release(t.Context()))
		})
	}
}

// Data keys under two older versions of the key, and some of a later date than
// those that are replaced, go in one batch.
func TestReencryptsBatchUnderTwoVersions(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	for i := range 9 {
		if i%4 == 2 {
			must(s.RotateKey(ctx, store.DefaultKeyName))(t)
		}
		s.MustPut(t, app(i).name, string(app(i).value), store.PutOptions{})
	}
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	s.Exec(t, `UPDATE reseal_data_keys SET made_at = CASE WHEN id % 3 = 0 THEN 2000000000000 ELSE 1000 END`)
	spec := renewDefault
	spec.MadeBefore = time.UnixMilli(1_500_000_000_000)
	kept := must(s.DataKeysMadeBefore(ctx, store.DefaultKeyName, "", time.Time{}))(t) - must(s.DataKeysMadeBefore(ctx, store.DefaultKeyName, "", spec.MadeBefore))(t)
	r := must(s.StartRotation(ctx, spec))(t)
	b := must(r.Apply(ctx, must(store.Prepare(ctx, r, 0, 100))(t)))(t)
	if kept != 3 || b.Moved != 9 || b.Replaced != 6 {
		t.Errorf("%d kept, Apply = %+v", kept, b)
	}
	for i := range 9 {
		storetest.Diff(t, app(i).name, string(app(i).value), s.MustGet(t, app(i).name))
	}
	storetest.OK(t, r.Release(ctx))
}

// The bytes of a range are bytes in a host's database of another encoding too.
func TestReencryptInUTF16Database(t *testing.T) {
	db := must(sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "host.db")+"?_pragma=encoding('UTF-16le')&"+hosts[1].query))(t)
	t.Cleanup(func() { db.Close() })
	s, want := valuesStore(t, &resealtest.Options{DB: db})
	r := must(s.StartRotation(t.Context(), renewDefault))(t)
	if b := must(r.Step(t.Context(), 0, 1000, 0))(t); b.Replaced != len(want) {
		t.Errorf("Step = %+v", b)
	}
	for name, value := range want {
		storetest.Diff(t, name, value, s.MustGet(t, name))
	}
	storetest.OK(t, r.Release(t.Context()))
}

// A rotation that always reads stops for one write in a while.
func TestLogGateHasOneWriteAlone(t *testing.T) {
	reading, writing := store.LogGate()
	began, end, over := make(chan bool), make(chan bool), make(chan bool, 2)
	read := func() {
		reading(func() error { began <- true; <-end; return nil })
		over <- true
	}
	write := func() { writing(1<<20, func() error { return nil }) }
	for range 2 {
		go read()
		<-began
		for range 3 {
			write() // beside the reading
		}
		wrote := make(chan bool)
		go func() {
			writing(1<<20, func() error {
				go read()
				select {
				case <-began:
					t.Error("something is read beside the write that was to be alone")
				case <-time.After(20 * time.Millisecond):
				}
				return nil
			})
			close(wrote)
		}()
		select {
		case <-wrote:
			t.Error("the log has no room, and the write did not wait")
		case <-time.After(20 * time.Millisecond):
		}
		end <- true
		<-wrote
		<-began
		end <- true
		<-over
		<-over
		write() // nothing is read: as if nothing had been written before
	}
}

// A batch waits for what is read when the log has no more room, and the next one
// is not read while it is written.
func TestBatchesGoThroughTheLogGate(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	for i := range 100 {
		s.MustPut(t, app(i).name, strings.Repeat("v", 60_000), store.PutOptions{})
	}
	must(s.RotateKey(ctx, store.DefaultKeyName))(t)
	r := must(s.StartRotation(ctx, renewDefault))(t)
	after, waited := int64(0), 0
	for end := false; !end; {
		prepared := make(chan *store.Prepared, 1)
		prepare := func() { prepared <- must(store.Prepare(ctx, r, after, 100))(t) }
		release := store.HoldLogGate(r)
		go prepare()
		select {
		case <-prepared:
			t.Fatal("a batch was read beside a write that was to be alone")
		case <-time.After(20 * time.Millisecond):
		}
		release()
		p := <-prepared
		release = store.HoldLogGate(r)
		applied := make(chan store.Batch, 1)
		go func() { applied <- must(r.Apply(ctx, p))(t) }()
		select {
		case b := <-applied:
			after, end = b.Last, b.End
			release()
		case <-time.After(2 * time.Second):
			waited++
			release()
			b := <-applied
			after, end = b.Last, b.End
		}
	}
	if waited != 1 {
		t.Errorf("%d batches of 6 MB waited", waited)
	}
	storetest.OK(t, r.Release(ctx))
}
