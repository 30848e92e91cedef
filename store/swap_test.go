package store_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The sweep that docs/reliability.md tells of:
//
//	go test ./store -run Swapped -swap-every 1 -timeout 60m -v
var swapEvery = flag.Int("swap-every", 61, "the tests of swapped pages swap every so many pairs")

const pageBytes = 1024 // of smallPages

func pageOf(file []byte, n int) []byte { return file[n*pageBytes : (n+1)*pageBytes] }

// mixed writes a file, and a log if there is one, and counts what comes of it.
func mixed(t *testing.T, what string, file, log []byte, should *content, counts *[outcomes]int) {
	t.Helper()
	path := filepath.Join(memoryDir(t), "reseal.db")
	storetest.OK(t, os.WriteFile(path, file, 0o600))
	if log != nil {
		storetest.OK(t, os.WriteFile(path+"-wal", log, 0o600))
	}
	o, detail := alteredFile(path, should)
	counts[o]++
	if o == wrongValue || o == silentLoss {
		t.Errorf("%s: %v: %s", what, o, detail)
	}
	os.RemoveAll(filepath.Dir(path))
}

func tell(t *testing.T, counts *[outcomes]int) {
	t.Helper()
	total := 0
	for _, n := range counts {
		total += n
	}
	t.Logf("%d files: %d without effect, %d refused when opened, %d refused when read, %d found by verify",
		total, counts[sameAsBefore], counts[refusedOpen], counts[refusedRead], counts[foundByVerify])
	if counts[refusedRead]+counts[refusedOpen] == 0 {
		t.Error("nothing was refused: the swaps do not reach the store")
	}
}

func TestSwappedPagesGiveNoOtherValue(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	_, file, should := flipStore(t, "value")
	var counts [outcomes]int
	n, pair := len(file)/pageBytes, 0
	for i := range n {
		for j := i + 1; j < n; j++ {
			if pair++; pair%*swapEvery != 0 {
				continue
			}
			swapped := append([]byte(nil), file...)
			copy(pageOf(swapped, i), pageOf(file, j))
			copy(pageOf(swapped, j), pageOf(file, i))
			mixed(t, fmt.Sprintf("pages %d and %d", i+1, j+1), swapped, nil, &should, &counts)
		}
	}
	tell(t, &counts)
}

// Pages, and the log, of another store with the same credential, names and keys.
func TestSwappedStoresGiveNoOtherValue(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	_, file, should := flipStore(t, "value")
	otherPath, other, _ := flipStore(t, "other")
	if len(other) != len(file) {
		t.Fatalf("the stores have %d and %d bytes", len(file), len(other))
	}
	var counts [outcomes]int
	for i := 0; i < len(file)/pageBytes; i += max(1, *swapEvery/20) {
		swapped := append([]byte(nil), file...)
		copy(pageOf(swapped, i), pageOf(other, i))
		mixed(t, fmt.Sprintf("page %d of another store", i+1), swapped, nil, &should, &counts)
	}
	mixed(t, "log of another store", file, logOf(t, otherPath), &should, &counts)
	tell(t, &counts)
}

// logOf puts into a store and returns its log as it is before it is emptied.
func logOf(t *testing.T, path string) []byte {
	t.Helper()
	s, err := store.Open(t.Context(), path, resealtest.Credential(), flipOptions())
	storetest.OK(t, err)
	defer s.Close()
	storetest.OK(t, storetest.Err(s.Put(t.Context(), "app/1", []byte("other new"), nil)))
	log, err := os.ReadFile(path + "-wal")
	storetest.OK(t, err)
	if len(log) < 3*pageBytes {
		t.Fatalf("the log has %d bytes", len(log))
	}
	return log
}

// changed changes the store and returns it as it is then.
func changed(t *testing.T, path string, should content) ([]byte, content) {
	t.Helper()
	ctx := context.Background()
	s, err := store.Open(ctx, path, resealtest.Credential(), flipOptions())
	storetest.OK(t, err)
	for _, name := range []string{"app/0", "app/1", "app/2"} {
		storetest.OK(t, storetest.Err(s.Put(ctx, name, []byte("changed "+name), nil)))
	}
	storetest.OK(t, s.SetLabel(ctx, "app/2", "custom", 2))
	storetest.OK(t, storetest.Err(s.SetKey(ctx, "app/0", "default")))
	storetest.OK(t, s.EnableKey(ctx, "mk-off"))
	c, err := readContent(ctx, s, nil)
	storetest.OK(t, errors.Join(err, s.Close()))
	if maps.Equal(c.values, should.values) {
		t.Fatal("nothing has changed")
	}
	file, err := os.ReadFile(path)
	storetest.OK(t, err)
	return file, c
}

// older says what an older part of a file may give: of each secret and key what
// it was then or what it is now, and nothing that neither was. It reports
// whether Verify finds it.
func older(path string, was, is *content) (found bool, err error) {
	ctx := context.Background()
	s, err := store.Open(ctx, path, resealtest.Credential(), flipOptions())
	if err != nil {
		return true, nil
	}
	defer s.Close()
	for what, value := range is.values {
		name, which, _ := strings.Cut(what, " ")
		got, err := s.Get(ctx, name, selector(which))
		_, had := was.values[what]
		switch {
		case err == nil && string(got.Bytes()) != value && string(got.Bytes()) != was.values[what]:
			return false, fmt.Errorf("%s is %q", what, got.Bytes())
		case errors.Is(err, store.ErrNotFound) && had:
			return false, err
		}
	}
	report, err := s.Verify(ctx, store.VerifyOptions{})
	return err != nil || !report.OK, nil
}

// Pages of an older state of the same store, one or many: a part of a rollback.
// A secret or a key can then be as it was, whole, which docs/threats.md says; it
// is never anything else. (All of them are an older store, which an anchor finds.)
func TestSwappedOlderPagesGiveNothingThatNeverWas(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	path, old, was := flipStore(t, "value")
	file, should := changed(t, path, was)
	var differ []int
	for i := range min(len(old), len(file)) / pageBytes {
		if string(pageOf(old, i)) != string(pageOf(file, i)) {
			differ = append(differ, i)
		}
	}
	refused, asItWas, found := 0, 0, 0
	r := rand.New(rand.NewPCG(1, 2))
	for i := range max(len(differ), 2000 / *swapEvery) {
		mix := append([]byte(nil), file...)
		if i < len(differ) { // one older page, and then some
			copy(pageOf(mix, differ[i]), pageOf(old, differ[i]))
		} else {
			keep := r.IntN(len(differ))
			for k, n := range differ {
				if k != keep && r.IntN(3) > 0 {
					copy(pageOf(mix, n), pageOf(old, n))
				}
			}
		}
		path := filepath.Join(memoryDir(t), "reseal.db")
		storetest.OK(t, os.WriteFile(path, mix, 0o600))
		o, _ := alteredFile(path, &should)
		storetest.OK(t, os.WriteFile(path, mix, 0o600))
		switch byVerify, err := older(path, &was, &should); {
		case err != nil:
			t.Errorf("mix %d: %v", i, err)
		case o == refusedOpen || o == refusedRead:
			refused++
		case byVerify:
			found++
		case o != sameAsBefore:
			asItWas++
		}
		os.RemoveAll(filepath.Dir(path))
	}
	t.Logf("%d refused when opened or read, %d found by verify, %d times a secret or key was as it had been and nothing told", refused, found, asItWas)
	if refused == 0 {
		t.Error("nothing was refused: the swaps do not reach the store")
	}
}

// A write-ahead log that was altered or cut gives the store as it was before
// what it no longer proves, never anything else, and an anchor finds that.
func TestAlteredLogGivesNothingThatNeverWas(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	ctx := t.Context()
	path, file, was := flipStore(t, "value")
	s, err := store.Open(ctx, path, resealtest.Credential(), flipOptions())
	storetest.OK(t, err)
	defer s.Close()
	is := content{values: maps.Clone(was.values)}
	storetest.OK(t, storetest.Err(s.Put(ctx, "app/1", []byte("changed app/1"), nil)))
	is.values["app/1 previous"], is.values["app/1 current"], is.values["app/1 3"] = was.values["app/1 current"], "changed app/1", "changed app/1"
	anchor, err := s.Anchor(ctx)
	storetest.OK(t, err)
	log, err := os.ReadFile(path + "-wal")
	storetest.OK(t, err)
	lost, kept := 0, 0
	for at := 0; at < len(log); at += max(1, len(log)**swapEvery/2000) {
		dir := memoryDir(t)
		altered := append([]byte(nil), log...)
		altered[at] ^= 0x55
		if at%2 == 1 {
			altered = altered[:at]
		}
		to := filepath.Join(dir, "reseal.db")
		storetest.OK(t, os.WriteFile(to, file, 0o600))
		storetest.OK(t, os.WriteFile(to+"-wal", altered, 0o600))
		if _, err := older(to, &was, &is); err != nil {
			t.Errorf("byte %d of the log: %v", at, err)
		}
		storetest.OK(t, os.WriteFile(to, file, 0o600))
		storetest.OK(t, os.WriteFile(to+"-wal", altered, 0o600))
		o := flipOptions()
		o.Anchor = &anchor
		anchored, err := store.Open(ctx, to, resealtest.Credential(), o)
		if err == nil {
			kept++
			wantValue(t, anchored, "app/1", "changed app/1")
			storetest.OK(t, anchored.Close())
		} else {
			lost++
		}
		os.RemoveAll(dir)
	}
	t.Logf("%d altered logs: %d refused with the anchor, %d without effect", lost+kept, lost, kept)
	if lost == 0 {
		t.Error("nothing was lost: the alterations do not reach the log")
	}
}
