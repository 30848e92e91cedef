package store_test

import (
	"errors"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// TestSchemaThatChangesUnderAnOpenStore has a process that keeps a store open
// while others change the file's schema.
func TestSchemaThatChangesUnderAnOpenStore(t *testing.T) {
	for name, c := range map[string]struct {
		change []string
		want   error // of every write
	}{
		"a newer release migrates": {[]string{
			`ALTER TABLE reseal_tags ADD COLUMN note_of_a_newer_release TEXT`,
			`INSERT INTO reseal_schema_version (version_id, is_applied) VALUES (99, 1)`}, store.ErrSchemaNewer},
		"somebody drops a guard":  {[]string{`DROP TRIGGER reseal_master_key_wraps_delete`}, store.ErrSchemaAltered},
		"somebody adds a trigger": {[]string{`CREATE TRIGGER spy AFTER INSERT ON reseal_secrets BEGIN SELECT 1; END`}, store.ErrSchemaAltered},
		"a host adds a table":     {[]string{`CREATE TABLE users (name TEXT)`}, nil},
	} {
		path := copyReleased(t, migrations.Latest())
		var want releasedStore
		readReleased(t, migrations.Latest(), &want)
		s := openReleased(t, path, want)
		storetest.OK(t, storetest.Err(s.Put(t.Context(), "before", []byte("1"), nil)))
		sqlOn(t, path, c.change...)
		for range 2 {
			if _, err := s.Put(t.Context(), "after", []byte("2"), nil); !errors.Is(err, c.want) {
				t.Errorf("%s: put: %v, want %v", name, err, c.want)
			}
			if err := s.CreateKey(t.Context(), "k"); c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%s: create key: %v, want %v", name, err, c.want)
			}
		}
		if v, err := s.Get(t.Context(), "before"); err != nil || string(v.Bytes()) != "1" {
			t.Errorf("%s: get: %v", name, err)
		}
	}
}

func TestSchemaThatGoesDownUnderAnOpenStore(t *testing.T) {
	s := resealtest.New(t, &resealtest.Options{Damaged: true})
	storetest.OK(t, storetest.Err(s.Put(t.Context(), "app", []byte("1"), nil)))
	db, err := migrations.OpenFile(s.Path(), false)
	storetest.OK(t, err)
	defer db.Close()
	storetest.OK(t, downAgreed(t.Context(), db, migrations.Latest()-1))
	if _, err := s.Put(t.Context(), "app", []byte("2"), nil); !errors.Is(err, store.ErrSchemaBehind) {
		t.Errorf("put: %v, want ErrSchemaBehind", err)
	}
}
