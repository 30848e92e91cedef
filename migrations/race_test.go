package migrations

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
)

// TestMain lets the test binary be the processes of the tests below.
func TestMain(m *testing.M) {
	if what := os.Getenv("RESEAL_TEST_START"); what != "" {
		if err := start(what, os.Getenv("RESEAL_TEST_DSN")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start says that it is ready, waits for its input to close, and migrates the
// file.
func start(what, dsn string) error {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	ctx := context.Background()
	if what == "goose" {
		p, err := goose.NewProvider(goose.DialectSQLite3, db, SQL, goose.WithTableName(Table), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return err
		}
		_, err = p.Up(ctx)
		return err
	}
	if _, err := Up(ctx, db, Options{Create: true}); err != nil {
		return err
	}
	return nil
}

// hasty is how the driver opens a file by itself: a lock that is held is an
// error at once. patient waits for it.
const (
	hasty   = ""
	patient = "_pragma=busy_timeout(10000)"
)

// startTogether starts processes on a new file, lets them go at once, and
// returns the errors of those that failed.
func startTogether(t *testing.T, what, query string, n int) (path string, failed []string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store.db")
	var all []*process
	for range n {
		all = append(all, newProcess(t, what, path, query))
	}
	for _, p := range all {
		p.gate.Close()
	}
	for _, p := range all {
		if err := p.Wait(); err != nil {
			failed = append(failed, fmt.Sprintf("%v: %s", err, p.stderr.String()))
		}
	}
	return path, failed
}

// process is one that waits at its gate.
type process struct {
	*exec.Cmd
	gate   io.Closer
	stderr bytes.Buffer
}

func newProcess(t *testing.T, what, path, query string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), "RESEAL_TEST_START="+what, "RESEAL_TEST_DSN=file:"+path+"?"+query)
	p.Stderr = &p.stderr
	gate, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.gate = gate
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("start: %v: %s", err, p.stderr.String())
	}
	return p
}

// The figure in docs/reliability.md is from
//
//	go test ./migrations -run TestTenProcessesStartAtOnce -starts 50
var starts = flag.Int("starts", 6, "rounds of TestTenProcessesStartAtOnce")

const processes = 10

func TestTenProcessesStartAtOnce(t *testing.T) {
	for round := range *starts {
		query := []string{hasty, patient}[round%2]
		path, failed := startTogether(t, "reseal", query, processes)
		for _, f := range failed {
			t.Error(f)
		}
		db := open(t, path)
		if err := CheckSchema(t.Context(), db); err != nil {
			t.Error(err)
		}
		if n := queryInt(t, db, `SELECT count(*) FROM `+Table+` WHERE version_id = 1`); n != 1 {
			t.Errorf("version 1 is recorded %d times", n)
		}
		db.Close()
		if names, _ := filepath.Glob(path + "?*"); len(names) > 0 {
			t.Errorf("left behind: %v", names)
		}
	}
}

// TestGooseAloneFailsWhenProcessesStartAtOnce shows that the test above can
// fail: without lock and wrapping transaction some of the processes do.
func TestGooseAloneFailsWhenProcessesStartAtOnce(t *testing.T) {
	const rounds = 20
	for range rounds {
		if _, failed := startTogether(t, "goose", patient, processes); len(failed) > 0 {
			t.Logf("%d of %d failed, the first with %s", len(failed), processes, failed[0])
			return
		}
	}
	t.Errorf("%d rounds of %d processes went well with goose alone: the processes do not meet", rounds, processes)
}

// TestKilledProcessLeavesAllOrNothing kills a process somewhere in its
// migration, until kills before and after the commit were seen.
func TestKilledProcessLeavesAllOrNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("kills up to 300 processes")
	}
	seen := map[int64]int{}
	for try := 0; try < 300 && (try < 40 || len(seen) < 2); try++ {
		path := filepath.Join(t.TempDir(), "store.db")
		p := newProcess(t, "reseal", path, patient)
		p.gate.Close()
		// Over a longer time in each round of 40, for slow machines.
		time.Sleep(time.Duration(try%40) * time.Duration(1+try/40) * 500 * time.Microsecond)
		p.Process.Kill()
		p.Wait()
		db := open(t, path)
		version, err := Current(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		seen[version]++
		if n := queryInt(t, db, `SELECT count(*) FROM sqlite_schema`); version == 0 && n != 0 {
			t.Errorf("a killed process left %d objects and no version", n)
		}
		if _, err := Up(t.Context(), db, Options{Create: true}); err != nil {
			t.Errorf("after a kill: %v", err)
		}
		if err := CheckSchema(t.Context(), db); err != nil {
			t.Errorf("after a kill: %v", err)
		}
		db.Close()
	}
	if len(seen) < 2 {
		t.Errorf("kills by version found: %v, want some before and some after the commit", seen)
	}
	t.Logf("kills by version found: %v", seen)
}
