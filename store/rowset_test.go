package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// Rows whose loss nothing else would show: each is missed, or noticed when it
// was added, and nothing else is.
func TestVerifyMissesRows(t *testing.T) {
	const other = ", and there should be "
	for name, c := range map[string]struct {
		edits []string
		want  string
	}{
		"a whole secret":        {removeSecretOne, "1 secret" + other + "2"},
		"a tag":                 {[]string{`DELETE FROM reseal_tags WHERE key = 'team'`}, "2 tags" + other + "3"},
		"a tag's value":         {[]string{`UPDATE reseal_tags SET value = 'blue' WHERE key = 'team'`}, "exchanged"},
		"a tag added":           {[]string{`INSERT INTO reseal_tags VALUES (2, 'team', 'red')`}, "4 tags" + other + "3"},
		"a description":         {[]string{`UPDATE reseal_secrets SET description = 'changed' WHERE id = 1`}, "exchanged"},
		"a description removed": {[]string{`UPDATE reseal_secrets SET description = '' WHERE id = 1`}, "2 tags" + other + "3"},
		"a master key": {[]string{
			`DROP TRIGGER reseal_master_keys_delete`,
			`DROP TRIGGER reseal_master_key_versions_delete`,
			`DELETE FROM reseal_master_key_wraps WHERE master_key_version = (SELECT id FROM reseal_master_key_versions WHERE master_key = 2)`,
			`DELETE FROM reseal_master_key_versions WHERE master_key = 2`,
			`DELETE FROM reseal_master_keys WHERE id = 2`,
			masterKeysDeleteTrigger, masterKeyVersionsDeleteTrigger,
		}, "1 master key" + other + "2"},
		"a job added": {[]string{`
			INSERT INTO reseal_rotation_jobs (job_id, mode, from_key, to_key, to_version, state, total, done, started_at, updated_at)
			VALUES (zeroblob(16), 'rewrap', 1, 2, 1, 'running', 0, 0, 0, 0)`}, "1 rotation job" + other + "0"},
		"the record itself":      {[]string{`UPDATE reseal_state SET secret_rows = 3`}, "was altered"},
		"an older record":        {[]string{`UPDATE reseal_state SET rows_nonce = zeroblob(24)`}, "was altered"},
		"the record, taken away": {[]string{`UPDATE reseal_state SET rows_nonce = NULL, rows_digest = NULL, rows_tag = NULL`}, "was altered"},
	} {
		t.Run(name, func(t *testing.T) {
			s := taggedSecrets(t)
			for _, e := range c.edits {
				must(s.Raw(t).Exec(e))(t)
			}
			report := must(s.Verify(t.Context(), store.VerifyOptions{}))(t)
			found := false
			for _, f := range report.Failures {
				found = found || strings.Contains(f.Error, c.want) && f.Remedy != ""
			}
			if !found || report.OK {
				t.Errorf("verify found %+v, want %q", report.Failures, c.want)
			}
			storetest.OK(t, s.AcceptRows(t.Context()))
		})
	}
}

// removeSecretOne removes a secret as somebody does who knows the schema.
var removeSecretOne = []string{
	`DROP TRIGGER reseal_secrets_delete`,
	`DELETE FROM reseal_labels WHERE secret = 1`,
	`DELETE FROM reseal_data_keys WHERE id IN (SELECT id FROM reseal_secret_versions WHERE secret = 1)`,
	`DELETE FROM reseal_secret_versions WHERE secret = 1`,
	`DELETE FROM reseal_tags WHERE secret = 1`,
	`DELETE FROM reseal_secrets WHERE id = 1`,
	secretsDeleteTrigger,
}

const (
	secretsDeleteTrigger = `CREATE TRIGGER reseal_secrets_delete BEFORE DELETE ON reseal_secrets
BEGIN
  SELECT RAISE(ABORT, 'reseal: a purged secret leaves its row as a tombstone');
END`
	masterKeysDeleteTrigger = `CREATE TRIGGER reseal_master_keys_delete BEFORE DELETE ON reseal_master_keys
BEGIN
  SELECT RAISE(ABORT, 'reseal: master keys are destroyed by state, their rows stay');
END`
	masterKeyVersionsDeleteTrigger = `CREATE TRIGGER reseal_master_key_versions_delete BEFORE DELETE ON reseal_master_key_versions
BEGIN
  SELECT RAISE(ABORT, 'reseal: master key versions are destroyed by state, their rows stay');
END`
)

// taggedSecrets makes two secrets, one with tags and a description, and a spare
// master key.
func taggedSecrets(t *testing.T) *resealtest.Store {
	t.Helper()
	s := resealtest.New(t, &resealtest.Options{Damaged: true})
	text := "what it is for"
	storetest.OK(t, s.CreateKey(t.Context(), "spare"))
	s.MustPut(t, "a", "one", store.PutOptions{Tags: map[string]string{"team": "red", "empty": ""}, Description: &text})
	s.MustPut(t, "b", "two", store.PutOptions{})
	return s
}

// The set follows every change of rows that the store makes itself.
func TestRowSetFollowsEveryChange(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	first, second := "first", "second"
	for _, change := range []func() error{
		func() error {
			return storetest.Err(s.Put(ctx, "a", []byte("1"), &store.PutOptions{Description: &first, Tags: map[string]string{"k": "v", "e": ""}}))
		},
		func() error {
			return storetest.Err(s.Put(ctx, "a", []byte("2"), &store.PutOptions{Description: &second, Tags: map[string]string{"k": "w", "e": "full"}}))
		},
		func() error { return s.SetTags(ctx, "a", map[string]string{"k": "", "n": "new", "absent": ""}) },
		func() error { return storetest.Err(s.Put(ctx, "a", []byte("3"), nil)) },
		func() error { return storetest.Err(s.Put(ctx, "a", []byte("4"), nil)) },
		func() error { return storetest.Err(s.Prune(ctx, "a", 0)) },
		func() error { return s.CreateKey(ctx, "mk-1") },
		func() error { return storetest.Err(s.SetKey(ctx, "a", "mk-1")) },
		func() error { return storetest.Err(s.RotateKey(ctx, "mk-1")) },
		func() error { return storetest.Err(s.Delete(ctx, "a", 0)) },
		func() error { return storetest.Err(s.Purge(ctx, "a", true)) },
		func() error { return storetest.Err(s.Put(ctx, "a", []byte("5"), nil)) },
	} {
		storetest.OK(t, change())
		resealtest.Check(t, s.Store)
	}
}

// A record that was taken away is not made anew in silence: a write is refused
// until somebody accepts what is there.
func TestRowSetThatWasTakenAwayIsRefused(t *testing.T) {
	s, ctx := taggedSecrets(t), t.Context()
	s.Exec(t, `UPDATE reseal_state SET rows_nonce = NULL, rows_digest = NULL, rows_tag = NULL`)
	storetest.Refused(t, storetest.Err(s.Put(ctx, "a", []byte("x"), nil)), store.ErrDamaged)
	again := s.Another(t) // opening works, and so do reads
	again.MustGet(t, "a")
	storetest.Refused(t, storetest.Err(again.Put(ctx, "a", []byte("x"), nil)), store.ErrDamaged)
	storetest.OK(t, again.AcceptRows(ctx))
	storetest.OK(t, storetest.Err(s.Put(ctx, "a", []byte("x"), nil)))
	resealtest.Check(t, s.Store)
}

// A secret that is gone is not answered with "no such secret".
func TestRemovedSecretIsMissed(t *testing.T) {
	s, ctx := taggedSecrets(t), t.Context()
	storetest.Refused(t, storetest.Err(s.Get(ctx, "never")), store.ErrNotFound)
	for _, e := range removeSecretOne {
		must(s.Raw(t).Exec(e))(t)
	}
	for what, err := range map[string]error{
		"get":     storetest.Err(s.Get(ctx, "a")),
		"show":    storetest.Err(s.Show(ctx, "a")),
		"explain": storetest.Err(s.Explain(ctx, "a", 0)),
		"list":    storetest.Err(s.List(ctx, store.ListOptions{})),
	} {
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", what, err)
		}
	}
	if found, _ := s.List(ctx, store.ListOptions{}); len(found) != 1 {
		t.Errorf("list has %d secrets, want the one that is there", len(found))
	}
	storetest.OK(t, s.AcceptRows(ctx))
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a")), store.ErrNotFound)
}

func TestRemovedVersionIsMissed(t *testing.T) {
	s, ctx := taggedSecrets(t), t.Context()
	s.MustPut(t, "a", "two", store.PutOptions{})
	s.MustPut(t, "a", "three", store.PutOptions{})
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(9))), store.ErrNotFound)
	s.Exec(t, `DELETE FROM reseal_data_keys WHERE id = 1`)
	s.Exec(t, `DELETE FROM reseal_secret_versions WHERE id = 1`)
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(1))), store.ErrDamaged)
	if v, err := s.Get(ctx, "a"); err != nil || string(v.Bytes()) != "three" {
		t.Errorf("Get = %q, %v", v.Bytes(), err)
	}
}
