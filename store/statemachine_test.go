package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// modelSecret is a secret as a map has it.
type modelSecret struct {
	values  map[uint64]string
	next    uint64
	labels  map[string]uint64
	key     string
	deleted bool
}

// machine is a store and what should be in it.
type machine struct {
	t       *testing.T
	s       *store.Store
	path    string
	secrets map[string]*modelSecret // without values once purged
	off     bool                    // mk-1 is disabled
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, path: filepath.Join(memoryDir(t), "reseal.db"), secrets: map[string]*modelSecret{}}
	s, err := store.Create(context.Background(), m.path, resealtest.Credential(), flipOptions())
	storetest.OK(t, err)
	m.s = s
	storetest.OK(t, s.CreateKey(context.Background(), "mk-1"))
	return m
}

func (m *machine) open(rt *rapid.T) {
	s, err := store.Open(context.Background(), m.path, resealtest.Credential(), flipOptions())
	if err != nil {
		rt.Fatalf("open: %v", err)
	}
	m.s = s
}

// want compares an error with the one that the model expects.
func want(rt *rapid.T, what string, got, want error) bool {
	if !errors.Is(got, want) || (got == nil) != (want == nil) {
		rt.Fatalf("%s: %v, want %v", what, got, want)
	}
	return want == nil
}

var (
	anyName  = rapid.SampledFrom([]string{"a", "a/b", "z"})
	anyLabel = rapid.SampledFrom([]string{"current", "pending", "blue"})
	anyKey   = rapid.SampledFrom([]string{"default", "mk-1"})
)

// there is the error of a verb on a secret that may not be there.
func (m *machine) there(name string) (*modelSecret, error) {
	sec := m.secrets[name]
	switch {
	case sec == nil || len(sec.values) == 0:
		return sec, store.ErrNotFound
	case sec.deleted:
		return sec, store.ErrDeleted
	}
	return sec, nil
}

func (m *machine) usable(key string) error {
	if m.off && key == "mk-1" {
		return store.ErrKeyUnavailable
	}
	return nil
}

func (m *machine) put(rt *rapid.T) {
	name, label, value := anyName.Draw(rt, "name"), anyLabel.Draw(rt, "label"), rapid.StringN(1, 40, 200).Draw(rt, "value")
	sec, err := m.there(name)
	key := "default"
	if err == nil {
		key = sec.key
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	if err == nil {
		err = m.usable(key)
	}
	res, got := m.s.Put(context.Background(), name, []byte(value), &store.PutOptions{Label: label})
	if !want(rt, "put", got, err) {
		return
	}
	if sec == nil {
		sec = &modelSecret{next: 1}
		m.secrets[name] = sec
	}
	isNew := len(sec.values) == 0
	if isNew {
		sec.values, sec.labels, sec.key, sec.deleted = map[uint64]string{}, map[string]uint64{}, key, false
	}
	if res.Version != sec.next {
		rt.Fatalf("put gave version %d, want %d", res.Version, sec.next)
	}
	sec.values[sec.next] = value
	sec.move(label, sec.next)
	if isNew {
		sec.move("current", sec.next)
	}
	sec.next++
}

func (sec *modelSecret) move(label string, to uint64) {
	if was, ok := sec.labels["current"]; ok && label == "current" && was != to {
		sec.labels["previous"] = was
	}
	sec.labels[label] = to
}

func (m *machine) label(rt *rapid.T) {
	name, label := anyName.Draw(rt, "name"), anyLabel.Draw(rt, "label")
	sec, err := m.there(name)
	if err != nil {
		return
	}
	numbers := slices.Sorted(maps.Keys(sec.values))
	to := numbers[rapid.IntRange(0, len(numbers)-1).Draw(rt, "version")]
	if want(rt, "label", m.s.SetLabel(context.Background(), name, label, to), nil) {
		sec.move(label, to)
	}
}

func (m *machine) setKey(rt *rapid.T) {
	name, key := anyName.Draw(rt, "name"), anyKey.Draw(rt, "key")
	sec, err := m.there(name)
	if errors.Is(err, store.ErrDeleted) {
		err = nil
	}
	if err == nil {
		err = m.usable(key)
	}
	_, got := m.s.SetKey(context.Background(), name, key)
	if errors.Is(got, store.ErrNotFound) || errors.Is(got, store.ErrKeyUnavailable) { // either may come first
		if err == nil {
			rt.Fatalf("set-key: %v", got)
		}
		return
	}
	if want(rt, "set-key", got, err) {
		sec.key = key
	}
}

func (m *machine) remove(rt *rapid.T) {
	name := anyName.Draw(rt, "name")
	sec, err := m.there(name)
	_, got := m.s.Delete(context.Background(), name, 0)
	if want(rt, "delete", got, err) {
		sec.deleted = true
	}
}

func (m *machine) restore(rt *rapid.T) {
	name := anyName.Draw(rt, "name")
	if sec, err := m.there(name); errors.Is(err, store.ErrDeleted) {
		_, got := m.s.Restore(context.Background(), name)
		want(rt, "restore", got, nil)
		sec.deleted = false
	}
}

func (m *machine) purge(rt *rapid.T) {
	name := anyName.Draw(rt, "name")
	if sec, err := m.there(name); !errors.Is(err, store.ErrNotFound) {
		_, got := m.s.Purge(context.Background(), name, true)
		want(rt, "purge", got, nil)
		sec.values, sec.deleted = nil, false
	}
}

func (m *machine) prune(rt *rapid.T) {
	name := anyName.Draw(rt, "name")
	sec, err := m.there(name)
	if err != nil {
		return
	}
	n, got := m.s.Prune(context.Background(), name, 0)
	want(rt, "prune", got, nil)
	labelled := slices.Collect(maps.Values(sec.labels))
	removed := 0
	for v := range sec.values {
		if !slices.Contains(labelled, v) {
			delete(sec.values, v)
			removed++
		}
	}
	if n != removed {
		rt.Fatalf("prune removed %d versions, want %d", n, removed)
	}
}

func (m *machine) key(rt *rapid.T) {
	ctx := context.Background()
	var err error
	switch {
	case rapid.Bool().Draw(rt, "rotate"):
		if m.off {
			return
		}
		_, err = m.s.RotateKey(ctx, "mk-1")
	case m.off:
		err = m.s.EnableKey(ctx, "mk-1")
		m.off = false
	default:
		_, err = m.s.DisableKey(ctx, "mk-1")
		m.off = true
	}
	want(rt, "key", err, nil)
}

func (m *machine) reopen(rt *rapid.T) {
	if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
	m.open(rt)
}

// kill goes on with the files as they are now, as after the process was killed.
func (m *machine) kill(rt *rapid.T) {
	to := filepath.Join(memoryDir(m.t), "reseal.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(m.path + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, data, 0o600)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			rt.Fatal(err)
		}
	}
	m.s.Close()
	os.RemoveAll(filepath.Dir(m.path))
	m.path = to
	m.open(rt)
}

// check compares all that can be read.
func (m *machine) check(rt *rapid.T) {
	ctx := context.Background()
	for name, sec := range m.secrets {
		_, err := m.there(name)
		if err == nil {
			err = m.usable(sec.key)
		}
		for number, value := range sec.values {
			m.read(rt, ctx, fmt.Sprintf("get %s version %d", name, number), name, store.Version(number), value, err)
		}
		for label, number := range sec.labels {
			if len(sec.values) > 0 {
				m.read(rt, ctx, fmt.Sprintf("get %s %s", name, label), name, store.Label(label), sec.values[number], err)
			}
		}
		if len(sec.values) == 0 {
			m.read(rt, ctx, "get "+name, name, store.Label("current"), "", store.ErrNotFound)
		}
	}
}

func (m *machine) read(rt *rapid.T, ctx context.Context, what, name string, sel store.Selector, value string, err error) {
	v, got := m.s.Get(ctx, name, sel)
	if want(rt, what, got, err) && string(v.Bytes()) != value {
		rt.Fatalf("%s is %q, want %q", what, v.Bytes(), value)
	}
}

// followsModel is a random course of operations, reopening and killing among
// them, on a store and on a map.
func followsModel(t *testing.T) func(*rapid.T) {
	return func(rt *rapid.T) {
		m := newMachine(t)
		defer func() { m.s.Close(); os.RemoveAll(filepath.Dir(m.path)) }()
		rt.Repeat(map[string]func(*rapid.T){
			"put": m.put, "put again": m.put, "label": m.label, "set-key": m.setKey, "delete": m.remove, "restore": m.restore, "purge": m.purge,
			"prune": m.prune, "key": m.key, "reopen": m.reopen, "kill": m.kill, "": m.check,
		})
		report, err := m.s.Verify(context.Background(), store.VerifyOptions{Deep: true})
		if err != nil || !report.OK {
			rt.Fatalf("verify: %+v, %v", report.Failures, err)
		}
	}
}

// A longer run: go test ./store -run TestStoreFollowsItsModel -rapid.checks 2000 -v
func TestStoreFollowsItsModel(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		storetest.OK(t, f.Value.Set("8"))
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, followsModel(t))
}

// FuzzStoreFollowsItsModel lets the fuzzer choose how the course begins.
func FuzzStoreFollowsItsModel(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08"))
	f.Fuzz(func(t *testing.T, choices []byte) { rapid.MakeFuzz(followsModel(t))(t, goOn(choices)) })
}

// goOn adds random bytes that follow from choices: a course takes thousands, and
// without enough of them it ends at once and is skipped.
func goOn(choices []byte) []byte {
	more := make([]byte, 64<<10)
	rand.NewChaCha8(sha256.Sum256(choices)).Read(more)
	return append(slices.Clone(choices), more...)
}

func TestFuzzedCoursesEnd(t *testing.T) {
	ended := 0
	for i := range byte(6) {
		t.Run("", func(t *testing.T) {
			rapid.MakeFuzz(followsModel(t))(t, goOn([]byte{i}))
			ended++
		})
	}
	skipped := false
	t.Run("without more", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		rapid.MakeFuzz(followsModel(t))(t, []byte("\x01\x02\x03\x04\x05\x06\x07\x08"))
	})
	if ended < 5 || !skipped {
		t.Errorf("%d of 6 courses came to their end; one without enough bytes was skipped: %v", ended, skipped)
	}
}
