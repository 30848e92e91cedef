package benchmarks

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/reseal/reseal/rotate"
)

// Count is a number that does not depend on the machine: allocations,
// statements, bytes written.
type Count struct {
	ID     string
	Unit   string
	AtMost float64
	N      int // operations that it is the mean of
	Side   Side
	meter  func(dir string) (float64, error)
}

// CountIn counts c in a folder of its own in dir, or in the system's temporary
// folder.
func CountIn(ctx context.Context, dir string, c Count) (float64, error) {
	at, err := os.MkdirTemp(dir, "reseal-count-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(at)
	w, err := c.Side.Open(ctx, at)
	if err != nil {
		return 0, err
	}
	if w.Close != nil {
		defer w.Close()
	}
	if _, err := w.Take(ctx, c.N); err != nil { // fills caches and prepares statements
		return 0, err
	}
	before, err := c.meter(at)
	if err != nil {
		return 0, err
	}
	s, err := w.Take(ctx, c.N)
	if err != nil {
		return 0, err
	}
	after, err := c.meter(at)
	return (after - before) / float64(s.N), err
}

func allocations(string) (float64, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.Mallocs), nil
}

// written is what the process has given to the kernel to write. On systems
// other than Linux it is 0, and says nothing.
func written(string) (float64, error) {
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, nil
	}
	var read, wrote float64
	_, err = fmt.Sscanf(string(b), "rchar: %f\nwchar: %f", &read, &wrote)
	return wrote, err
}

// Counts are the counts that a change must not raise.
func Counts() []Count {
	return []Count{
		{ID: "allocations/seal 1 KiB", Unit: "allocations", AtMost: 1, N: 1000, Side: sealSide(1 << 10), meter: allocations},
		{ID: "allocations/open 1 KiB", Unit: "allocations", AtMost: 1, N: 1000, Side: openSide(1 << 10), meter: allocations},
		{ID: "allocations/seal value 1 KiB", Unit: "allocations", AtMost: 2, N: 1000, Side: sealValueSide(1 << 10), meter: allocations},
		{ID: "allocations/open value 1 KiB", Unit: "allocations", AtMost: 2, N: 1000, Side: openValueSide(1 << 10), meter: allocations},
		{ID: "allocations/rewrap", Unit: "allocations", AtMost: 3, N: 1000, Side: rewrapSide(), meter: allocations},
		{ID: "allocations/hot handle", Unit: "allocations", AtMost: 0, N: 10_000, Side: hotSide(true), meter: allocations},
		{ID: "allocations/get", Unit: "allocations", AtMost: 56, N: 1000, Side: getSide(1), meter: allocations},
		{ID: "allocations/put", Unit: "allocations", AtMost: 210, N: 100, Side: putSide(1), meter: allocations},
		{ID: "allocations/PutMany", Unit: "allocations", AtMost: 38, N: 1000, Side: putManySide(), meter: allocations},
		{ID: "statements/get", Unit: "statements", AtMost: 1, N: 100, Side: countedSide(100, getEach), meter: statements},
		{ID: "statements/put", Unit: "statements", AtMost: 18, N: 100, Side: countedSide(100, putEach), meter: statements},
		{ID: "statements/PutMany, a secret", Unit: "statements", AtMost: 0.3, N: 1000, Side: countedSide(1000, putAll), meter: statements},
		{ID: "statements/rewrap, a data key", Unit: "statements", AtMost: 0.1, N: 2000, Side: countedSide(2000, rewrapAll), meter: statements},
		{ID: "written/PutMany", Unit: "bytes", AtMost: 6_700, N: 1000, Side: putManySide(), meter: written},
		{ID: "written/rewrap", Unit: "bytes", AtMost: 360, N: 10_000, Side: rewrapAgain(10_000), meter: written},
		{ID: "written/put", Unit: "bytes", AtMost: 50_000, N: 100, Side: putSide(1), meter: written},
	}
}

// rewrapAgain rewraps a store of n data keys.
func rewrapAgain(n int) Side {
	return rotateSide("reseal", n, smallValue, rotate.Options{Key: rotatedKey, Pause: -1})
}
