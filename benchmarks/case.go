package benchmarks

import (
	"context"
	"time"
)

// Case is one piece of work that several sides do.
type Case struct {
	ID    string // unique, as in "aead/seal/1KiB"
	Title string // as a reader of the report sees it
	Sides []Side // the first is what the others are compared with
	Per   string // what an operation is; defaults to "operation"
	Heavy bool   // takes seconds and more: left out of short runs
}

// Side is one way to do a case's work.
type Side struct {
	Name string

	// Open prepares the work in the empty folder dir. What it takes is not
	// measured.
	Open func(ctx context.Context, dir string) (*Work, error)

	// Rounds is how many samples to take at most. Defaults to no limit.
	Rounds int

	// N is how many operations a sample has. Defaults to as many as fit the time
	// that a sample may take.
	N int
}

// Work is a side that is ready.
type Work struct {
	// Do does n operations.
	Do func(ctx context.Context, n int) (Sample, error)

	// Close, if not nil, ends it.
	Close func() error
}

// Take does n operations. The context of a sample is never cancelled: a driver
// starts a goroutine for each statement whose context could be, which costs a
// point read a third, and only some sides would pay for it.
func (w *Work) Take(ctx context.Context, n int) (Sample, error) {
	if err := ctx.Err(); err != nil {
		return Sample{}, err
	}
	return w.Do(context.WithoutCancel(ctx), n)
}

// Sample is what n operations took.
type Sample struct {
	Time time.Duration // of all of them, on the clock on the wall
	N    int           // how many were really done

	// Extra is what else was measured, by name: "VmHWM MB", "p99 ms".
	Extra map[string]float64
}

// timed makes the work of an operation that is measured from outside.
func timed(op func(ctx context.Context, n int) error, close func() error) *Work {
	return &Work{Close: close, Do: func(ctx context.Context, n int) (Sample, error) {
		began := time.Now()
		err := op(ctx, n)
		return Sample{Time: time.Since(began), N: n}, err
	}}
}

// Cases are all cases, in the order of the report.
func Cases() []Case {
	var all []Case
	for _, group := range [][]Case{envelopeCases(), valueCases(), peerCases(), secretCases(), rotationCases(), growthCases(), jobCases()} {
		all = append(all, group...)
	}
	return all
}
