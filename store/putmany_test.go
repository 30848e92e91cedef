package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// apps are the inputs app/0 to app/n-1.
func apps(n int) (out []input) {
	for i := range n {
		out = append(out, app(i))
	}
	return out
}

// list makes items of inputs.
func list(in ...input) (out []store.Item) {
	for _, i := range in {
		out = append(out, i.item())
	}
	return out
}

// PutMany makes the rows, tags, labels, events and results that as many puts
// make.
func TestPutManyIsManyPuts(t *testing.T) {
	description := "of the last"
	all := slices.Concat(apps(70),
		// Amid those that are written many at a time.
		[]input{
			{name: "app/69", value: []byte("at once")},
			{name: "tagged", value: []byte("x"), o: store.PutOptions{Tags: map[string]string{"a": "b"}}},
			{name: "large", value: make([]byte, 40_000)},
			{name: "app/3", value: []byte("later")},
		},
		apps(600)[70:],
		[]input{{name: "token", value: []byte("x"), o: store.PutOptions{Token: "t"}}, {name: "token", value: []byte("x"), o: store.PutOptions{Token: "t"}}},
	)
	all = append(all,
		input{name: "app/7", value: []byte("again")},
		input{name: "app/8", value: []byte("pending"), o: store.PutOptions{Label: store.LabelPending, Token: "t"}},
		input{name: "app/8", value: []byte("pending"), o: store.PutOptions{Label: store.LabelPending, Token: "t"}},
		input{name: "app/8", value: []byte("newest")},
		input{name: "other", value: []byte("x"), o: store.PutOptions{Key: "mk-1", Label: "blue"}},
		input{name: "purged", value: []byte("x"), o: store.PutOptions{Tags: map[string]string{"a": "b"}, Description: &description}},
	)
	prepare := func() *resealtest.Store {
		s := resealtest.New(t, nil)
		if err := s.CreateKey(t.Context(), "mk-1"); err != nil {
			t.Fatal(err)
		}
		s.MustPut(t, "app/9", "was there", store.PutOptions{Key: "mk-1"})
		s.MustPut(t, "purged", "x", store.PutOptions{})
		must(s.Delete(t.Context(), "purged", 0))(t)
		must(s.Purge(t.Context(), "purged", true))(t)
		return s
	}
	one, many := prepare(), prepare()
	var want []store.PutResult
	for _, it := range all {
		want = append(want, must(one.Put(t.Context(), it.name, it.value, &it.o))(t))
	}
	before := generation(t, many.Store)
	storetest.Diff(t, "results", want, must(many.PutMany(t.Context(), list(all...)))(t))
	storetest.Diff(t, "transactions", before+1, generation(t, many.Store))
	storetest.Diff(t, "secrets", must(one.List(t.Context(), store.ListOptions{}))(t), must(many.List(t.Context(), store.ListOptions{}))(t))
	for _, name := range []string{"app/3", "app/7", "app/8", "app/9", "app/69", "app/70", "large", "other", "purged", "tagged", "token", "app/599"} {
		storetest.Diff(t, name, must(one.Show(t.Context(), name))(t), must(many.Show(t.Context(), name))(t))
		storetest.Diff(t, name, one.MustGet(t, name), many.MustGet(t, name))
	}
	storetest.Diff(t, "events", actions(t, one.Store), actions(t, many.Store))
}

func actions(t *testing.T, s *store.Store) (out []string) {
	for _, e := range must(s.Events(t.Context(), store.EventFilter{}))(t) {
		out = append(out, e.Action+" "+e.Secret+" "+e.Key)
	}
	return out
}

func TestPutManyWritesAllOrNothing(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	s.MustPut(t, "deleted", "x", store.PutOptions{})
	must(s.Delete(ctx, "deleted", 0))(t)
	before := generation(t, s.Store)
	for name, c := range map[string]struct {
		last input
		want error
	}{
		"deleted":     {input{name: "deleted", value: []byte("x")}, store.ErrDeleted},
		"no value":    {input{name: "app/x"}, store.ErrInvalid},
		"no name":     {input{value: []byte("x")}, store.ErrInvalid},
		"unknown key": {input{name: "app/x", value: []byte("x"), o: store.PutOptions{Key: "mk-9"}}, store.ErrNotFound},
	} {
		if res, err := s.PutMany(ctx, list(append(apps(3), c.last)...)); !errors.Is(err, c.want) || res != nil {
			t.Errorf("%s: PutMany = %v, %v", name, res, err)
		}
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.PutMany(cancelled, list(apps(3)...)); !errors.Is(err, context.Canceled) {
		t.Errorf("PutMany = %v", err)
	}
	storetest.Diff(t, "transactions", before, generation(t, s.Store))
	storetest.Diff(t, "secrets", 0, len(must(s.List(ctx, store.ListOptions{}))(t)))
	if _, err := s.PutMany(ctx, make([]store.Item, 1)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("PutMany of an empty item = %v", err)
	}
	if res, err := s.PutMany(ctx, nil); res != nil || err != nil {
		t.Errorf("PutMany of nothing = %v, %v", res, err)
	}
}

// One row that SQLite refuses, among those of one statement, leaves nothing, and
// what was sealed ahead is not written either.
func TestPutManyThatFailsWhileWritingLeavesNothing(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	must(s.Raw(t).Exec(`CREATE TRIGGER reseal_teeth BEFORE INSERT ON reseal_labels
		WHEN NEW.secret IN (SELECT id FROM reseal_secrets WHERE name = 'app/40')
		BEGIN SELECT RAISE(ABORT, 'no'); END`))(t)
	storetest.OK(t, store.TrustSchema(ctx, s.Store))
	before := generation(t, s.Store)
	if res, err := s.PutMany(ctx, list(apps(300)...)); err == nil || res != nil {
		t.Errorf("PutMany = %v, %v", res, err)
	}
	storetest.Diff(t, "transactions", before, generation(t, s.Store))
	must(s.Raw(t).Exec(`DROP TRIGGER reseal_teeth`))(t)
	must(s.PutMany(ctx, list(apps(300)...)))(t)
	resealtest.Check(t, s.Store)
	storetest.Diff(t, "value", "value 40", s.MustGet(t, "app/40"))
}

// endsAfter is a context that ends when it has been asked some times.
type endsAfter struct {
	context.Context
	left atomic.Int64
}

func (c *endsAfter) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

func TestPutManyThatIsCancelledLeavesNothing(t *testing.T) {
	s := resealtest.New(t, nil)
	before := generation(t, s.Store)
	for n := range int64(100) {
		ctx := &endsAfter{Context: t.Context()}
		ctx.left.Store(n)
		_, err := s.PutMany(ctx, list(apps(140)...))
		if err == nil {
			if n < 5 {
				t.Errorf("PutMany asked %d times whether to go on", n)
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		storetest.Diff(t, "transactions", before, generation(t, s.Store))
	}
	storetest.Diff(t, "secrets", 140, len(must(s.List(t.Context(), store.ListOptions{}))(t)))
}

func TestPutManyTxIsTheCallers(t *testing.T) {
	db := hostDB(t, hosts[1].query)
	s := hosted(t, db)
	errUndo := errors.New("undo")
	for _, undo := range []bool{true, false} {
		tx := begin(t, db)
		must(s.PutManyTx(t.Context(), tx, list(apps(300)...)))(t)
		if _, err := s.PutManyTx(t.Context(), tx, list(append(apps(2), input{name: "app/x", value: []byte("x"), o: store.PutOptions{Key: "mk-9"}})...)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("PutManyTx = %v", err)
		}
		if undo {
			tx.Rollback()
			if _, err := s.Get(t.Context(), "app/1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Get = %v", err)
			}
			continue
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	v := must(s.Get(t.Context(), "app/299"))(t)
	storetest.Diff(t, "value", "value 299", string(v.Bytes()))
	storetest.Diff(t, "version", uint64(1), v.Version)
	// In Update the statements are the store's own.
	own := resealtest.New(t, nil)
	err := own.Update(t.Context(), func(tx *sql.Tx) error {
		must(own.PutManyTx(t.Context(), tx, list(apps(10)...)))(t)
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		t.Fatal(err)
	}
	must(own.PutMany(t.Context(), list(apps(10)...)))(t)
	storetest.Diff(t, "value", fmt.Sprint("value ", 9), own.MustGet(t, "app/9"))
}

// An open rotation job leads new secrets to its target, in one transaction as
// in many.
func TestPutManyFollowsAnOpenJob(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	if err := s.CreateKey(ctx, "mk-2"); err != nil {
		t.Fatal(err)
	}
	s.MustPut(t, "app/0", "x", store.PutOptions{})
	r := must(s.StartRotation(ctx, store.RotationSpec{From: store.DefaultKeyName, To: "mk-2", Prefix: "app/"}))(t)
	res := must(s.PutMany(ctx, list(app(0), app(1), input{name: "web/1", value: []byte("x")})))(t)
	var got []string
	for _, r := range res {
		got = append(got, r.Key+" "+r.Redirected)
	}
	storetest.Diff(t, "keys", []string{"default ", "mk-2 default", "default "}, got)
	if err := r.Release(ctx); err != nil {
		t.Fatal(err)
	}
}

// A bulk chooses the numbers of its rows. Behind the last that there is would come
// negative ones, which a rotation never meets.
func TestPutManyGivesNoNegativeRow(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	s.MustPut(t, "app", "x", store.PutOptions{})
	s.Exec(t, `
		INSERT INTO reseal_secret_versions (id, version_id, secret, number, created_at, sealed)
		VALUES (9223372036854775807, zeroblob(16), 1, 9, 0, zeroblob(100))`)
	storetest.Refused(t, storetest.Err(s.PutMany(ctx, list(apps(100)...))), store.ErrDamaged)
	must(s.PutMany(ctx, list(apps(3)...)))(t) // SQLite chooses
}
