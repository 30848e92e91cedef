package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// The test binary runs itself again as another process that has the store open.
// It is told what to be in the environment, and what to do on standard input.
const childVariable = "RESEAL_TEST_CHILD"

func TestMain(m *testing.M) {
	what := os.Getenv(childVariable)
	if what == "" {
		os.Exit(m.Run())
	}
	if err := children[what](context.Background(), os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

var children = map[string]func(context.Context, []string) error{
	"begin-root": childBeginsRoot,
	"session":    childSession,
	"mixed":      childMixed,
}

func child(t *testing.T, what string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	return cmd
}

// childBeginsRoot dies between the phases of a root rotation: arguments are the
// file, the slot of the passphrase, the slot to drop, and the slot of a key file.
func childBeginsRoot(ctx context.Context, args []string) error {
	s, err := store.Open(ctx, args[0], store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		return err
	}
	err = store.BeginRootRotation(ctx, s, store.RotateRootOptions{
		Credentials: map[string]store.Credential{args[1]: store.Passphrase([]byte(passphrase)), args[3]: store.KeyFile(args[4])},
		Drop:        []string{args[2]},
	})
	if err != nil {
		return err
	}
	fmt.Println("phase one is done")
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := self.Kill(); err != nil {
		return err
	}
	select {}
}

// childSession does what it reads, a line each, and answers each with a line:
// the value or "ok", or the error.
func childSession(ctx context.Context, args []string) error {
	s, err := store.Open(ctx, args[0], store.Passphrase([]byte(passphrase)), options())
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("ok open")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := childVerb(ctx, s, strings.Fields(lines.Text()))
		if err != nil {
			answer = "error: " + sentinel(err)
		}
		fmt.Println(answer)
	}
	return lines.Err()
}

func childVerb(ctx context.Context, s *store.Store, f []string) (string, error) {
	switch f[0] {
	case "get":
		v, err := s.Get(ctx, f[1])
		return "value " + string(v.Bytes()), err
	case "put":
		res, err := s.Put(ctx, f[1], []byte(f[2]), nil)
		return fmt.Sprintf("ok %s version %d", res.Key, res.KeyVersion), err
	case "put-under":
		_, err := s.Put(ctx, f[1], []byte(f[2]), &store.PutOptions{Key: f[3]})
		return "ok", err
	case "set-key":
		_, err := s.SetKey(ctx, f[1], f[2])
		return "ok", err
	}
	return "", fmt.Errorf("unknown verb %q", f[0])
}

// sentinel names the sentinel that err wraps.
func sentinel(err error) string {
	for _, s := range []error{store.ErrKeyUnavailable, store.ErrRootRotated, store.ErrDamaged, store.ErrBusy, store.ErrNotFound} {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	return err.Error()
}

// session is a child process that has the store open.
type session struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

func newSession(t *testing.T, path string) *session {
	t.Helper()
	cmd := child(t, "session", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	s := &session{t: t, in: in, out: bufio.NewScanner(out)}
	s.answer("ok open")
	return s
}

func (s *session) answer(want string) {
	s.t.Helper()
	if !s.out.Scan() {
		s.t.Fatalf("the other process ended: %v", s.out.Err())
	}
	if got := s.out.Text(); got != want {
		s.t.Errorf("the other process answered %q, want %q", got, want)
	}
}

// does has the other process do something.
func (s *session) does(verb, want string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, verb); err != nil {
		s.t.Fatal(err)
	}
	s.answer(want)
}

// wantNoWrapUnderDestroyed fails if a data key is wrapped by a version that is destroyed.
func wantNoWrapUnderDestroyed(t *testing.T, s *store.Store) {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		for _, v := range k.Versions {
			if v.State == store.Destroyed && v.DataKeys != 0 {
				t.Errorf("%d data keys are wrapped by %s version %d, which is destroyed", v.DataKeys, k.Name, v.Version)
			}
		}
	}
	list, err := s.List(t.Context(), store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, sec := range list {
		if sec.Damage != "" || sec.Drift {
			t.Errorf("%s: damage %q, drift %v", sec.Name, sec.Damage, sec.Drift)
		}
	}
}

func TestCachedVersionIsNotUsedAfterItsDestruction(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	put(t, s, "app/db", "one", "")
	other := newSession(t, s.Path())
	other.does("get app/db", "value one")
	other.does("put app/db two", "ok default version 1") // it holds version 1 now

	if _, err := s.RotateKey(ctx, "default"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetKey(ctx, "app/db", "default"); err != nil {
		t.Fatal(err)
	}
	if err := s.DestroyKeyVersion(ctx, "default", 1); err != nil {
		t.Fatal(err)
	}
	other.does("get app/db", "value two")
	other.does("put app/db three", "ok default version 2")
	other.does("put app/new first", "ok default version 2")
	wantNoWrapUnderDestroyed(t, s)
	for i, want := range []string{"one", "two", "three"} {
		wantValue(t, s, "app/db", want, store.Version(uint64(i+1)))
	}
	wantValue(t, s, "app/new", "first")
}

func TestCachedKeyIsNotUsedAfterItsDestruction(t *testing.T) {
	ctx := t.Context()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := options()
	o.Now = func() time.Time { return now }
	s, err := store.Create(ctx, filepath.Join(t.TempDir(), "reseal.db"), store.Passphrase([]byte(passphrase)), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CreateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "one", "mk-1")
	other := newSession(t, s.Path())
	other.does("get app/db", "value one")
	other.does("put app/db two", "ok mk-1 version 1")

	if _, err := s.SetKey(ctx, "app/db", "default"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ScheduleKeyDeletion(ctx, "mk-1", 0); err != nil {
		t.Fatal(err)
	}
	other.does("put-under app/new first mk-1", "error: "+store.ErrKeyUnavailable.Error())
	now = now.Add(31 * 24 * time.Hour)
	report, err := s.Sweep(ctx, false)
	if err != nil || !cmp.Equal(report.DestroyedKeys, []string{"mk-1"}) {
		t.Fatalf("Sweep = %+v, %v", report, err)
	}
	other.does("put-under app/new first mk-1", "error: "+store.ErrKeyUnavailable.Error())
	other.does("set-key app/db mk-1", "error: "+store.ErrKeyUnavailable.Error())
	other.does("get app/db", "value two")
	other.does("put app/db three", "ok default version 1")
	wantNoWrapUnderDestroyed(t, s)
	for i, want := range []string{"one", "two", "three"} {
		wantValue(t, s, "app/db", want, store.Version(uint64(i+1)))
	}
}

func TestCachedKeyIsNotUsedWhileDisabled(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	if err := s.CreateKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "app/db", "one", "mk-1")
	other := newSession(t, s.Path())
	other.does("get app/db", "value one")
	if _, err := s.DisableKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	unavailable := "error: " + store.ErrKeyUnavailable.Error()
	other.does("get app/db", unavailable)
	other.does("put app/db two", unavailable)
	other.does("put-under app/new first mk-1", unavailable)
	if err := s.EnableKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	other.does("get app/db", "value one")
	other.does("put app/db two", "ok mk-1 version 1")
	if _, err := s.DisableKey(ctx, "mk-1"); err != nil {
		t.Fatal(err)
	}
	other.does("set-key app/db default", "ok") // the way out
	other.does("get app/db", "value two")
	wantNoWrapUnderDestroyed(t, s)
}

func TestOtherProcessIsToldThatTheRootRotated(t *testing.T) {
	r, ctx := newRooted(t), t.Context()
	other := newSession(t, r.Path())
	other.does("get app/db", "value hunter2")
	if _, err := r.RotateRoot(ctx, r.all()); err != nil {
		t.Fatal(err)
	}
	rotated := "error: " + store.ErrRootRotated.Error()
	other.does("put app/db three", rotated)
	other.does("get app/mail", rotated)
	newSession(t, r.Path()).does("get app/mail", "value postbox")
	wantValue(t, r.Store, "app/db", "hunter2")
}
