package benchmarks

import (
	"context"
	"fmt"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// smallValue is the length of the values in large stores.
const smallValue = 32

// counts are the numbers of versions that rotations are measured at.
var counts = []count{{"10 k", 10_000}, {"100 k", 100_000}, {"1 M", 1_000_000}}

type count struct {
	name string
	n    int
}

// rotationCases move every data key of a store to a new master key version. The
// limit is the fastest statement that puts other bytes in as many rows, without
// any cipher.
func rotationCases() []Case {
	var out []Case
	for _, c := range counts {
		heavy := c.n > 10_000
		out = append(out, Case{ID: "rotation/rewrap/" + c.name, Title: "rewrap " + c.name + " data keys", Per: "data key", Heavy: heavy, Sides: []Side{
			rawRange(c.n),
			rotateSide("reseal, fast", c.n, smallValue, rotate.Options{Key: rotatedKey, Fast: true}),
			rotateSide("reseal, gentle", c.n, smallValue, rotate.Options{Key: rotatedKey}),
			rowByRow(c.n),
		}})
	}
	out = append(out, Case{ID: "rotation/memory", Title: "a process that rotates and reads back", Per: "data key", Heavy: true, Sides: []Side{
		childSide("gentle", counts[0]), childSide("gentle", counts[1]), childSide("gentle", counts[2]), childSide("fast", counts[2]),
	}})
	return append(out,
		Case{ID: "rotation/readers", Title: "get and put while 100 k data keys are rewrapped", Heavy: true, Sides: readerSides(100_000)},
		Case{ID: "rotation/key-to-key", Title: "move 10 k secrets to another key", Per: "data key", Sides: []Side{keyToKeySide(10_000)}},
		Case{ID: "rotation/reencrypt", Title: "reencrypt 100 k versions of 1 KiB", Per: "data key", Heavy: true, Sides: []Side{
			rawRewrite(100_000, valueSize),
			rotateSide("reseal, fast", 100_000, valueSize, rotate.Options{Key: rotatedKey, Mode: rotate.Reencrypt, Fast: true}),
			rotateSide("reseal, gentle", 100_000, valueSize, rotate.Options{Key: rotatedKey, Mode: rotate.Reencrypt}),
		}})
}

// rotateSide gives the key a new version and moves everything to it. The time is
// that of the moving; that of the whole job, with the read-back of every
// version, is told besides.
func rotateSide(name string, n, length int, o rotate.Options) Side {
	return Side{Name: name, N: n, Rounds: rounds(n), Open: func(ctx context.Context, _ string) (*Work, error) {
		s, err := sharedStore(ctx, n, length)
		if err != nil {
			return nil, err
		}
		return &Work{Do: func(ctx context.Context, n int) (Sample, error) {
			if _, err := s.RotateKey(ctx, rotatedKey); err != nil {
				return Sample{}, err
			}
			return rotateAll(ctx, s, n, o)
		}}, nil
	}}
}

// rounds are fewer the more there is to do in one.
func rounds(n int) int {
	switch {
	case n > 100_000:
		return 2
	case n == 100_000:
		return 3
	}
	return 5
}

// rotateAll runs a rotation that has n data keys to move.
func rotateAll(ctx context.Context, s *store.Store, n int, o rotate.Options) (Sample, error) {
	var moved time.Duration
	o.Progress = func(p rotate.Progress) {
		if p.Phase == rotate.Moving {
			moved = p.Elapsed
		}
	}
	report, err := rotate.Run(ctx, s, o)
	switch {
	case err != nil:
		return Sample{}, err
	case report.Moved != int64(n) || !report.Verified:
		return Sample{}, fmt.Errorf("%d of %d data keys were moved, verified: %v", report.Moved, n, report.Verified)
	}
	return Sample{Time: moved, N: n, Extra: map[string]float64{
		"whole job, s":     report.Elapsed.Seconds(),
		"longest lock, ms": float64(report.LongestLock.Microseconds()) / 1e3,
	}}, nil
}

// keyToKeySide moves all secrets to and fro between two keys.
func keyToKeySide(n int) Side {
	return Side{Name: "reseal", N: n, Rounds: rounds(n), Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := filledStore(ctx, dir, n, smallValue)
		if err != nil {
			return nil, err
		}
		from, to := rotatedKey, store.DefaultKeyName
		return &Work{Close: s.Close, Do: func(ctx context.Context, n int) (Sample, error) {
			sample, err := rotateAll(ctx, s, n, rotate.Options{From: from, To: to})
			from, to = to, from
			return sample, err
		}}, nil
	}}
}

// childSide rotates a shared store in a process of its own.
func childSide(gear string, c count) Side {
	return Side{Name: fmt.Sprintf("reseal, %s, %s", gear, c.name), N: c.n, Rounds: 1, Open: func(ctx context.Context, _ string) (*Work, error) {
		_, dir, err := sharedFolder(ctx, c.n, smallValue)
		return &Work{Do: func(ctx context.Context, _ int) (Sample, error) { return inChild(ctx, gear, dir) }}, err
	}}
}
