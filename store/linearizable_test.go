package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The histories that docs/reliability.md tells of:
//
//	go test ./store -run Linearizable -histories 200 -v
var histories = flag.Int("histories", 8, "how many histories TestPutLabelGetAreLinearizable records")

// act is one operation of a history on one secret: a put, a move of a label, or
// a get by label.
type act struct {
	kind, label, value string
	number             uint64
}

// answer is what it gave.
type answer struct {
	number uint64 // of a put
	value  string // of a get; "" if there was no such label
}

// secretState is a secret as the model has it. It is comparable, as the checker
// wants it.
type secretState struct {
	values                    string // all of them, each with a blank behind it
	versions                  uint64
	current, previous, custom uint64
}

func (s secretState) value(number uint64) string {
	if number == 0 {
		return ""
	}
	return strings.Fields(s.values)[number-1]
}

// secretModel is what put, label and get do when nobody else is there.
var secretModel = porcupine.Model{
	Init: func() any { return secretState{} },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(secretState), input.(act), output.(answer)
		switch in.kind {
		case "put":
			s.versions++
			s.values += in.value + " "
			s.previous, s.current = s.current, s.versions
			return out.number == s.versions, s
		case "label":
			switch {
			case in.number > s.versions:
				return false, s
			case in.label == "custom":
				s.custom = in.number
			case s.current != in.number:
				s.previous, s.current = s.current, in.number
			}
			return true, s
		}
		labels := map[string]uint64{"current": s.current, "previous": s.previous, "custom": s.custom}
		return out.value == s.value(labels[in.label]), s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// client does an act on a store.
type client func(ctx context.Context, s *store.Store, a act) (answer, error)

func honest(ctx context.Context, s *store.Store, a act) (answer, error) {
	switch a.kind {
	case "put":
		res, err := s.Put(ctx, "app/db", []byte(a.value), nil)
		return answer{number: res.Version}, err
	case "label":
		return answer{}, s.SetLabel(ctx, "app/db", a.label, a.number)
	}
	v, err := s.Get(ctx, "app/db", store.Label(a.label))
	if errors.Is(err, store.ErrNotFound) {
		return answer{}, nil
	}
	return answer{value: string(v.Bytes())}, err
}

// forgetful is a put in two transactions: the version first, then its label.
func forgetful(ctx context.Context, s *store.Store, a act) (answer, error) {
	if a.kind != "put" {
		return honest(ctx, s, a)
	}
	res, err := s.Put(ctx, "app/db", []byte(a.value), &store.PutOptions{Label: "pending"})
	if err != nil {
		return answer{}, err
	}
	return answer{number: res.Version}, s.SetLabel(ctx, "app/db", "current", res.Version)
}

// stale is a get that remembers what it read before, and looks again every third
// time only.
func stale() client {
	var mu sync.Mutex
	seen, reads := map[string]answer{}, 0
	return func(ctx context.Context, s *store.Store, a act) (answer, error) {
		if a.kind != "get" {
			return honest(ctx, s, a)
		}
		mu.Lock()
		defer mu.Unlock()
		if known, ok := seen[a.label]; ok && reads%3 > 0 {
			reads++
			return known, nil
		}
		reads++
		got, err := honest(ctx, s, a)
		seen[a.label] = got
		return got, err
	}
}

const (
	clients  = 5
	actsEach = 9
)

// history records what several clients, through two open stores on one file, do
// at once to one secret.
func history(t *testing.T, do client, seed uint64) []porcupine.Operation {
	t.Helper()
	ctx := t.Context()
	path := filepath.Join(memoryDir(t), "reseal.db")
	o := flipOptions()
	o.BusyTimeout = 20 * time.Second
	first, err := store.Create(ctx, path, resealtest.Credential(), o)
	storetest.OK(t, err)
	defer first.Close()
	second, err := store.Open(ctx, path, resealtest.Credential(), o)
	storetest.OK(t, err)
	defer second.Close()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []porcupine.Operation
	began := time.Now()
	for id := range clients {
		s := []*store.Store{first, second}[id%2]
		r := rand.New(rand.NewPCG(seed, uint64(id)))
		wg.Go(func() {
			var own []uint64
			for i := range actsEach {
				a := nextAct(r, own, fmt.Sprintf("%d-%d", id, i))
				call := time.Since(began).Nanoseconds()
				got, err := do(ctx, s, a)
				back := time.Since(began).Nanoseconds()
				if err != nil {
					t.Errorf("%+v: %v", a, err)
					return
				}
				if a.kind == "put" {
					own = append(own, got.number)
				}
				mu.Lock()
				all = append(all, porcupine.Operation{ClientId: id, Input: a, Call: call, Output: got, Return: back})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return all
}

// nextAct chooses what a client does. It moves labels to versions that it made.
func nextAct(r *rand.Rand, own []uint64, value string) act {
	label := []string{"current", "previous", "custom"}[r.IntN(3)]
	switch n := r.IntN(10); {
	case len(own) == 0 || n < 3:
		return act{kind: "put", value: value}
	case n < 5:
		return act{kind: "label", label: []string{"current", "custom"}[r.IntN(2)], number: own[r.IntN(len(own))]}
	}
	return act{kind: "get", label: label}
}

// refuted counts the histories that no order of the operations explains.
func refuted(t *testing.T, n int, do func() client) (bad int) {
	t.Helper()
	for i := range n {
		h := history(t, do(), uint64(i))
		switch porcupine.CheckOperationsTimeout(secretModel, h, 30*time.Second) {
		case porcupine.Illegal:
			bad++
		case porcupine.Unknown:
			t.Errorf("history %d could not be decided", i)
		}
	}
	return bad
}

// What clients see of one secret is what they would see if each operation
// happened at one instant between its call and its return.
func TestPutLabelGetAreLinearizable(t *testing.T) {
	if bad := refuted(t, *histories, func() client { return honest }); bad > 0 {
		t.Errorf("%d of %d histories are not linearizable", bad, *histories)
	}
	t.Logf("%d histories of %d operations", *histories, clients*actsEach)
}

// The check finds a store that is not: one that puts in two transactions, and
// one that reads from memory.
func TestLinearizableCheckFindsBrokenStores(t *testing.T) {
	for name, do := range map[string]func() client{
		"put in two transactions": func() client { return forgetful },
		"stale reads":             stale,
	} {
		t.Run(name, func(t *testing.T) {
			const most = 60
			for i := 1; i <= most; i++ {
				if refuted(t, 1, do) > 0 {
					t.Logf("found in history %d", i)
					return
				}
			}
			t.Errorf("not found in %d histories", most)
		})
	}
}
