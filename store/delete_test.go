package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

func TestDeletedSecretKeepsEverythingAndIsRestored(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	putFive(t, s, "app/db", "default")
	res := must(s.Delete(ctx, "app/db", 0))(t)
	storetest.Diff(t, "delete", store.DeleteResult{Name: "app/db", PurgeAt: s.Clock.Now().Add(30 * oneDay)}, res)

	e := storetest.Refused(t, storetest.Err(s.Get(ctx, "app/db")), store.ErrDeleted)
	storetest.Diff(t, "get", store.Error{Op: "get", Secret: "app/db", ConfiguredKey: "default", DeletionAt: res.PurgeAt,
		Remedy: "reseal restore app/db", Err: store.ErrDeleted}, *e, cmpopts.EquateErrors())
	for verb, err := range map[string]error{
		"put":          storetest.Err(s.Put(ctx, "app/db", []byte("x"), nil)),
		"delete":       storetest.Err(s.Delete(ctx, "app/db", 0)),
		"label":        s.SetLabel(ctx, "app/db", "custom", 2),
		"label remove": s.RemoveLabel(ctx, "app/db", "custom"),
		"prune":        storetest.Err(s.Prune(ctx, "app/db", 0)),
		"tag":          s.SetTags(ctx, "app/db", map[string]string{"a": "b"}),
		"get version":  storetest.Err(s.Get(ctx, "app/db", store.Version(1))),
	} {
		if e := storetest.Refused(t, err, store.ErrDeleted); e.Remedy != "reseal restore app/db" {
			t.Errorf("%s: the remedy is %q", verb, e.Remedy)
		}
	}
	storetest.OK(t, s.CreateKey(ctx, "mk-2"))
	must(s.SetKey(ctx, "app/db", "mk-2"))(t)
	info := must(s.Show(ctx, "app/db"))(t)
	if !info.PurgeAt.Equal(res.PurgeAt) || info.DeletedAt.IsZero() || len(info.Versions) != 5 {
		t.Errorf("show of the deleted secret: %+v", info)
	}
	if live := must(s.List(ctx, store.ListOptions{}))(t); len(live) != 0 {
		t.Errorf("a deleted secret is listed as live: %+v", live)
	}
	if deleted := must(s.List(ctx, store.ListOptions{Deleted: true}))(t); len(deleted) != 1 {
		t.Errorf("the deleted secrets are %+v", deleted)
	}
	s.Clock.Advance(60 * oneDay) // a date alone does nothing
	must(s.Restore(ctx, "app/db"))(t)
	wantFive(t, s, "app/db", "mk-2")
	must(s.Restore(ctx, "app/db"))(t) // again: changes nothing
	events := must(s.Events(ctx, store.EventFilter{Secret: "app/db", Limit: 3}))(t)
	var actions []string
	for _, e := range events {
		actions = append(actions, e.Action)
	}
	storetest.Diff(t, "events", []string{"delete", "set-key", "restore"}, actions)
}

func TestDeleteRefusesBadWindowsAndNames(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	s.MustPut(t, "a", "x", store.PutOptions{})
	for _, w := range []time.Duration{-1, 1, 7*oneDay - 1, 30*oneDay + 1} {
		if _, err := s.Delete(ctx, "a", w); err == nil || !strings.Contains(err.Error(), "window") {
			t.Errorf("window of %s: %v", w, err)
		}
	}
	for _, w := range []time.Duration{7 * oneDay, 30 * oneDay} {
		must(s.Delete(ctx, "a", w))(t)
		must(s.Restore(ctx, "a"))(t)
	}
	storetest.Refused(t, storetest.Err(s.Delete(ctx, "b", 0)), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Restore(ctx, "b")), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Purge(ctx, "b", true)), store.ErrNotFound)
}

func TestDeleteAndRestoreWarnOfKeys(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "x", store.PutOptions{Key: "mk-1"})
	must(s.DisableKey(ctx, "mk-1"))(t)
	disabled := []string{`master key "mk-1" is disabled, the secret cannot be read until: reseal key enable mk-1`}
	storetest.Diff(t, "delete under a disabled key", disabled, must(s.Delete(ctx, "a", 30*oneDay))(t).Warnings)
	storetest.Diff(t, "restore under a disabled key", disabled, must(s.Restore(ctx, "a"))(t).Warnings)

	s.Exec(t, `UPDATE reseal_master_keys SET tag = zeroblob(32) WHERE name = 'mk-1'`)
	altered := []string{`the record of master key "mk-1" was altered: reseal explain a`}
	storetest.Diff(t, "delete under an altered key", altered, must(s.Delete(ctx, "a", 0))(t).Warnings)
	must(s.DisableKey(ctx, "mk-1"))(t) // proves it and writes its record anew
	storetest.OK(t, s.EnableKey(ctx, "mk-1"))
	storetest.Diff(t, "restore", []string(nil), must(s.Restore(ctx, "a"))(t).Warnings)
	storetest.Check(t, s.Store)
}

// The schema keeps a scheduled key free of data keys only while nobody wraps
// under it by other means; the warning is for that case.
func TestDeleteWarnsOfKeyThatEndsFirst(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "a", "x", store.PutOptions{})
	at := must(s.ScheduleKeyDeletion(ctx, "mk-1", 8*oneDay))(t)
	s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = (SELECT id FROM reseal_master_keys WHERE name = 'mk-1')`)
	fix := ": reseal key cancel-deletion mk-1 && reseal key enable mk-1"
	storetest.Diff(t, "ends first", []string{`master key "mk-1" may be destroyed from ` + at.Format(time.RFC3339) + ` on, before the secret's recovery window ends` + fix},
		must(s.Delete(ctx, "a", 9*oneDay))(t).Warnings)
	must(s.Restore(ctx, "a"))(t)
	storetest.Diff(t, "ends later", []string{`master key "mk-1" may be destroyed from ` + at.Format(time.RFC3339) + ` on` + fix},
		must(s.Delete(ctx, "a", 7*oneDay))(t).Warnings)
}

func TestPurgeWaitsForItsDate(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	s.MustPut(t, "a", "x", store.PutOptions{})
	if e := storetest.Refused(t, storetest.Err(s.Purge(ctx, "a", false)), store.ErrNotDue); e.Remedy != "reseal delete a" {
		t.Errorf("the remedy for a live secret is %q", e.Remedy)
	}
	res := must(s.Delete(ctx, "a", 7*oneDay))(t)
	s.Clock.Advance(7*oneDay - time.Millisecond)
	e := storetest.Refused(t, storetest.Err(s.Purge(ctx, "a", false)), store.ErrNotDue)
	if !e.DeletionAt.Equal(res.PurgeAt) || e.Remedy != "reseal purge a --now" {
		t.Errorf("deletion at %s, remedy %q", e.DeletionAt, e.Remedy)
	}
	s.Clock.Advance(time.Millisecond)
	storetest.Diff(t, "purge", store.PurgeResult{Name: "a", Versions: 1}, must(s.Purge(ctx, "a", false))(t))
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a")), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Purge(ctx, "a", true)), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Restore(ctx, "a")), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Show(ctx, "a")), store.ErrNotFound)
}

func TestPurgedNameKeepsItsVersionNumbers(t *testing.T) {
	s, ctx := storetest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	description := "of the first life"
	s.MustPut(t, "a", "one", store.PutOptions{Key: "mk-1", Token: "t", Description: &description, Tags: map[string]string{"k": "v"}})
	s.MustPut(t, "a", "two", store.PutOptions{Label: "custom"})
	storetest.Diff(t, "purge", store.PurgeResult{Name: "a", Versions: 2}, must(s.Purge(ctx, "a", true))(t))
	storetest.Diff(t, "dependents", store.Dependents{}, must(s.Key(ctx, "mk-1"))(t).Dependents)

	got := s.MustPut(t, "a", "three", store.PutOptions{Token: "t", Label: "custom"})
	storetest.Diff(t, "put", store.PutResult{Name: "a", Version: 3, Key: "default", KeyVersion: 1, Created: true}, got)
	info := must(s.Show(ctx, "a"))(t)
	if info.Description != "" || len(info.Tags) != 0 || len(info.Versions) != 1 {
		t.Errorf("something of the purged secret came back: %+v", info)
	}
	storetest.Diff(t, "labels", []string{"current", "custom"}, info.Versions[0].Labels)
	if v := s.MustGet(t, "a"); v != "three" {
		t.Errorf("the value is %q", v)
	}
	for n := uint64(1); n <= 2; n++ {
		storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(n))), store.ErrNotFound)
	}
}

func TestPurgeNowRemovesWhatWasAltered(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	must(s.Delete(ctx, "a", 7*oneDay))(t)
	s.Clock.Advance(7 * oneDay)
	s.Exec(t, `UPDATE reseal_secrets SET version_count = 4 WHERE name = 'a'`)
	storetest.Refused(t, storetest.Err(s.Purge(ctx, "a", false)), store.ErrDamaged)
	sweep := must(s.Sweep(ctx, false))(t)
	storetest.Diff(t, "sweep", store.SweepReport{Skipped: []store.SweepSkip{
		{Kind: "secret", Name: "a", Reason: "stored data is damaged or altered: the secret's record was altered"},
	}}, sweep)
	storetest.Diff(t, "purge", store.PurgeResult{Name: "a", Versions: 5}, must(s.Purge(ctx, "a", true))(t))
	if d := must(s.Key(ctx, "mk-1"))(t).Dependents; d.Any() {
		t.Errorf("the key is still %s", d)
	}
	storetest.OK(t, s.AcceptRows(ctx)) // which of five versions were four cannot be told
	storetest.Check(t, s.Store)

	// A tombstone that was altered blocks its name until it is mended.
	s.Exec(t, `UPDATE reseal_secrets SET next_number = 9 WHERE name = 'a'`)
	storetest.Refused(t, storetest.Err(s.Put(ctx, "a", []byte("x"), nil)), store.ErrDamaged)
	storetest.Diff(t, "purge", store.PurgeResult{Name: "a"}, must(s.Purge(ctx, "a", true))(t))
	if n := s.MustPut(t, "a", "x", store.PutOptions{}).Version; n != 9 {
		t.Errorf("the next version is %d", n)
	}
	storetest.Check(t, s.Store)
}

func TestPurgeRemovesVersionsPutBackByOtherMeans(t *testing.T) {
	s, ctx := storetest.New(t, &storetest.Options{Damaged: true}), t.Context()
	s.MustPut(t, "a", "one", store.PutOptions{})
	raw := s.Raw(t)
	for _, statement := range []string{
		`CREATE TABLE kept AS SELECT * FROM reseal_secret_versions`,
		`CREATE TABLE kept_keys AS SELECT * FROM reseal_data_keys`,
	} {
		must(raw.Exec(statement))(t)
	}
	must(s.Purge(ctx, "a", true))(t)
	s.Exec(t, `INSERT INTO reseal_secret_versions SELECT * FROM kept`)
	s.Exec(t, `INSERT INTO reseal_data_keys SELECT * FROM kept_keys`)
	report := must(s.Verify(ctx, store.VerifyOptions{Deep: true}))(t)
	if report.OK || report.Failures[1].Remedy != "reseal purge a --now" {
		t.Errorf("verify found %+v", report.Failures)
	}
	storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(1))), store.ErrNotFound)
	storetest.Diff(t, "purge", store.PurgeResult{Name: "a", Versions: 1}, must(s.Purge(ctx, "a", true))(t))
	storetest.Check(t, s.Store)
}
