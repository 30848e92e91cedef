package rotate_test

import (
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// The sweep that is documented is
//
//	go test ./rotate -run TestKilledProcessLosesNothing -kills 300
var kills = flag.Int("kills", 20, "how many times TestKilledProcessLosesNothing kills a process")

// A process that puts, changes keys and rotates, all at once, is killed at a
// random moment, again and again on the same store. After each kill every
// acknowledged version opens to its bytes, no secret's versions are under two
// keys, and the open jobs can be finished.
func TestKilledProcessLosesNothing(t *testing.T) {
	s := newStore(t)
	path := s.Path()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	acknowledged := map[string]string{}
	open := 0
	for round := range *kills {
		s.Close()
		for _, line := range killedChild(t, "all", path, r) {
			acknowledge(t, acknowledged, line)
		}
		s = reopen(t, path)
		if bad := violations(t, s, acknowledged); bad != "" {
			t.Fatalf("after kill %d: %s", round+1, bad)
		}
		if r.IntN(2) == 0 { // else the next process finds the jobs open
			open += finishJobs(t, s)
		}
	}
	open += finishJobs(t, s)
	if bad := violations(t, s, acknowledged); bad != "" {
		t.Fatal(bad)
	}
	rep, err := s.Verify(t.Context(), store.VerifyOptions{Deep: true})
	if err != nil || !rep.OK {
		t.Errorf("Verify = %+v, %v", rep, err)
	}
	t.Logf("%d kills, %d acknowledged versions, %d jobs finished that a kill had left open", *kills, len(acknowledged), open)
	if len(acknowledged) < *kills/4 || open == 0 {
		t.Error("the kills came too early to say anything")
	}
}

// killedChild starts a process, kills it a little later, and returns what it
// acknowledged.
func killedChild(t *testing.T, role, path string, r *rand.Rand) []string {
	t.Helper()
	c := startChild(t, role, path, r.Uint64())
	timer := time.AfterFunc(time.Duration(5000+r.IntN(120_000))*time.Microsecond, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	lines := c.rest()
	if err := c.cmd.Wait(); err == nil || c.cmd.ProcessState.Exited() || c.err.Len() > 0 {
		t.Fatalf("child ended by itself, or complained: %v: %s", c.cmd.ProcessState, &c.err)
	}
	return lines
}

func acknowledge(t *testing.T, all map[string]string, line string) {
	t.Helper()
	f := strings.Fields(line)
	if len(f) != 5 || f[0] != "put" {
		t.Fatalf("child said %q", line)
	}
	all[f[1]+" "+f[2]] = f[3]
}

func reopen(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, credential(), options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// finishJobs runs every open job to its end and again, when it must find
// nothing to do.
func finishJobs(t *testing.T, s *store.Store) int {
	t.Helper()
	jobs, err := rotate.Status(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, j := range jobs {
		if !j.State.Open() {
			continue
		}
		n++
		o := rotate.Options{From: j.From, To: j.To}
		if j.From == j.To {
			o = rotate.Options{Key: j.From}
		}
		o.Mode, o.MadeBefore, o.Prefix = rotate.Mode(j.Mode), j.MadeBefore, j.Prefix
		if rep := runOK(t, s, o); rep.Job != j.ID {
			t.Errorf("job %s was not taken up: %+v", j.ID, rep)
		}
		if rep := runOK(t, s, o); rep.Job != "" {
			t.Errorf("job %s had more to do: %+v", j.ID, rep)
		}
	}
	return n
}

// violations returns what is wrong with the store after a kill, or "".
func violations(t *testing.T, s *store.Store, acknowledged map[string]string) string {
	t.Helper()
	if two := underTwoKeys(t, s); two != "" {
		return "the versions of " + two + " are under several keys"
	}
	for version, word := range acknowledged {
		name, number, _ := strings.Cut(version, " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), name, store.Version(n))
		if err != nil {
			return err.Error()
		}
		if string(got.Bytes()) != word {
			return fmt.Sprintf("%s is %q and was acknowledged as %q", version, got.Bytes(), word)
		}
	}
	if _, err := s.VerifyAudit(t.Context()); err != nil {
		return err.Error()
	}
	return ""
}

// underTwoKeys names a secret with a version under another key than the one it
// is configured with, or "". It asks the rows themselves.
func underTwoKeys(t *testing.T, s *store.Store) string {
	t.Helper()
	db, err := sql.Open("sqlite", s.Path()+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var name string
	err = db.QueryRowContext(t.Context(), `
		SELECT s.name
		FROM reseal_secrets AS s
		JOIN reseal_secret_versions AS v ON v.secret = s.id
		LEFT JOIN reseal_data_keys AS d ON d.id = v.id
		LEFT JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
		WHERE kv.master_key IS NOT s.master_key
		LIMIT 1`).Scan(&name)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return name
}
