//go:build reseal_format2

package rotate_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// The figure in docs/reliability.md is from
//
//	go test -tags reseal_format2 ./rotate -run Format2 -v
var formatSecrets = flag.Int("format-secrets", 300, "secrets of TestStoreGoesToFormat2WhileItIsKilled")

const formatChild = "RESEAL_TEST_FORMAT2"

// A test binary that finds a store's path in the environment is a process of the
// release that writes format 2, at work on reencrypting it.
func init() {
	if path := os.Getenv(formatChild); path != "" {
		crypto.WriteFormat2(true)
		if err := toFormat2(context.Background(), path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

func toFormat2(ctx context.Context, path string) error {
	s, err := store.Open(ctx, path, credential(), options())
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("ready")
	for _, key := range []string{"mk-1", "mk-2"} {
		if _, err := rotate.Run(ctx, s, rotate.Options{Key: key, Mode: "reencrypt", Batch: 10}); err != nil {
			return err
		}
	}
	return nil
}

// formats counts the secret versions by the suite bytes of value and data key.
func formats(t *testing.T, s *store.Store) map[string]int {
	t.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `
		SELECT hex(substr(v.sealed, 4, 1)) || hex(substr(d.wrapped, 4, 1)), count(*)
		FROM reseal_secret_versions AS v
		JOIN reseal_data_keys AS d ON d.id = v.id
		GROUP BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := map[string]int{}
	for rows.Next() {
		var suites string
		var count int
		if err := rows.Scan(&suites, &count); err != nil {
			t.Fatal(err)
		}
		n[suites] = count
	}
	return n
}

const both1, both2 = "0101", "7F7F"

// TestStoreGoesToFormat2WhileItIsKilled has a store of format 1 and a release
// that writes format 2: rotate run --mode reencrypt moves every value, killed
// again and again. At each moment the store holds both, whole.
func TestStoreGoesToFormat2WhileItIsKilled(t *testing.T) {
	secrets := *formatSecrets
	s := newStore(t)
	fill(t, s, "app", secrets, 2, 200)
	if _, err := s.SetKey(t.Context(), "app/0", "mk-2"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"mk-1", "mk-2"} { // a reencryption leaves a version of the master key
		rotateKey(t, s, key)
	}
	total := 2 * secrets
	if n := formats(t, s); n[both1] != total {
		t.Fatalf("a new store has %v, want %d of format 1", n, total)
	}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	kills, between, last := 0, 0, 0
	for {
		// Later and later, so that a busy machine comes to the end too.
		ended := formatRun(t, s.Path(), time.Duration(1+r.IntN(8+kills))*time.Millisecond)
		n := formats(t, s)
		if n[both1]+n[both2] != total || n[both2] < last {
			t.Fatalf("after %d kills: %v of %d, with %d of format 2 before", kills, n, total, last)
		}
		last = n[both2]
		wantFilled(t, s, "app", secrets, 2, 200)
		if ended {
			break
		}
		if kills++; n[both1] > 0 && n[both2] > 0 {
			between++
		}
		if kills > 2000 {
			t.Fatalf("%d kills, and %v", kills, n)
		}
	}
	if last != total {
		t.Errorf("at the end %d of %d are of format 2", last, total)
	}
	if between < 3 {
		t.Errorf("%d of %d kills were between the formats: they say nothing", between, kills)
	}
	resealtest.Check(t, s)
	t.Logf("%d values in format 2 after %d kills, %d of them between the formats", total, kills, between)
}

// formatRun runs the process and kills it after a time. It reports whether it
// came to its end before.
func formatRun(t *testing.T, path string, after time.Duration) (ended bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), formatChild+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ready [6]byte
	if _, err := out.Read(ready[:]); err != nil {
		t.Fatalf("the process did not begin: %v, %v", err, cmd.Wait())
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	if err != nil && cmd.ProcessState.Exited() {
		t.Fatalf("the process failed: %v", err)
	}
	return err == nil
}

// TestFormat2LivesBesideFormat1 puts and reads in both formats at once, and
// rewraps: a wrap is then of the format that is written, a value stays.
func TestFormat2LivesBesideFormat1(t *testing.T) {
	defer crypto.WriteFormat2(false)
	s := newStore(t)
	fill(t, s, "old", 10, 1, 50)
	crypto.WriteFormat2(true)
	fill(t, s, "new", 10, 1, 50)
	if n := formats(t, s); n[both1] != 10 || n[both2] != 10 {
		t.Fatalf("formats %v", n)
	}
	if _, err := s.SetKey(t.Context(), "old/3", "mk-2"); err != nil {
		t.Fatal(err)
	}
	if n := formats(t, s); n[both1] != 9 || n["017F"] != 1 {
		t.Errorf("after a rewrap: formats %v", n)
	}
	wantFilled(t, s, "old", 10, 1, 50)
	wantFilled(t, s, "new", 10, 1, 50)
	resealtest.Check(t, s)
}

// TestEveryWrapGoesToFormat2 does what docs/migrations.md tells operators to do
// when a release writes a new format: nothing of the store is of the old one then.
func TestEveryWrapGoesToFormat2(t *testing.T) {
	defer crypto.WriteFormat2(false)
	s := newStore(t)
	fill(t, s, "app", 10, 2, 50)
	if n := suites(t, s); len(n) != 1 || n["01"] == 0 {
		t.Fatalf("a new store has envelopes of %v, want format 1 alone", n)
	}
	crypto.WriteFormat2(true)
	slots, err := s.Slots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.RotateRoot(t.Context(), store.RotateRootOptions{Credentials: map[string]store.Credential{slots[0].ID: credential()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"default", "mk-1", "mk-2"} {
		rotateKey(t, s, key)
		if _, err := rotate.Run(t.Context(), s, rotate.Options{Key: key, Mode: "reencrypt"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := suites(t, s); len(n) != 1 || n["7F"] == 0 {
		t.Errorf("envelopes of %v are left, want format 2 alone", n)
	}
	wantFilled(t, s, "app", 10, 2, 50)
	resealtest.Check(t, s)
}

// suites counts every envelope in the store by its suite byte.
func suites(t *testing.T, s *store.Store) map[string]int {
	t.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := map[string]int{}
	for table, column := range map[string]string{
		"reseal_unseal_slots":     "wrapped",
		"reseal_root_keys":        "integrity_wrapped",
		"reseal_master_key_wraps": "wrapped",
		"reseal_data_keys":        "wrapped",
		"reseal_secret_versions":  "sealed",
	} {
		rows, err := db.QueryContext(t.Context(), "SELECT hex(substr("+column+", 4, 1)) FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var suite string
			if err := rows.Scan(&suite); err != nil {
				t.Fatal(err)
			}
			n[suite]++
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return n
}
