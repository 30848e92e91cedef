package rotate_test

import (
	"cmp"
	"flag"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/rotate"
)

// With -load 100000 the test is the measurement that the documentation gives.
var load = flag.Int("load", 3000, "how many secrets TestOtherProcessesGoOnDuringRotation rotates")

// Four processes read and two write while a fifth rotates, in each way: none of
// them gets an error.
func TestOtherProcessesGoOnDuringRotation(t *testing.T) {
	if testing.Short() {
		t.Skip("six busy processes take long")
	}
	s := newStore(t)
	fill(t, s, "app", *load, 1, 32)
	t.Log("idle", during(t, s.Path(), func() { time.Sleep(time.Second) }))
	for _, o := range []rotate.Options{
		{Key: "mk-1"},
		{Key: "mk-1", Fast: true},
		{From: "mk-1", To: "mk-2"},
	} {
		if o.Key != "" {
			rotateKey(t, s, o.Key)
		}
		var rep rotate.Report
		times := during(t, s.Path(), func() { rep = runOK(t, s, o) })
		t.Logf("key %q fast %v: %d data keys in %v, %.0f/s, longest lock %v; %s", o.Key, o.Fast, rep.Moved, rep.Elapsed.Round(time.Millisecond), rep.Rate, rep.LongestLock, times)
	}
	wantFilled(t, s, "app", 100, 1, 32)
}

// during runs fn while other processes read and write, and returns how long
// their operations took.
func during(t *testing.T, path string, fn func()) string {
	t.Helper()
	var children []*child
	for i := range 6 {
		role := "read"
		if i >= 4 {
			role = "write"
		}
		children = append(children, startChild(t, role, path, uint64(i)))
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	took := map[string][]int{} // microseconds, by operation
	for _, c := range children {
		wg.Go(func() {
			for _, line := range c.rest() {
				f := strings.Fields(line)
				us, err := strconv.Atoi(f[len(f)-1])
				mu.Lock()
				took[f[0]] = append(took[f[0]], us)
				mu.Unlock()
				if err != nil {
					t.Errorf("child said %q", line)
				}
			}
		})
	}
	fn()
	for _, c := range children {
		c.stdin.Close()
	}
	wg.Wait()
	for _, c := range children {
		if err := c.cmd.Wait(); err != nil || c.err.Len() > 0 {
			t.Errorf("another process: %v: %s", err, &c.err)
		}
	}
	if len(took["get"]) == 0 || len(took["put"]) == 0 {
		t.Errorf("the other processes did nothing: %d gets, %d puts", len(took["get"]), len(took["put"]))
		return ""
	}
	return "get " + quantiles(took["get"]) + ", put " + quantiles(took["put"])
}

func quantiles(us []int) string {
	slices.SortFunc(us, cmp.Compare[int])
	at := func(q float64) string {
		return (time.Duration(us[int(q*float64(len(us)-1))]) * time.Microsecond).String()
	}
	return "n=" + strconv.Itoa(len(us)) + " p50=" + at(0.5) + " p99=" + at(0.99) + " max=" + at(1)
}
