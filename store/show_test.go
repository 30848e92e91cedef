package store_test

import (
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// What Show and List say of a master key is what reseal recorded: a record that
// was altered by other means is damage, also when every wrap opens.
func TestShowRefusesAlteredMasterKey(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	s.MustPut(t, "b", "value", store.PutOptions{})
	must(s.RotateKey(ctx, "mk-1"))(t)
	if info := must(s.Show(ctx, "a"))(t); !info.Behind {
		t.Fatal("a is not behind")
	}
	s.Exec(t, `UPDATE reseal_master_keys SET primary_version = 1 WHERE name = 'mk-1'`)

	e := storetest.Refused(t, storetest.Err(s.Show(ctx, "a")), store.ErrDamaged)
	if e.EffectiveKey != "mk-1" || e.Remedy == "" {
		t.Errorf("show names key %q, remedy %q", e.EffectiveKey, e.Remedy)
	}
	list := must(s.List(ctx, store.ListOptions{}))(t)
	if len(list) != 2 || list[0].Damage == "" || list[0].Authenticated || list[1].Damage != "" || !list[1].Authenticated {
		t.Errorf("list says %+v", list)
	}
}

// One secret whose key is gone does not hide the others.
func TestListGoesOnPastDestroyedKeyVersion(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	s.MustPut(t, "a", "value", store.PutOptions{})
	s.MustPut(t, "b", "value", store.PutOptions{})
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	must(s.RotateKey(ctx, "mk-1"))(t)
	storetest.OK(t, s.DestroyKeyVersion(ctx, "mk-1", 1))
	s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = (SELECT id FROM reseal_master_key_versions WHERE destroyed_at IS NOT NULL) WHERE id = 1`)

	list := must(s.List(ctx, store.ListOptions{}))(t)
	if len(list) != 2 || !strings.Contains(list[0].Damage, "destroyed") || list[1].Damage != "" {
		t.Errorf("list says %+v", list)
	}
	storetest.Refused(t, storetest.Err(s.Show(ctx, "a")), store.ErrKeyUnavailable)
}

// A secret's record does not tell a date of 0 from none, so an altered row must
// not either: the secret is not deleted.
func TestDateOfZeroDeletesNothing(t *testing.T) {
	for _, set := range []string{"deleted_at = 0, purge_at = 0", "deleted_at = 0", "purge_at = 0"} {
		t.Run(set, func(t *testing.T) {
			s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
			s.MustPut(t, "app/db", "one", store.PutOptions{})
			s.Exec(t, `PRAGMA ignore_check_constraints = 1; UPDATE reseal_secrets SET `+set)
			s.MustGet(t, "app/db")
			if l := must(s.List(ctx, store.ListOptions{}))(t); len(l) != 1 || !l[0].DeletedAt.IsZero() || l[0].Damage != "" {
				t.Errorf("List = %+v", l)
			}
			if l := must(s.List(ctx, store.ListOptions{Deleted: true}))(t); len(l) != 0 {
				t.Errorf("deleted: %+v", l)
			}
			if d := must(s.Key(ctx, store.DefaultKeyName))(t).Dependents; d.Secrets != 1 || d.DeletedSecrets != 0 || d.OfDeleted != 0 {
				t.Errorf("Dependents = %+v", d)
			}
		})
	}
}

// One altered bit makes the text of a column the same bytes: what is told of a
// secret stays as it is.
func TestShowTellsTextThatBecameBytes(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	description := "of the app"
	s.MustPut(t, "app/db", "one", store.PutOptions{Description: &description, Tags: map[string]string{"team": "red"}})
	want := must(s.Show(ctx, "app/db"))(t)
	strict := func(from, to string) {
		t.Helper()
		s.Exec(t, `PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '`+from+`', '`+to+`') WHERE name LIKE 'reseal%'; PRAGMA writable_schema = RESET`)
	}
	strict(") STRICT", ") /* strict */")
	s.Exec(t, `
		UPDATE reseal_secrets SET description = CAST(description AS BLOB);
		UPDATE reseal_tags SET key = CAST(key AS BLOB), value = CAST(value AS BLOB)`)
	strict(") /* strict */", ") STRICT")
	if got := must(s.Show(ctx, "app/db"))(t); got.Description != description {
		t.Errorf("description %q", got.Description)
	} else {
		storetest.Diff(t, "what is shown", want, got)
	}
	s.MustGet(t, "app/db")
}
