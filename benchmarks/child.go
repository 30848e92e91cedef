package benchmarks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// childVariable, when it is set, makes the program a child that rotates, verifies
// or reads the store in the folder that it names, and tells what that took: memory
// and caches are those of a process that does nothing else.
const childVariable = "RESEAL_BENCHMARK_CHILD"

// Child does a child's work and reports whether the program is one. main calls
// it first.
func Child() bool {
	task := os.Getenv(childVariable)
	if task == "" {
		return false
	}
	gear, dir, _ := strings.Cut(task, ":")
	s, err := childTask(context.Background(), gear, dir)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report: child:", err)
		os.Exit(1)
	}
	return true
}

// inChild runs a child in dir.
func inChild(ctx context.Context, gear, dir string) (Sample, error) {
	exe, err := os.Executable()
	if err != nil {
		return Sample{}, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childVariable+"="+gear+":"+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return Sample{}, fmt.Errorf("%w: %s", err, stderr.Bytes())
	}
	var s Sample
	return s, json.Unmarshal(out, &s)
}

func childTask(ctx context.Context, gear, dir string) (Sample, error) {
	cred := store.KeyFile(filepath.Join(dir, "key"))
	s, err := store.Open(ctx, filepath.Join(dir, "reseal.db"), cred, nil)
	if err != nil {
		return Sample{}, err
	}
	defer s.Close()
	if n, ok := strings.CutPrefix(gear, getOfPrefix); ok {
		count, err := strconv.Atoi(n)
		if err != nil {
			return Sample{}, err
		}
		return getAll(ctx, s, count)
	}
	if err := use(ctx, s); err != nil {
		return Sample{}, err
	}
	idle := memory("VmRSS")
	var sample Sample
	switch gear {
	case "verify":
		sample, err = verifyAll(ctx, s)
	default:
		sample, err = childRotation(ctx, s, filepath.Join(dir, "reseal.db-wal"), rotate.Options{Key: rotatedKey, Fast: gear == "fast"})
	}
	if err != nil {
		return sample, err
	}
	sample.Extra["idle, MB"] = idle
	sample.Extra["peak, MB"] = memory("VmHWM")
	sample.Extra["peak over idle, MB"] = memory("VmHWM") - idle
	return sample, nil
}

// use reads and writes as a program does before it idles: a store that was just
// opened has hardly any of its code and caches in memory.
func use(ctx context.Context, s *store.Store) error {
	var r reader
	for range 1000 {
		v, err := s.Get(ctx, r.next())
		if err != nil {
			return err
		}
		v.Clear()
	}
	return s.SetTags(ctx, secretName(0), map[string]string{"used": "yes"})
}

// childRotation rotates, and looks at the write-ahead log now and then.
func childRotation(ctx context.Context, s *store.Store, log string, o rotate.Options) (Sample, error) {
	if _, err := s.RotateKey(ctx, rotatedKey); err != nil {
		return Sample{}, err
	}
	left, err := s.RotationRemaining(ctx, store.RotationSpec{From: rotatedKey, To: rotatedKey})
	if err != nil {
		return Sample{}, err
	}
	var largest int64
	looking, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for looking.Err() == nil {
			if info, err := os.Lstat(log); err == nil {
				largest = max(largest, info.Size())
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	sample, err := rotateAll(ctx, s, int(left), o)
	stop()
	watcher.Wait()
	if err == nil {
		sample.Extra["write-ahead log, MB"] = float64(largest) / 1e6
	}
	return sample, err
}

// verifyAll verifies every version of a store.
func verifyAll(ctx context.Context, s *store.Store) (Sample, error) {
	began := time.Now()
	r, err := s.Verify(ctx, store.VerifyOptions{Deep: true})
	if err == nil && !r.OK {
		err = errors.New("the store does not verify")
	}
	return Sample{Time: time.Since(began), N: int(r.VersionsChecked), Extra: map[string]float64{}}, err
}

// getOfPrefix and the number of a store's secrets are the gear of a child that
// reads them, with the cache of the process for itself: all of SQLite's connections
// of a process share one.
const (
	getOfPrefix = "get of "
	getsAlone   = 10_000
)

// getAll reads some of n secrets, all over the store, and then as many others.
func getAll(ctx context.Context, s *store.Store, n int) (Sample, error) {
	var began time.Time
	for i, at := 0, os.Getpid(); i < 2*getsAlone; i++ {
		if i == getsAlone { // the caches are warm
			began = time.Now()
		}
		at = (at*21 + 17) % n
		if _, err := s.Get(ctx, secretName(at)); err != nil {
			return Sample{}, err
		}
	}
	return Sample{Time: time.Since(began), N: getsAlone}, nil
}

// getAlone is a side that reads n secrets of the store in a folder in a process of
// its own.
func getAlone(name string, n int, folder func(ctx context.Context, dir string) (string, error)) Side {
	return Side{Name: name, N: getsAlone, Open: func(ctx context.Context, dir string) (*Work, error) {
		in, err := folder(ctx, dir)
		gear := getOfPrefix + strconv.Itoa(n)
		return &Work{Do: func(ctx context.Context, _ int) (Sample, error) { return inChild(ctx, gear, in) }}, err
	}}
}

// memory reads one of the kernel's figures about this process, in megabytes of
// 10^6 bytes. On systems other than Linux it is 0.
func memory(name string) float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err == nil {
				return kb * 1024 / 1e6
			}
		}
	}
	return 0
}
