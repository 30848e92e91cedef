//go:build linux

package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/store"
)

// The run that docs/reliability.md tells of, as root and with mkfs.ext4 and
// mkfs.xfs:
//
//	go test ./store -run TestRealPowerCut -power-cuts 50 -timeout 60m -v
var powerCuts = flag.Int("power-cuts", 1, "how often TestRealPowerCut cuts the power of each file system")

func init() { children["writes"] = childWrites }

// A power cut here is the file system's own: the ioctl that XFS and ext4 have to
// test theirs ends all writing at once, also of what was written and not synced,
// and of the journal. What the disk has by then is what it has when the file
// system is mounted again, which replays the journal. A disk that itself loses
// what it said it had synced is not looked at: see internal/faultvfs.
const (
	ioctlShutdown = 0x8004587d // FS_IOC_SHUTDOWN, _IOR('X', 125, __u32)
	noLogFlush    = 2          // lose the journal's part in memory too
)

// cutDisk is a file system in a file, which is mounted and loses its power.
type cutDisk struct{ image, dir string }

// newCutDisk makes one. Where it cannot be made or mounted the test is skipped.
func newCutDisk(t *testing.T, kind string) *cutDisk {
	t.Helper()
	d := &cutDisk{image: filepath.Join(memoryDir(t), "image"), dir: t.TempDir()}
	mkfs, err := exec.LookPath("mkfs." + kind)
	if err != nil {
		t.Skipf("SKIPPED: no power cut on %s without mkfs.%s", kind, kind)
	}
	storetest.OK(t, os.WriteFile(d.image, nil, 0o600))
	storetest.OK(t, os.Truncate(d.image, 320<<20)) // XFS takes no less than 300 MiB
	if out, err := exec.Command(mkfs, "-q", d.image).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", mkfs, err, out)
	}
	if out, err := d.mount(); err != nil {
		t.Skipf("SKIPPED: no power cut without the right to mount a file: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", d.dir).Run() })
	return d
}

func (d *cutDisk) mount() (string, error) {
	out, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// cut ends all writing.
func (d *cutDisk) cut(t *testing.T) {
	t.Helper()
	dir, err := os.Open(d.dir)
	storetest.OK(t, err)
	defer dir.Close()
	how := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		t.Skipf("SKIPPED: this file system has no power to cut: %v", errno)
	}
}

// restart mounts the disk again, when nobody has a file of it open.
func (d *cutDisk) restart(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("umount", d.dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	if out, err := d.mount(); err != nil {
		t.Fatalf("the file system does not come back: %v: %s", err, out)
	}
}

// openCut opens a store with its own file or, of "OFF", "NORMAL" and "FULL",
// of a host's database with that setting of synchronous.
func openCut(ctx context.Context, path, how string) (s *store.Store, closeAll func() error, err error) {
	o := &store.Options{KDF: resealtest.KDF}
	if how == "own" {
		s, err = store.Open(ctx, path, resealtest.Credential(), o)
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	}
	o.AllowWeakDurability = true
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous("+how+")&_txlock=immediate")
	if err != nil {
		return nil, nil, err
	}
	if s, err = store.New(ctx, db, resealtest.Credential(), o); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return s, func() error { return errors.Join(s.Close(), db.Close()) }, nil
}

var cutKeys = []string{"mk-0", "mk-1", "mk-2", "mk-3"}

// childWrites writes in several goroutines until it cannot, and says everything
// that was acknowledged. Arguments: file, kind of store, and the round.
func childWrites(ctx context.Context, args []string) error {
	s, _, err := openCut(ctx, args[0], args[1])
	if err != nil {
		return err
	}
	round := args[2]
	var mu sync.Mutex
	var all sync.WaitGroup
	work := func(step func(i int) (string, error)) {
		all.Go(func() {
			for i := 0; ; i++ {
				said, err := step(i)
				if err != nil {
					return
				}
				mu.Lock()
				fmt.Println(time.Now().UnixNano(), said)
				mu.Unlock()
			}
		})
	}
	for g := range 2 {
		work(func(i int) (string, error) {
			name := fmt.Sprintf("app/%d/%d", g, i%20)
			res, err := s.Put(ctx, name, cutValue(name, round, i), nil)
			return fmt.Sprintf("put %s %d %s %d", name, res.Version, round, i), err
		})
	}
	work(func(i int) (string, error) {
		_, err := s.SetKey(ctx, "moved", cutKeys[i%len(cutKeys)])
		return fmt.Sprintf("set-key %d", i), err
	})
	if args[1] == "own" {
		work(func(i int) (string, error) {
			path := filepath.Join(filepath.Dir(args[0]), fmt.Sprintf("new-%s-%d.db", round, i))
			n, err := store.Create(ctx, path, resealtest.Credential(), &store.Options{KDF: resealtest.KDF})
			if err == nil {
				err = n.Close()
			}
			return "file " + path, err
		})
		work(func(i int) (string, error) {
			path := filepath.Join(filepath.Dir(args[0]), fmt.Sprintf("copy-%s-%d.db", round, i))
			_, err := s.Backup(ctx, path)
			return "file " + path, err
		})
	}
	all.Wait()
	return nil
}

func cutValue(name, round string, i int) []byte {
	return []byte(strings.Repeat(fmt.Sprint(name, " ", round, " ", i, ";"), 1+i%7*50))
}

// acknowledgements are what childWrites said before the power was cut. What it
// said while it was may be wrong: the file system may then tell a sync that was
// about to begin that there is nothing to do, where a real disk would have
// stopped the machine.
type acknowledgements struct {
	puts   []string // name, version, round, number
	files  []string
	setKey int // the last; -1 is none

	late       []string // puts that were said while the power was cut
	lateSetKey int      // the last that was said at all
}

// cutWhileWriting lets a process write and cuts the power at a random moment.
func (d *cutDisk) cutWhileWriting(t *testing.T, path, how string, round int, r *rand.Rand) (a acknowledgements) {
	t.Helper()
	cmd := child(t, "writes", path, how, fmt.Sprint(round))
	out, err := cmd.StdoutPipe()
	storetest.OK(t, err)
	storetest.OK(t, cmd.Start())
	begun := make(chan bool)
	done := make(chan bool)
	a.setKey, a.lateSetKey = -1, -1
	var lines []string
	go func() {
		defer close(done)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			if lines = append(lines, scan.Text()); len(lines) == 5 {
				close(begun)
			}
		}
	}()
	select {
	case <-begun:
	case <-done:
		t.Fatal("the process that writes has ended")
	}
	time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
	before := time.Now().UnixNano()
	d.cut(t)
	<-done
	cmd.Wait()
	d.restart(t)
	for _, l := range lines {
		a.add(t, l, before)
	}
	return a
}

// add adds a line of childWrites, if it is from before that time.
func (a *acknowledgements) add(t *testing.T, line string, before int64) {
	t.Helper()
	var at int64
	var verb string
	if _, err := fmt.Sscan(line, &at, &verb); err != nil {
		t.Errorf("the process that writes said %q", line)
	}
	_, rest, _ := strings.Cut(line, verb+" ")
	switch late := at >= before; {
	case verb == "put" && late:
		a.late = append(a.late, rest)
	case verb == "put":
		a.puts = append(a.puts, rest)
	case verb == "file" && !late:
		a.files = append(a.files, rest)
	case verb == "set-key":
		fmt.Sscan(rest, &a.lateSetKey)
		if !late {
			a.setKey = a.lateSetKey
		}
	}
}

// missing says what was acknowledged and is not there, or is not what it was.
func (a *acknowledgements) missing(ctx context.Context, s *store.Store) []string {
	missing := missingPuts(ctx, s, a.puts)
	if a.setKey < 0 {
		return missing
	}
	info, err := s.Show(ctx, "moved")
	storedAt := -1
	for i := a.setKey; err == nil && i <= a.lateSetKey+1; i++ {
		if info.ConfiguredKey == cutKeys[i%len(cutKeys)] {
			storedAt = i
		}
	}
	if storedAt < 0 {
		missing = append(missing, fmt.Sprintf("set-key %d of %d: it is %+v, %v", a.setKey, a.lateSetKey, info, err))
	}
	return missing
}

func missingPuts(ctx context.Context, s *store.Store, puts []string) (missing []string) {
	for _, p := range puts {
		var name, round string
		var version uint64
		var i int
		fmt.Sscan(p, &name, &version, &round, &i)
		v, err := s.Get(ctx, name, store.Version(version))
		if err != nil || string(v.Bytes()) != string(cutValue(name, round, i)) {
			missing = append(missing, fmt.Sprintf("put %s: %v", p, err))
		}
	}
	return missing
}

func cutStore(t *testing.T, path string) {
	t.Helper()
	s := must(store.Create(t.Context(), path, resealtest.Credential(), &store.Options{KDF: resealtest.KDF}))(t)
	for _, key := range cutKeys {
		storetest.OK(t, s.CreateKey(t.Context(), key))
	}
	for i := range 30 {
		must(s.Put(t.Context(), "moved", fmt.Append(nil, i), nil))(t)
	}
	storetest.OK(t, s.Close())
}

// The power of a disk fails while a process writes: every put, change of key,
// new store and backup that was acknowledged is there, and the store is whole.
func TestRealPowerCut(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			d := newCutDisk(t, kind)
			path := filepath.Join(d.dir, "reseal.db")
			cutStore(t, path)
			r := rand.New(rand.NewPCG(6, 0))
			puts, files, late, gone := 0, 0, 0, 0
			for round := range *powerCuts {
				a := d.cutWhileWriting(t, path, "own", round, r)
				s := must(store.Open(t.Context(), path, resealtest.Credential(), &store.Options{KDF: resealtest.KDF}))(t)
				for _, m := range a.missing(t.Context(), s) {
					t.Errorf("cut %d: lost: %s", round, m)
				}
				late, gone = late+len(a.late), gone+len(missingPuts(t.Context(), s, a.late))
				resealtest.Check(t, s)
				storetest.OK(t, s.Close())
				for _, f := range a.files {
					n := must(store.Open(t.Context(), f, resealtest.Credential(), &store.Options{KDF: resealtest.KDF}))(t)
					resealtest.Check(t, n)
					storetest.OK(t, n.Close())
				}
				puts, files = puts+len(a.puts), files+len(a.files)
				for _, pattern := range []string{"new-*", "copy-*", ".*"} {
					left, _ := filepath.Glob(filepath.Join(d.dir, pattern))
					for _, f := range left {
						storetest.OK(t, os.Remove(f))
					}
				}
			}
			t.Logf("%d power cuts, %d acknowledged puts and %d new files were there; of %d puts said while it was cut %d were not", *powerCuts, puts, files, late, gone)
			if puts == 0 {
				t.Error("nothing was written before the cuts")
			}
		})
	}
}

// Without FULL, acknowledged puts are lost: the cuts reach what was not synced.
func TestRealPowerCutFindsWeakSettings(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	for _, kind := range []string{"ext4", "xfs"} {
		for _, c := range []struct {
			synchronous string
			loses       bool
		}{{"OFF", true}, {"NORMAL", true}, {"FULL", false}} {
			t.Run(kind+" "+c.synchronous, func(t *testing.T) {
				d := newCutDisk(t, kind)
				path := filepath.Join(d.dir, "reseal.db")
				r := rand.New(rand.NewPCG(7, 0))
				acknowledged, lost := 0, 0
				for round := range 3 {
					for _, suffix := range []string{"", "-wal", "-shm"} {
						os.Remove(path + suffix)
					}
					cutStore(t, path)
					syscall.Sync()
					a := d.cutWhileWriting(t, path, c.synchronous, round, r)
					acknowledged += len(a.puts) + min(1, a.setKey+1)
					s, closeAll, err := openCut(t.Context(), path, "FULL")
					if err != nil {
						t.Logf("cut %d: it does not open: %v", round, err)
						lost += len(a.puts)
						break
					}
					missing := a.missing(t.Context(), s)
					lost += len(missing)
					if len(missing) > 0 && !c.loses {
						t.Errorf("cut %d: lost, and %d late: %.300s", round, len(a.late), missing)
					}
					storetest.OK(t, closeAll())
					if lost > 0 {
						break
					}
				}
				t.Logf("%d of %d acknowledged changes are missing", lost, acknowledged)
				if (lost > 0) != c.loses {
					t.Errorf("%d of %d are missing, want some: %v", lost, acknowledged, c.loses)
				}
			})
		}
	}
}
