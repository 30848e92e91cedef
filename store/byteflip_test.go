package store_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The sweep that docs/reliability.md tells of alters every byte:
//
//	go test ./store -run TestNoByteOfTheFileGivesAnotherValue -flip-every 1 -timeout 300m -v
//
// It takes two thirds of the time in two processes with GOMAXPROCS=1, each of
// which does a part of it, as a store then has one connection that reads.
var (
	flipEvery = flag.Int("flip-every", 5003, "TestNoByteOfTheFileGivesAnotherValue alters every so many bytes of a store's file")
	flipFrom  = flag.Int("flip-from", 0, "the first of these that it does")
	flipUntil = flag.Int("flip-until", math.MaxInt, "the one that it stops before")
)

// flipMasks are what a byte is altered by: one bit, all bits, and to what is
// often a number near the old one.
var flipMasks = []byte{0x01, 0xff, 0x80}

// content is what a store's owner put into it.
type content struct {
	values  map[string]string // by "name version" and "name label"
	deleted []string
	keys    map[string]store.KeyState
	texts   map[string]string // descriptions and tags, which only Verify checks
}

// flipStore makes a store's file, and tells what is in it. The values begin with
// a word of the caller's.
func flipStore(t testing.TB, word string) (path string, file []byte, c content) {
	t.Helper()
	ctx := context.Background()
	path = filepath.Join(memoryDir(t), "reseal.db")
	s, err := store.Create(ctx, path, resealtest.Credential(), flipOptions())
	storetest.OK(t, errors.Join(err, s.Close()))
	smallPages(t, path)
	s, err = store.Open(ctx, path, resealtest.Credential(), flipOptions())
	storetest.OK(t, err)
	storetest.OK(t, s.CreateKey(ctx, "mk-1"))
	storetest.OK(t, s.CreateKey(ctx, "mk-off"))
	storetest.OK(t, storetest.Err(s.DisableKey(ctx, "mk-off")))
	text := "what it is for"
	for i := range 3 {
		name := fmt.Sprintf("app/%d", i)
		for v := range 2 {
			o := &store.PutOptions{}
			if v == 0 && i%2 == 0 {
				o = &store.PutOptions{Key: "mk-1", Description: &text, Tags: map[string]string{"team": "red"}}
			}
			storetest.OK(t, storetest.Err(s.Put(ctx, name, fmt.Appendf(nil, "%s %s %d %s", word, name, v+1, strings.Repeat("x", 100*i)), o)))
		}
	}
	storetest.OK(t, s.SetLabel(ctx, "app/2", "custom", 1))
	storetest.OK(t, storetest.Err(s.Put(ctx, "app/large", []byte(strings.Repeat(word, 500)), nil)))
	storetest.OK(t, storetest.Err(s.Put(ctx, "gone/1", []byte(word), nil)))
	storetest.OK(t, storetest.Err(s.Delete(ctx, "gone/1", 0)))
	storetest.OK(t, storetest.Err(s.SetKey(ctx, "app/2", "default")))
	c, err = readContent(ctx, s, nil)
	storetest.OK(t, errors.Join(err, s.Close()))
	if len(c.values) != 15 || len(c.deleted) != 1 || len(c.keys) != 3 || len(c.texts) != 2 {
		t.Fatalf("the store holds %d values, %d deleted secrets, %d keys and %d texts", len(c.values), len(c.deleted), len(c.keys), len(c.texts))
	}
	file, err = os.ReadFile(path)
	storetest.OK(t, err)
	return path, file, c
}

// smallPages gives the file pages of 1 KiB, so that there are not so many bytes
// which nothing is in.
func smallPages(t testing.TB, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	storetest.OK(t, err)
	db.SetMaxOpenConns(1)
	for _, q := range []string{`PRAGMA journal_mode = DELETE`, `PRAGMA page_size = 1024`, `VACUUM`, `PRAGMA journal_mode = WAL`} {
		storetest.OK(t, storetest.Err(db.Exec(q)))
	}
	storetest.OK(t, db.Close())
}

func flipOptions() *store.Options {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &store.Options{KDF: resealtest.KDF, Actor: "tester", BusyTimeout: time.Second, Now: func() time.Time { return now }, Migrate: store.MigrateRefuse}
}

// memoryDir is a temporary folder in memory, where there is one.
func memoryDir(t testing.TB) string {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "reseal-test-")
	storetest.OK(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// readContent reads everything. Of what should be there, it reads it by name, as
// a program does that knows its secrets; what is refused as anything but absent
// is left out.
func readContent(ctx context.Context, s *store.Store, should *content) (c content, err error) {
	c = content{values: map[string]string{}, keys: map[string]store.KeyState{}, texts: map[string]string{}}
	keys, err := s.Keys(ctx)
	for _, k := range keys {
		c.keys[k.Name] = k.State
	}
	list, lerr := s.List(ctx, store.ListOptions{})
	gone, gerr := s.List(ctx, store.ListOptions{Deleted: true})
	for _, sec := range gone {
		c.deleted = append(c.deleted, sec.Name)
	}
	for _, sec := range list {
		if sec.Description != "" || len(sec.Tags) > 0 {
			c.texts[sec.Name] = fmt.Sprint(sec.Description, sec.Tags)
		}
		if sec.Damage != "" {
			lerr = errors.Join(lerr, errors.New(sec.Damage))
		}
	}
	err = errors.Join(err, lerr, gerr)
	if should != nil {
		return c, errors.Join(err, c.readKnown(ctx, s, should))
	}
	for _, sec := range list {
		info, err := s.Show(ctx, sec.Name)
		if err != nil {
			return c, err
		}
		for _, v := range info.Versions {
			for _, which := range append(v.Labels, fmt.Sprint(v.Version)) {
				value, err := s.Get(ctx, sec.Name, selector(which))
				if err != nil {
					return c, err
				}
				c.values[sec.Name+" "+which] = string(value.Bytes())
			}
		}
	}
	return c, err
}

// readKnown reads the values that should be there. The error is of those that
// are said not to be.
func (c *content) readKnown(ctx context.Context, s *store.Store, should *content) error {
	for what := range should.values {
		name, which, _ := strings.Cut(what, " ")
		value, err := s.Get(ctx, name, selector(which))
		var e *store.Error
		switch {
		case err == nil:
			c.values[what] = string(value.Bytes())
		case errors.As(err, &e) && e.EffectiveKey != "" && e.EffectiveKey != e.ConfiguredKey:
			// The error says that it is under a key that it should not be under.
		case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrDeleted), errors.Is(err, store.ErrKeyUnavailable):
			return fmt.Errorf("%w: %s: %w", errLost, what, err)
		}
	}
	for name := range should.keys {
		if _, err := s.Key(ctx, name); errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%w: key %s: %w", errLost, name, err)
		}
	}
	return nil
}

var errLost = errors.New("what is there was said not to be")

func selector(which string) store.Selector {
	var n uint64
	if _, err := fmt.Sscan(which, &n); err == nil {
		return store.Version(n)
	}
	return store.Label(which)
}

// outcome is what came of one altered file.
type outcome int

const (
	sameAsBefore  outcome = iota // nothing is different
	refusedOpen                  // the file does not open
	refusedRead                  // something is refused, and what is read is right
	foundByVerify                // a description or tag is different, and Verify says so
	wrongValue
	silentLoss
	outcomes
)

func (o outcome) String() string {
	return [outcomes]string{"no effect", "refused when opened", "refused when read", "found by verify", "WRONG VALUE", "SILENT LOSS"}[o]
}

// alteredFile opens an altered file as a program would and says what came of it.
func alteredFile(path string, should *content) (o outcome, detail string) {
	ctx := context.Background()
	s, err := store.Open(ctx, path, resealtest.Credential(), flipOptions())
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return silentLoss, err.Error()
		}
		return refusedOpen, err.Error()
	}
	defer s.Close()
	c, err := readContent(ctx, s, should)
	if errors.Is(err, errLost) {
		return silentLoss, err.Error()
	}
	for what, value := range c.values {
		if value != should.values[what] {
			return wrongValue, what
		}
	}
	if err != nil || len(c.values) < len(should.values) {
		return refusedRead, fmt.Sprint(err)
	}
	switch {
	case !maps.Equal(c.keys, should.keys):
		return silentLoss, fmt.Sprintf("keys are %v", c.keys)
	case !slices.Equal(c.deleted, should.deleted):
		return silentLoss, fmt.Sprintf("deleted are %v", c.deleted)
	case maps.Equal(c.texts, should.texts):
		return sameAsBefore, ""
	}
	if report, err := s.Verify(ctx, store.VerifyOptions{}); err != nil || !report.OK {
		return foundByVerify, ""
	}
	return silentLoss, fmt.Sprintf("descriptions and tags are %v", c.texts)
}

// flipStride is how far apart two alterations are that follow each other, so that
// a part of them is spread over the whole file. It is a prime, so all are reached.
const flipStride = 5003

// flipSweep alters bytes of the file, one at a time, and counts what comes of
// it; look says what that is.
func flipSweep(t testing.TB, file []byte, every int, look func(path string) (outcome, string)) (counts [outcomes]int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := len(file) * len(flipMasks)
	todo, next := min((total+every-1)/every, *flipUntil), *flipFrom
	for range runtime.GOMAXPROCS(0) {
		dir := memoryDir(t)
		wg.Go(func() {
			path := filepath.Join(dir, "reseal.db")
			own := slices.Clone(file)
			for {
				mu.Lock()
				i := next
				next++
				if i > *flipFrom && i%20_000 == 0 {
					t.Logf("%d of %d so far: %v", i, todo, counts)
				}
				mu.Unlock()
				if i >= todo {
					return
				}
				at := i * flipStride % total
				offset, mask := at/len(flipMasks), flipMasks[at%len(flipMasks)]
				own[offset] ^= mask
				storetest.OK(t, os.WriteFile(path, own, 0o600))
				own[offset] ^= mask
				o, detail := look(path)
				for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
					os.Remove(path + suffix)
				}
				mu.Lock()
				counts[o]++
				if o == wrongValue || o == silentLoss {
					t.Logf("byte %d with %#x: %v: %s", offset, mask, o, detail)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return counts
}

// No altered byte of the file gives a wrong value, a panic or a loss that
// nobody is told of.
func TestNoByteOfTheFileGivesAnotherValue(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	_, file, should := flipStore(t, "value")
	counts := flipSweep(t, file, *flipEvery, func(path string) (outcome, string) { return alteredFile(path, &should) })
	total := 0
	for o, n := range counts {
		total += n
		t.Logf("%-20v %d", outcome(o), n)
	}
	t.Logf("%d files, one byte altered in each, of a store of %d bytes", total, len(file))
	if counts[wrongValue]+counts[silentLoss] > 0 {
		t.Errorf("%d wrong values, %d silent losses", counts[wrongValue], counts[silentLoss])
	}
	if counts[sameAsBefore] == 0 || counts[refusedOpen] == 0 || counts[refusedRead] == 0 {
		t.Error("the alterations do not reach the store")
	}
}

// Every byte of the indexes by which secrets, versions and keys are found. Each
// could hide a row, or lead to another.
func TestNoByteOfAnIndexHidesOrMisleads(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	path, file, should := flipStore(t, "value")
	db, err := sql.Open("sqlite", path)
	storetest.OK(t, err)
	defer db.Close()
	altered := 0
	for _, table := range []string{"reseal_secret_versions", "reseal_secrets", "reseal_master_keys"} {
		rows, err := db.Query(`SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND sql IS NULL AND tbl_name = ?`, table)
		storetest.OK(t, err)
		for rows.Next() {
			var page int
			storetest.OK(t, rows.Scan(&page))
			altered += alterPage(t, file, page, &should)
		}
		storetest.OK(t, errors.Join(rows.Err(), rows.Close()))
	}
	t.Logf("%d bytes altered", altered)
	if altered < 200 {
		t.Error("there are more bytes than that in the indexes")
	}
}

// The count of rows on each page, less or more by one: the last row of a table is
// then not seen. Of a page of three master keys, one was missing in the list.
func TestNoCountOfRowsHidesOne(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	_, file, should := flipStore(t, "value")
	path := filepath.Join(memoryDir(t), "reseal.db")
	refused := 0
	for at := pageBytes + 4; at < len(file); at += pageBytes {
		other := slices.Clone(file)
		other[at] ^= 1
		storetest.OK(t, os.WriteFile(path, other, 0o600))
		switch o, detail := alteredFile(path, &should); o {
		case wrongValue, silentLoss:
			t.Errorf("page %d: %v: %s", at/pageBytes+1, o, detail)
		case refusedOpen, refusedRead:
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("only %d of %d pages are refused", refused, len(file)/pageBytes)
	}
}

// alterPage alters the lowest bit of each byte of a page's content.
func alterPage(t *testing.T, file []byte, page int, should *content) (altered int) {
	t.Helper()
	path := filepath.Join(memoryDir(t), "reseal.db")
	begin := (page - 1) * pageBytes
	for at := begin + int(binary.BigEndian.Uint16(file[begin+5:])); at < begin+pageBytes; at++ {
		other := slices.Clone(file)
		other[at] ^= 1
		storetest.OK(t, os.WriteFile(path, other, 0o600))
		if o, detail := alteredFile(path, should); o == wrongValue || o == silentLoss {
			t.Errorf("byte %d of page %d: %v: %s", at-begin, page, o, detail)
		}
		altered++
	}
	return altered
}
