package store_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The run that docs/reliability.md tells of:
//
//	go test ./store -run TestManyProcesses -processes 8 -goroutines 8 -operations 500 -timeout 60m -v
var (
	processes  = flag.Int("processes", 3, "how many processes TestManyProcesses starts")
	goroutines = flag.Int("goroutines", 4, "how many goroutines each has")
	operations = flag.Int("operations", 25, "how many operations each does")
)

const mixedSecrets = 64

func mixedName(r *rand.Rand) string { return fmt.Sprintf("shared/%d", r.IntN(mixedSecrets)) }

// childMixed does mixed operations, in so many goroutines, on secrets that it
// shares with other processes, and says each change that was acknowledged.
// Arguments: file, this process, goroutines, operations, and "whole" or "split":
// whether a counter is read and written in one transaction.
func childMixed(ctx context.Context, args []string) error {
	o := options()
	o.BusyTimeout = 0 // the default
	s, err := store.Open(ctx, args[0], resealtest.Credential(), o)
	if err != nil {
		return err
	}
	defer s.Close()
	fmt.Println("ready")
	numbers := make([]int, 3)
	for i := range numbers {
		if numbers[i], err = strconv.Atoi(args[i+1]); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	for g := range numbers[1] {
		m := &mixer{s: s, r: rand.New(rand.NewPCG(uint64(numbers[0]), uint64(g))), who: fmt.Sprintf("%d-%d", numbers[0], g), split: args[4] == "split", mu: &mu}
		wg.Go(func() {
			for i := range numbers[2] {
				if err := m.one(ctx, i); err != nil {
					mu.Lock()
					all = append(all, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(all...)
}

// mixer is one goroutine of childMixed.
type mixer struct {
	s     *store.Store
	r     *rand.Rand
	who   string
	split bool
	mu    *sync.Mutex
}

func (m *mixer) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Printf(format+"\n", args...)
}

func (m *mixer) one(ctx context.Context, i int) error {
	name := mixedName(m.r)
	switch m.r.IntN(10) {
	case 0, 1, 2:
		value := fmt.Sprintf("%s/%s/%d", name, m.who, i)
		res, err := m.s.Put(ctx, name, []byte(value), nil)
		if err == nil {
			m.say("put %s %d %s", name, res.Version, value)
		}
		return err
	case 3, 4:
		err := m.increment(ctx)
		if err == nil {
			m.say("increment")
		}
		return err
	case 5:
		return m.s.SetLabel(ctx, name, "mark", 1)
	case 6:
		_, err := m.s.SetKey(ctx, name, []string{"default", "mk-1"}[m.r.IntN(2)])
		return err
	case 7:
		list, err := m.s.List(ctx, store.ListOptions{Prefix: name})
		if err == nil && (len(list) == 0 || list[0].Damage != "" || list[0].Drift) {
			err = fmt.Errorf("list gave %+v", list)
		}
		return err
	}
	v, err := m.s.Get(ctx, name)
	if err == nil && !strings.HasPrefix(string(v.Bytes()), name) {
		err = fmt.Errorf("%s is %q", name, v.Bytes())
	}
	return err
}

// increment adds one to a counter that all processes share.
func (m *mixer) increment(ctx context.Context) error {
	if m.split {
		v, err := m.s.Get(ctx, "counter")
		if err != nil {
			return err
		}
		_, err = m.s.Put(ctx, "counter", plusOne(v), nil)
		return err
	}
	return m.s.Update(ctx, func(tx *sql.Tx) error {
		v, err := m.s.GetTx(ctx, tx, "counter")
		if err != nil {
			return err
		}
		_, err = m.s.PutTx(ctx, tx, "counter", plusOne(v), nil)
		return err
	})
}

func plusOne(v store.Value) []byte {
	n, _ := strconv.Atoi(string(v.Bytes()))
	return []byte(strconv.Itoa(n + 1))
}

// mix runs the processes to their end. It returns what each version was
// acknowledged as, how many increments were, and what the counter is.
func mix(t *testing.T, s *resealtest.Store, how string, procs, gos, ops int) (acknowledged map[string]string, increments, counter int) {
	t.Helper()
	var wg sync.WaitGroup
	outputs := make([]bytes.Buffer, procs)
	for p := range procs {
		cmd := child(t, "mixed", s.Path(), fmt.Sprint(p), fmt.Sprint(gos), fmt.Sprint(ops), how)
		cmd.Stdout = &outputs[p]
		cmd.Stderr = &outputs[p]
		storetest.OK(t, cmd.Start())
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v: %s", p, err, lastLine(outputs[p].String()))
			}
		})
	}
	wg.Wait()
	acknowledged = map[string]string{}
	for p := range outputs {
		for lines := bufio.NewScanner(&outputs[p]); lines.Scan(); {
			switch f := strings.Fields(lines.Text()); {
			case len(f) == 4 && f[0] == "put":
				if other, twice := acknowledged[f[1]+" "+f[2]]; twice {
					t.Errorf("%s version %s was acknowledged as %s and %s", f[1], f[2], other, f[3])
				}
				acknowledged[f[1]+" "+f[2]] = f[3]
			case len(f) == 1 && f[0] == "increment":
				increments++
			}
		}
	}
	counter, err := strconv.Atoi(s.MustGet(t, "counter"))
	storetest.OK(t, err)
	return acknowledged, increments, counter
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func mixedStore(t *testing.T) *resealtest.Store {
	t.Helper()
	s := resealtest.New(t, nil)
	storetest.OK(t, s.CreateKey(t.Context(), "mk-1"))
	s.MustPut(t, "counter", "0", store.PutOptions{})
	for i := range mixedSecrets {
		name := fmt.Sprintf("shared/%d", i)
		s.MustPut(t, name, name+"/first", store.PutOptions{})
	}
	return s
}

// Several processes with several goroutines each: no acknowledged version is
// missing or another's, no increment is lost, and nobody is told "busy".
func TestManyProcesses(t *testing.T) {
	s := mixedStore(t)
	acknowledged, increments, counter := mix(t, s, "whole", *processes, *goroutines, *operations)
	if increments != counter {
		t.Errorf("the counter is %d after %d increments", counter, increments)
	}
	for version, want := range acknowledged {
		name, number, _ := strings.Cut(version, " ")
		n, err := strconv.ParseUint(number, 10, 64)
		storetest.OK(t, err)
		if got := s.MustGet(t, name, store.Version(n)); got != want {
			t.Errorf("%s is %q and was acknowledged as %q", version, got, want)
		}
	}
	list, err := s.List(t.Context(), store.ListOptions{Prefix: "shared/"})
	storetest.OK(t, err)
	versions := 0
	for _, sec := range list {
		info, err := s.Show(t.Context(), sec.Name)
		storetest.OK(t, err)
		for i, v := range info.Versions {
			if v.Version != uint64(i+1) {
				t.Errorf("%s: version %d is missing", sec.Name, i+1)
			}
		}
		versions += len(info.Versions)
	}
	if versions != len(acknowledged)+mixedSecrets {
		t.Errorf("%d versions are there and %d were acknowledged", versions-mixedSecrets, len(acknowledged))
	}
	t.Logf("%d processes with %d goroutines with %d operations: %d puts, %d increments", *processes, *goroutines, *operations, len(acknowledged), increments)
}

// The check finds updates that are lost: those of a counter that is read and
// written in two transactions.
func TestManyProcessesFindsLostUpdates(t *testing.T) {
	s := mixedStore(t)
	if _, increments, counter := mix(t, s, "split", 3, 4, 25); counter >= increments {
		t.Errorf("the counter is %d after %d increments: none was lost", counter, increments)
	}
}
