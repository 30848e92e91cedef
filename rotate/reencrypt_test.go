package rotate_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// reencryptions are the ways to reencrypt what is under mk-1, in small batches.
// Those to the key's newest version need a newer one first.
var reencryptions = map[string]rotate.Options{
	"key to key": {From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt, Batch: 7, Pause: -1},
	"gentle":     {Key: "mk-1", Mode: rotate.Reencrypt, Batch: 7, Pause: -1},
	"fast":       {Key: "mk-1", Mode: rotate.Reencrypt, Batch: 7, Fast: true},
}

// sealedRow is what lies in the file of a secret version.
type sealedRow struct {
	sealed, wrapped []byte
	madeAt          int64
}

// sealedRows reads all versions of secrets whose names begin with prefix, as
// "name number".
func sealedRows(tb testing.TB, s *store.Store, prefix string) map[string]sealedRow {
	tb.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(tb.Context(), `
		SELECT s.name || ' ' || v.number, v.sealed, d.wrapped, d.made_at
		FROM reseal_secret_versions AS v
		JOIN reseal_secrets AS s ON s.id = v.secret
		JOIN reseal_data_keys AS d ON d.id = v.id
		WHERE substr(s.name, 1, length(?1)) = ?1`, prefix)
	if err != nil {
		tb.Fatal(err)
	}
	defer rows.Close()
	out := map[string]sealedRow{}
	for rows.Next() {
		var name string
		var r sealedRow
		if err := rows.Scan(&name, &r.sealed, &r.wrapped, &r.madeAt); err != nil {
			tb.Fatal(err)
		}
		out[name] = r
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestReencryptReplacesDataKeyAndValueOfEveryVersion(t *testing.T) {
	for name, o := range reencryptions {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 20, 3, 32)
			if err := s.SetLabel(t.Context(), "app/3", "blue", 1); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Delete(t.Context(), "app/5", 0); err != nil {
				t.Fatal(err)
			}
			was := sealedRows(t, s, "app/")
			rotateKey(t, s, "mk-1")
			began := time.Now().UnixMilli()
			rep := runOK(t, s, o)
			if rep.Moved != 60 || rep.Replaced != 60 || rep.Checked != 60 || rep.Batches < 5 || rep.Mode != rotate.Reencrypt {
				t.Errorf("report: %+v", rep)
			}
			if rc := rep.Receipt; rc == nil || rc.Mode != store.ModeReencrypt || !rc.MadeBefore.IsZero() {
				t.Errorf("receipt: %+v", rc)
			}
			for version, now := range sealedRows(t, s, "app/") {
				old := was[version]
				// The nonce and the ciphertext are others, the length is the same.
				if bytes.Equal(now.sealed[4:28], old.sealed[4:28]) || bytes.Equal(now.sealed[60:], old.sealed[60:]) || len(now.sealed) != len(old.sealed) {
					t.Errorf("the sealed value of %s was kept", version)
				}
				if bytes.Equal(now.wrapped, old.wrapped) || now.madeAt < began {
					t.Errorf("the data key of %s was kept: made at %d, before %d", version, now.madeAt, began)
				}
			}
			if _, err := s.Restore(t.Context(), "app/5"); err != nil {
				t.Fatal(err)
			}
			wantFilled(t, s, "app", 20, 3, 32)
			if again := runOK(t, s, o); again.Job != "" || again.Moved != 0 || again.Checked != 60 {
				t.Errorf("the second run: %+v", again)
			}
			if v, err := s.Verify(t.Context(), store.VerifyOptions{Deep: true}); err != nil || !v.OK {
				t.Errorf("Verify = %+v, %v", v, err)
			}
		})
	}
}

func TestReencryptLimitedByDateRewrapsTheOthers(t *testing.T) {
	limit := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, o := range reencryptions {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 10, 2, 32)
			// One made before the limit, one at it, one of an unknown time.
			for secret, at := range map[string]int64{"app/2": limit.UnixMilli() - 1, "app/4": limit.UnixMilli(), "app/6": 0} {
				rawSQL(t, s, `UPDATE reseal_data_keys SET made_at = ? WHERE id = `+versionRow, at, secret, 1)
			}
			was := sealedRows(t, s, "app/")
			rotateKey(t, s, "mk-1")
			o.MadeBefore = limit.Add(999 * time.Nanosecond) // to the millisecond
			rep := runOK(t, s, o)
			if rep.Moved != 20 || rep.Replaced != 2 || !rep.MadeBefore.Equal(limit) || !rep.Receipt.MadeBefore.Equal(limit) || len(rep.Warnings) > 1 {
				t.Errorf("report: %+v", rep)
			}
			var replaced []string
			for version, now := range sealedRows(t, s, "app/") {
				if bytes.Equal(now.wrapped, was[version].wrapped) {
					t.Errorf("%s was not moved", version)
				}
				if !bytes.Equal(now.sealed, was[version].sealed) {
					replaced = append(replaced, version)
				} else if now.madeAt != was[version].madeAt {
					t.Errorf("a rewrap changed when the data key of %s was made", version)
				}
			}
			if diff := cmp.Diff([]string{"app/2 1", "app/6 1"}, slices.Sorted(slices.Values(replaced))); diff != "" {
				t.Errorf("replaced (-want +got):\n%s", diff)
			}
			wantFilled(t, s, "app", 10, 2, 32)
		})
	}
}

// What version 1 of a key may have wrapped is what was made before version 2
// was, by whatever version it is wrapped now.
func TestReencryptWhatKeyVersionTouched(t *testing.T) {
	s := newStore(t)
	fill(t, s, "first", 3, 1, 32)
	time.Sleep(5 * time.Millisecond)
	rotateKey(t, s, "mk-1")
	time.Sleep(5 * time.Millisecond)
	fill(t, s, "second", 3, 1, 32)
	runOK(t, s, rotate.Options{Key: "mk-1"}) // first/ is under version 2 now
	was := sealedRows(t, s, "")

	o := rotate.Options{Key: "mk-1", Mode: rotate.Reencrypt, TouchedBy: 2}
	_, err := rotate.Run(t.Context(), s, o)
	var e *store.Error
	if !errors.Is(err, store.ErrInvalid) || !errors.As(err, &e) || e.Remedy != "reseal key rotate mk-1" {
		t.Errorf("the newest version: %v", err)
	}
	rotateKey(t, s, "mk-1")
	o.TouchedBy = 4
	if _, err := rotate.Run(t.Context(), s, o); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an unknown version: %v", err)
	}
	o.TouchedBy = 1
	if rep := runOK(t, s, o); rep.Moved != 6 || rep.Replaced != 3 {
		t.Errorf("touched by 1: %+v", rep)
	}
	for version, now := range sealedRows(t, s, "") {
		if same := bytes.Equal(now.sealed, was[version].sealed); same != strings.HasPrefix(version, "second/") {
			t.Errorf("%s: the sealed value was kept: %v", version, same)
		}
	}
	// From key to key, the newest version may have wrapped all there is.
	if rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt, TouchedBy: 3}); rep.Moved != 6 || rep.Replaced != 6 {
		t.Errorf("touched by the newest: %+v", rep)
	}
	wantFilled(t, s, "first", 3, 1, 32)
	wantFilled(t, s, "second", 3, 1, 32)
}

// A data key that the version wraps now was touched by it, also when the clock
// was set back between the two and the version after it seems to be older.
func TestReencryptWhatIsUnderTheVersionWhateverItsDate(t *testing.T) {
	s := resealtest.New(t, nil)
	s.Clock.Advance(time.Hour)
	if _, err := s.Put(t.Context(), "app", []byte("value"), nil); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(-time.Hour)
	rotateKey(t, s.Store, store.DefaultKeyName)
	rep := runOK(t, s.Store, rotate.Options{Key: store.DefaultKeyName, Mode: rotate.Reencrypt, TouchedBy: 1})
	if rep.Moved != 1 || rep.Replaced != 1 {
		t.Errorf("report: %+v", rep)
	}
}

// damageValue flips a bit in the sealed value of a secret version.
func damageValue(tb testing.TB, s *store.Store, name string, version int) {
	tb.Helper()
	b := sealedRows(tb, s, name)[fmt.Sprint(name, " ", version)].sealed
	b[len(b)-1] ^= 1
	rawSQL(tb, s, `UPDATE reseal_secret_versions SET sealed = ? WHERE id = `+versionRow, b, name, version)
}

func TestReencryptLeavesWhatDoesNotOpenAndMovesItsNeighbours(t *testing.T) {
	for name, o := range reencryptions {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 12, 3, 32)
			damageValue(t, s, "app/4", 3)
			damageWrap(t, s, "app/7", 2)
			was := sealedRows(t, s, "app/")
			rotateKey(t, s, "mk-1")
			rep, err := rotate.Run(t.Context(), s, o)
			if !errors.Is(err, rotate.ErrIncomplete) || rep.Failed != 2 {
				t.Fatalf("Run = %+v, %v", rep, err)
			}
			var got []string
			for _, f := range rep.Failures {
				got = append(got, fmt.Sprintf("%s %d %s: %s", f.Secret, f.Version, f.Error[strings.Index(f.Error, "open "):], f.Remedy))
			}
			want := []string{
				"app/4 3 open value: ciphertext is damaged: reseal discard app/4 --version 3",
				"app/7 2 open data key: ciphertext is damaged: reseal discard app/7 --version 2",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("failures (-want +got):\n%s", diff)
			}
			// From key to key the whole secret stays, to the newest version its one version.
			for version, now := range sealedRows(t, s, "app/") {
				stays := version == "app/4 3" || version == "app/7 2" ||
					o.To != "" && (strings.HasPrefix(version, "app/4 ") || strings.HasPrefix(version, "app/7 "))
				same := bytes.Equal(now.sealed, was[version].sealed) && bytes.Equal(now.wrapped, was[version].wrapped) && now.madeAt == was[version].madeAt
				if same != stays {
					t.Errorf("%s: stayed as it was: %v, want %v", version, same, stays)
				}
			}
			wantNoDrift(t, s)
			for _, f := range rep.Failures {
				if err := s.Discard(t.Context(), f.Secret, f.Version); err != nil {
					t.Fatal(err)
				}
			}
			if again := runOK(t, s, o); again.Job != rep.Job {
				t.Errorf("then: %+v", again)
			}
			wantFilled(t, s, "app", 4, 3, 32)
		})
	}
}

// A job keeps its mode and limit: the same options go on with it, others are
// refused with its command.
func TestReencryptGoesOnWithItsLimit(t *testing.T) {
	limit := time.Date(2020, 1, 1, 12, 0, 0, 123e6, time.UTC)
	for name, o := range reencryptions {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 40, 1, 32)
			rawSQL(t, s, `UPDATE reseal_data_keys SET made_at = 1 WHERE id % 2 = 0`)
			rotateKey(t, s, "mk-1")
			o.MadeBefore = limit
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o.Progress = func(p rotate.Progress) {
				if p.Done >= 15 {
					cancel()
				}
			}
			rep, err := rotate.Run(ctx, s, o)
			if !errors.Is(err, context.Canceled) || rep.Done == 0 || rep.Done == 40 {
				t.Fatalf("Run = %+v, %v", rep, err)
			}
			o.Progress = nil
			jobs, err := rotate.Status(t.Context(), s)
			if err != nil || len(jobs) != 1 || jobs[0].Mode != store.ModeReencrypt || !jobs[0].MadeBefore.Equal(limit) {
				t.Fatalf("jobs: %+v, %v", jobs, err)
			}
			command := jobs[0].Command()
			if want := " --mode reencrypt --made-before 2020-01-01T12:00:00.123Z"; !strings.HasSuffix(command, want) {
				t.Errorf("command %q, want %q", command, want)
			}
			for what, other := range map[string]func(*rotate.Options){
				"another limit": func(o *rotate.Options) { o.MadeBefore = limit.Add(time.Millisecond) },
				"no limit":      func(o *rotate.Options) { o.MadeBefore = time.Time{} },
				"another mode":  func(o *rotate.Options) { o.MadeBefore, o.Mode = time.Time{}, rotate.Rewrap },
			} {
				p := o
				other(&p)
				_, err := rotate.Run(t.Context(), s, p)
				var e *store.Error
				if !errors.Is(err, store.ErrJobRunning) || !errors.As(err, &e) || e.Remedy != command {
					t.Errorf("%s: %v", what, err)
				}
			}
			again := runOK(t, s, o)
			if again.Job != rep.Job || again.Done != 40 || rep.Replaced+again.Replaced != 20 {
				t.Errorf("first %+v\nthen %+v", rep, again)
			}
			wantFilled(t, s, "app", 40, 1, 32)
		})
	}
}

func TestReencryptRescuesFromDisabledAndAlteredKeys(t *testing.T) {
	for name, statement := range map[string]string{
		"disabled":         "",
		"pending deletion": `UPDATE reseal_master_keys SET state = 'pending deletion', deletion_at = 1 WHERE name = 'mk-1'`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", 10, 2, 32)
			if statement != "" {
				rawSQL(t, s, statement)
			} else if _, err := s.DisableKey(t.Context(), "mk-1"); err != nil {
				t.Fatal(err)
			}
			// The dates of an altered key say nothing: all data keys are replaced.
			rep := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt, TouchedBy: 1})
			if rep.Replaced != 20 {
				t.Errorf("report: %+v", rep)
			}
			wantFilled(t, s, "app", 10, 2, 32)
		})
	}
}

// Batches are bounded by bytes, and a secret of any size goes in one.
func TestReencryptBoundsBatchesByBytes(t *testing.T) {
	const size = 60_000
	for name, o := range reencryptions {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
			if err := s.Update(t.Context(), func(tx *sql.Tx) (err error) {
				for i := range 100 {
					_, err = s.PutTx(t.Context(), tx, fmt.Sprint("many/", i), value(i), nil)
					_, oerr := s.PutTx(t.Context(), tx, "one", value(i), nil)
					err = errors.Join(err, oerr)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			rotateKey(t, s, "mk-1")
			o.Batch, o.BatchTime = 0, time.Hour // neither rows nor time end a batch
			rep := runOK(t, s, o)
			if rep.Replaced != 200 || rep.Batches < 4 || rep.Batches > 8 {
				t.Errorf("report: %+v", rep)
			}
			for i := range 100 {
				for name, version := range map[string]int{fmt.Sprint("many/", i): 1, "one": i + 1} {
					got, err := s.Get(t.Context(), name, store.Version(uint64(version)))
					if err != nil || !bytes.Equal(got.Bytes(), value(i)) {
						t.Fatalf("%s version %d: another value, or %v", name, version, err)
					}
				}
			}
		})
	}
}

// What was under the target already is told of: it was not replaced.
func TestReencryptTellsWhatItLeft(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 1, 32)
	o := rotate.Options{Key: "mk-1", Mode: rotate.Reencrypt}
	rep := runOK(t, s, o)
	if rep.Job != "" || len(rep.Warnings) != 1 || !strings.Contains(rep.Warnings[0], "3 data keys") || !strings.Contains(rep.Warnings[0], "reseal key rotate mk-1") {
		t.Errorf("nothing under an older version: %+v", rep)
	}
	rotateKey(t, s, "mk-1")
	if _, err := s.SetKey(t.Context(), "app/1", "mk-1"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond)
	rep = runOK(t, s, o)
	if rep.Replaced != 2 || len(rep.Warnings) != 1 || !strings.Contains(rep.Warnings[0], "1 data key ") {
		t.Errorf("one under the newest: %+v", rep)
	}
	rotateKey(t, s, "mk-1")
	if rep = runOK(t, s, o); rep.Replaced != 3 || len(rep.Warnings) != 0 {
		t.Errorf("all: %+v", rep)
	}
}

func TestReencryptRefusesLimits(t *testing.T) {
	s := newStore(t)
	when := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, o := range map[string]rotate.Options{
		"a date with rewrap":      {Key: "mk-1", MadeBefore: when},
		"a version with rewrap":   {Key: "mk-1", TouchedBy: 1},
		"both":                    {Key: "mk-1", Mode: rotate.Reencrypt, MadeBefore: when, TouchedBy: 1},
		"before 1970":             {Key: "mk-1", Mode: rotate.Reencrypt, MadeBefore: time.Unix(-1, 0)},
		"a version without a key": {OlderThan: time.Hour, Mode: rotate.Reencrypt, TouchedBy: 1},
	} {
		if _, err := rotate.Run(t.Context(), s, o); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if jobs, _ := counts(t, s); jobs != 0 {
		t.Errorf("%d jobs were left", jobs)
	}
}

// The read-back of a reencryption opens the values themselves.
func TestReencryptReadsValuesBack(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 4, 1, 32)
	o := rotate.Options{From: "mk-1", To: "mk-2", Mode: rotate.Reencrypt}
	runOK(t, s, o)
	damageValue(t, s, "app/2", 1)
	v, err := rotate.Verify(t.Context(), s, o)
	if err != nil || v.OK || v.Failed != 1 || v.Failures[0].Secret != "app/2" {
		t.Errorf("Verify = %+v, %v", v, err)
	}
	o.Mode = rotate.Rewrap
	if v, err := rotate.Verify(t.Context(), s, o); err != nil || !v.OK {
		t.Errorf("of a rewrap: %+v, %v", v, err)
	}
}
