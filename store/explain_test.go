package store_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// run does what a remedy's command line does.
func run(t *testing.T, s *resealtest.Store, remedy string) {
	t.Helper()
	ctx := t.Context()
	for line := range strings.SplitSeq(remedy, " && ") {
		w := append(strings.Fields(line), "", "", "")
		number := func(i int) uint64 {
			if w[i-1] != "--version" {
				t.Fatalf("remedy %q: no version", line)
			}
			return must(strconv.ParseUint(w[i], 10, 64))(t)
		}
		var err error
		switch verb := w[1]; {
		case w[0] != "reseal":
			t.Fatalf("remedy %q is no command", line)
		case verb == "set-key":
			_, err = s.SetKey(ctx, w[2], w[3])
		case verb == "restore":
			_, err = s.Restore(ctx, w[2])
		case verb == "put":
			_, err = s.Put(ctx, w[2], []byte("anew"), nil)
		case verb == "discard":
			err = s.Discard(ctx, w[2], number(4))
		case verb == "label":
			err = s.SetLabel(ctx, w[2], w[3], number(5))
		case verb == "key" && w[2] == "enable":
			err = s.EnableKey(ctx, w[3])
		case verb == "key" && w[2] == "create":
			err = s.CreateKey(ctx, w[3])
		case verb == "key" && w[2] == "cancel-deletion":
			err = s.CancelKeyDeletion(ctx, w[3])
		default:
			t.Fatalf("remedy %q is unknown here", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// Each break of the chain is found where it is, and its command mends it.
func TestExplainFindsTheBreakAndMendsIt(t *testing.T) {
	const current = `(SELECT v.id FROM reseal_secret_versions AS v JOIN reseal_secrets AS s ON s.id = v.secret WHERE s.name = 'a' AND v.number = 4)`
	for _, c := range []struct {
		name   string
		breaks func(*testing.T, *resealtest.Store)
		at     string // the first step that is not OK
		remedy string
		gone   bool // the version is lost, the rest is not
	}{
		{"disabled", func(t *testing.T, s *resealtest.Store) { must(s.DisableKey(t.Context(), "mk-1"))(t) },
			"state", "reseal key enable mk-1", false},
		{"deleted", func(t *testing.T, s *resealtest.Store) { must(s.Delete(t.Context(), "a", 0))(t) },
			"secret", "reseal restore a", false},
		{"state edited", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`)
		}, "state", "reseal set-key a default", false},
		{"state edited, no default", func(t *testing.T, s *resealtest.Store) {
			storetest.OK(t, s.CreateKey(t.Context(), "mk-9"))
			must(s.DisableKey(t.Context(), "default"))(t)
			s.Exec(t, `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`)
		}, "state", "reseal set-key a mk-9", false},
		{"state edited, no other key", func(t *testing.T, s *resealtest.Store) {
			must(s.DisableKey(t.Context(), "default"))(t)
			s.Exec(t, `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`)
		}, "state", "reseal key create rescue-1 && reseal set-key a rescue-1", false},
		{"old wrap put back", func(t *testing.T, s *resealtest.Store) {
			must(s.Raw(t).Exec(`CREATE TABLE old AS SELECT * FROM reseal_data_keys`))(t)
			must(s.SetKey(t.Context(), "a", "default"))(t)
			s.Exec(t, `UPDATE reseal_data_keys SET (master_key_version, wrapped) = (SELECT master_key_version, wrapped FROM old WHERE old.id = reseal_data_keys.id) WHERE id = `+current)
		}, "master key version", "reseal set-key a default", false},
		{"data key gone", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `DELETE FROM reseal_data_keys WHERE id = `+current)
		}, "data key", "reseal discard a --version 4", true},
		{"master key version gone", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = 99 WHERE id = `+current)
		}, "data key", "reseal set-key a mk-1", false},
		{"master key version and wrap gone", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_data_keys SET master_key_version = 99, wrapped = zeroblob(108) WHERE id = `+current)
		}, "master key version", "reseal discard a --version 4", true},
		{"wrap damaged", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_data_keys SET wrapped = zeroblob(108) WHERE id = `+current)
		}, "value", "reseal discard a --version 4", true},
		{"wrap damaged and state edited", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_data_keys SET wrapped = zeroblob(108) WHERE id = `+current)
			s.Exec(t, `UPDATE reseal_master_keys SET state = 'disabled' WHERE name = 'mk-1'`)
		}, "state", "reseal discard a --version 4", true},
		{"value damaged", func(t *testing.T, s *resealtest.Store) {
			s.Exec(t, `UPDATE reseal_secret_versions SET sealed = zeroblob(99) WHERE id = `+current)
		}, "value", "reseal discard a --version 4", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
			storetest.OK(t, s.CreateKey(ctx, "mk-1"))
			putFive(t, s, "a", "mk-1")
			c.breaks(t, s)
			x := must(s.Explain(ctx, "a", 0))(t)
			at := ""
			for i := len(x.Steps) - 1; i >= 0; i-- {
				if !x.Steps[i].OK {
					at = x.Steps[i].What
				}
			}
			if at != c.at || x.Remedy != c.remedy || !x.Broken || x.Version != 4 {
				t.Fatalf("broken %v at %q of version %d, want %q; remedy %q, want %q\n%+v", x.Broken, at, x.Version, c.at, x.Remedy, c.remedy, x.Steps)
			}
			run(t, s, x.Remedy)
			if c.gone {
				storetest.Refused(t, storetest.Err(s.Get(ctx, "a", store.Version(4))), store.ErrNotFound)
				run(t, s, must(s.Explain(ctx, "a", 0))(t).Remedy) // no version is current
			}
			if x := must(s.Explain(ctx, "a", 0))(t); x.Broken && x.Remedy == c.remedy {
				t.Errorf("still broken after %q: %+v", x.Remedy, x.Steps)
			} else if x.Broken {
				run(t, s, x.Remedy)
			}
			want := "three"
			if c.gone {
				want = "four"
			}
			if got := s.MustGet(t, "a"); got != want {
				t.Errorf("the value is %q, want %q", got, want)
			}
		})
	}
}

func TestExplainOfWholeChain(t *testing.T) {
	s, ctx := resealtest.New(t, nil), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	putFive(t, s, "a", "mk-1")
	must(s.RotateKey(ctx, "mk-1"))(t)
	want := store.Explanation{
		Secret: "a", Version: 4, Labels: []string{"current"},
		ConfiguredKey: "mk-1", EffectiveKey: "mk-1", EffectiveKeyVersion: 1, KeyState: store.Enabled,
		Steps: []store.Step{
			{What: "secret", OK: true, Detail: `its record is as reseal wrote it; configured key "mk-1"`},
			{What: "version", OK: true, Detail: "number 4, one of 5"},
			{What: "data key", OK: true, Detail: "there"},
			{What: "master key version", OK: true, Detail: `version 1 of "mk-1", behind its primary 2`},
			{What: "state", OK: true, Detail: "enabled"},
			{What: "root", OK: true, Detail: "unwraps the master key version"},
			{What: "value", OK: true, Detail: "opens"},
		},
	}
	storetest.Diff(t, "explanation", want, must(s.Explain(ctx, "a", 0))(t))
	if x := must(s.Explain(ctx, "a", 2))(t); x.Broken || x.Version != 2 || x.Labels != nil {
		t.Errorf("explanation of version 2: %+v", x)
	}
	storetest.Refused(t, storetest.Err(s.Explain(ctx, "a", 6)), store.ErrNotFound)
	storetest.Refused(t, storetest.Err(s.Explain(ctx, "b", 0)), store.ErrNotFound)
	must(s.Purge(ctx, "a", true))(t)
	storetest.Refused(t, storetest.Err(s.Explain(ctx, "a", 0)), store.ErrNotFound)
}

// What only a backup mends points to the newest one. Without one it points to
// the audit trail, or gives the version up.
func TestExplainPointsToBackup(t *testing.T) {
	s, ctx := resealtest.New(t, &resealtest.Options{Damaged: true}), t.Context()
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	s.MustPut(t, "label", "x", store.PutOptions{})
	s.MustPut(t, "label", "y", store.PutOptions{})
	s.MustPut(t, "wrap", "z", store.PutOptions{Key: "mk-1"})
	path := filepath.Join(t.TempDir(), "it's a backup.db")
	remedies := func() []string {
		t.Helper()
		var out []string
		for _, name := range []string{"label", "wrap"} {
			x := must(s.Explain(ctx, name, 0))(t)
			out = append(out, x.Remedy)
		}
		return out
	}
	storetest.Diff(t, "whole", []string{"", ""}, remedies())
	must(s.Backup(ctx, filepath.Join(t.TempDir(), "old.db")))(t)
	must(s.Backup(ctx, path))(t)
	s.Exec(t, `UPDATE reseal_labels SET secret_version = 1 WHERE label = 'current' AND secret = 1`)
	aroundTrigger(t, s, "reseal_master_key_wraps_update", `UPDATE reseal_master_key_wraps SET wrapped = zeroblob(108) WHERE master_key_version = 2`)
	back := "reseal migrate restore '" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	storetest.Diff(t, "with a backup", []string{back, back}, remedies())
	if x := must(s.Explain(ctx, "wrap", 0))(t); x.Steps[len(x.Steps)-1].What != "root" {
		t.Errorf("the chain ends at %+v", x.Steps)
	}
	report := must(s.Verify(ctx, store.VerifyOptions{}))(t)
	storetest.Diff(t, "verify", []store.Failure{
		{Key: "mk-1", Error: "master key version 1: not a known envelope format", Remedy: back},
		{Secret: "label", Error: "stored data is damaged or altered: the secret's record was altered", Remedy: "reseal explain label"},
	}, report.Failures)
	s.Exec(t, `DELETE FROM reseal_backup_keys`)
	s.Exec(t, `DELETE FROM reseal_backups`)
	storetest.Diff(t, "without a backup", []string{"reseal audit list --secret label", "reseal discard wrap --version 1"}, remedies())
}

// aroundTrigger runs a statement that a trigger refuses, and puts the trigger
// back as it was.
func aroundTrigger(t *testing.T, s *resealtest.Store, trigger, statement string) {
	t.Helper()
	raw := s.Raw(t)
	defer raw.Close()
	var create string
	storetest.OK(t, raw.QueryRow(`SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?`, trigger).Scan(&create))
	if _, err := raw.Exec(statement); err == nil {
		t.Fatalf("trigger %s does not refuse %s", trigger, statement)
	}
	for _, q := range []string{`DROP TRIGGER ` + trigger, statement, create} {
		must(raw.Exec(q))(t)
	}
}
