//go:build linux

package store_test

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The sweep that docs/reliability.md tells of kills at every call:
//
//	go test ./store -run TestMigrationKilledAtAnySystemCall -kill-every 1 -timeout 60m -v
var killEvery = flag.Int("kill-every", 60, "TestMigrationKilledAtAnySystemCall kills at every so many system calls")

func init() {
	children["migrate"] = childMigrates
	lockTracedChild("migrate")
}

// childMigrates does one step to the file, on this thread.
func childMigrates(ctx context.Context, args []string) error {
	fmt.Println("ready")
	for _, s := range append(killSteps(), bareStep) {
		if s.name == args[0] {
			return s.run(ctx, args[1])
		}
	}
	return fmt.Errorf("unknown step %q", args[0])
}

// killStep is a change of the schema in the course of which the process is
// killed.
type killStep struct {
	name     string
	from, to int64 // versions: after a kill the file has one of them
	run      func(ctx context.Context, path string) error
}

func killSteps() []killStep {
	head := migrations.Latest()
	steps := []killStep{
		{"open", 1, head, func(ctx context.Context, path string) error {
			s, err := store.Open(ctx, path, resealtest.Credential(), nil)
			return errors.Join(err, s.Close())
		}},
		{"create", 0, head, func(ctx context.Context, path string) error {
			return withFile(path, func(db *sql.DB) error {
				return storetest.Err(migrations.Up(ctx, db, migrations.Options{Create: true}))
			})
		}},
		{"down", head, head - 1, func(ctx context.Context, path string) error {
			return withFile(path, func(db *sql.DB) error { return downAgreed(ctx, db, head-1) })
		}},
		{"restore", head, 1, func(ctx context.Context, path string) error {
			return storetest.Err(migrations.Restore(ctx, path, releasedPath(1, "db")))
		}},
	}
	for v := int64(1); v < head; v++ {
		steps = append(steps, killStep{fmt.Sprintf("up-%d", v+1), v, v + 1, func(ctx context.Context, path string) error {
			return withFile(path, func(db *sql.DB) error {
				return storetest.Err(migrations.UpTo(ctx, db, v+1, migrations.Options{}))
			})
		}})
	}
	return steps
}

// bareStep runs a migration's statements each by itself.
var bareStep = killStep{"bare", 1, 2, func(ctx context.Context, path string) error {
	text, err := migrations.Script(2, migrations.UpScript)
	return errors.Join(err, withFile(path, func(db *sql.DB) error { return storetest.Err(db.ExecContext(ctx, text)) }))
}}

func withFile(path string, fn func(*sql.DB) error) error {
	db, err := migrations.OpenFile(path, false)
	if err != nil {
		return err
	}
	return errors.Join(fn(db), db.Close())
}

// start makes the file that the step begins with.
func (s *killStep) start(t *testing.T) (path string) {
	t.Helper()
	if s.from > 0 {
		return copyReleased(t, s.from)
	}
	path = filepath.Join(t.TempDir(), "reseal.db")
	storetest.OK(t, os.WriteFile(path, nil, 0o600))
	return path
}

// calls lists the system calls on files and descriptors that the step makes.
func (s *killStep) calls(t *testing.T) []call {
	t.Helper()
	return tracedCalls(t, "%file,%desc", "migrate", s.name, s.start(t))
}

// sweep kills the step at every so many of its calls and returns how many kills
// there were, how many left the file at each version, and what was wrong.
func (s *killStep) sweep(t *testing.T, every int) (kills int, at map[int64]int, wrong []string) {
	t.Helper()
	at = map[int64]int{}
	all := s.calls(t)
	for i := 0; i < len(all); i += every {
		c, path := all[i], s.start(t)
		if _, ended := killedAt(t, c, "migrate", s.name, path); ended {
			continue // it made fewer of them this time
		}
		kills++
		version, err := s.violation(t, path)
		at[version]++
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("killed at %s number %d, call %d of %d: %v", c.name, c.nth, i+1, len(all), err))
		}
	}
	return kills, at, wrong
}

// violation says what is wrong with a file after a kill, if anything is.
func (s *killStep) violation(t *testing.T, path string) (version int64, err error) {
	t.Helper()
	err = withFile(path, func(db *sql.DB) error {
		if version, err = migrations.Current(t.Context(), db); err != nil {
			return err
		}
		if version != s.from && version != s.to {
			return fmt.Errorf("the file has version %d", version)
		}
		if err := migrations.Validate(t.Context(), db); err != nil && version > 0 {
			return err
		}
		return nil
	})
	if err != nil {
		return version, err
	}
	if s.from == 0 {
		return version, errors.Join(s.run(t.Context(), path), wantNoLock(path, version))
	}
	if err := wholeReleased(t, path, s.from == migrations.Latest()); err != nil {
		return version, fmt.Errorf("the next start: %w", err)
	}
	return version, errors.Join(wantNoLock(path, version), wantWholeBackups(t, path))
}

// wholeReleased opens the store with this release, and compares every value
// with those of the released store that it was. Going down loses the record of
// rows, which is then accepted as it is.
func wholeReleased(t *testing.T, path string, mayLoseRows bool) error {
	t.Helper()
	ctx := t.Context()
	var want releasedStore
	readReleased(t, 1, &want)
	s, err := store.Open(ctx, path, resealtest.Credential(), &store.Options{Now: func() time.Time { return want.Clock }})
	if err != nil {
		return err
	}
	defer s.Close()
	if mayLoseRows {
		err = s.AcceptRows(ctx)
	}
	report, verr := s.Verify(ctx, store.VerifyOptions{Deep: true})
	if err := errors.Join(err, verr); err != nil {
		return err
	}
	if !report.OK {
		return fmt.Errorf("verify: %+v", report.Failures)
	}
	return sameValues(ctx, s, want)
}

// sameValues compares the values that can be read without changing anything.
func sameValues(ctx context.Context, s *store.Store, want releasedStore) error {
	for _, sec := range want.Secrets {
		for _, v := range sec.Versions {
			got, err := s.Get(ctx, sec.Name, store.Version(v.Version))
			if errors.Is(err, store.ErrDeleted) || errors.Is(err, store.ErrKeyUnavailable) {
				continue // verified, if not read
			}
			if err != nil {
				return err
			}
			if string(got.Bytes()) != string(v.Value) {
				return fmt.Errorf("%s version %d has another value", sec.Name, v.Version)
			}
		}
	}
	return nil
}

// wantNoLock checks that the next start took the dead process's lock file away,
// if it had something to migrate: it does not look for one otherwise.
func wantNoLock(path string, version int64) error {
	_, err := os.Lstat(path + ".migrate-lock")
	if version < migrations.Latest() && !errors.Is(err, fs.ErrNotExist) {
		return errors.New("the lock file is left")
	}
	return nil
}

// wantWholeBackups checks that what has a backup's name is one.
func wantWholeBackups(t *testing.T, path string) error {
	t.Helper()
	backups, err := filepath.Glob(path + "*.backup")
	if err != nil {
		return err
	}
	for _, b := range backups {
		restored := filepath.Join(t.TempDir(), "restored.db")
		_, err := migrations.Restore(t.Context(), restored, b)
		if err == nil {
			err = wholeReleased(t, restored, true)
		}
		if err != nil {
			return fmt.Errorf("backup %q: %w", b, err)
		}
	}
	return nil
}

func TestMigrationKilledAtAnySystemCall(t *testing.T) {
	needStrace(t)
	total := 0
	for _, s := range killSteps() {
		t.Run(s.name, func(t *testing.T) {
			kills, at, wrong := s.sweep(t, *killEvery)
			for _, w := range wrong {
				t.Error(w)
			}
			t.Logf("version %d to %d: %d kills, by version found afterwards: %v, %d wrong", s.from, s.to, kills, at, len(wrong))
			if at[s.from] == 0 {
				t.Error("no kill was before the commit")
			}
			total += kills
		})
	}
	t.Logf("%d kills", total)
}

// TestKillSweepFindsHalfAMigration shows that the sweep has teeth: without the
// transaction around a migration it finds files between two versions.
func TestKillSweepFindsHalfAMigration(t *testing.T) {
	needStrace(t)
	kills, at, wrong := bareStep.sweep(t, 10)
	if len(wrong) == 0 {
		t.Errorf("%d kills, by version %v, and nothing was wrong", kills, at)
		return
	}
	t.Logf("%d kills, %d wrong, the first: %s", kills, len(wrong), wrong[0])
}
