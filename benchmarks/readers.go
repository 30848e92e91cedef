package benchmarks

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// readerSides are one reader, who reads without rest, and one writer, who puts
// ten times a second, while nothing else goes on and while data keys are
// rewrapped.
func readerSides(n int) []Side {
	return []Side{
		readersSide("idle", n, nil),
		readersSide("gentle", n, &rotate.Options{Key: rotatedKey}),
		readersSide("gentle, pause at least 5 ms", n, &rotate.Options{Key: rotatedKey, Pause: 5 * time.Millisecond}),
		readersSide("fast", n, &rotate.Options{Key: rotatedKey, Fast: true}),
	}
}

// idleTime is how long readers are measured when nothing else goes on.
const idleTime = time.Second

func readersSide(name string, n int, o *rotate.Options) Side {
	return Side{Name: name, N: 1, Rounds: 3, Open: func(ctx context.Context, _ string) (*Work, error) {
		s, err := sharedStore(ctx, n, smallValue+1) // which no other case shares: it grows
		if err != nil {
			return nil, err
		}
		return &Work{Do: func(ctx context.Context, _ int) (Sample, error) { return readMeanwhile(ctx, s, n, o) }}, nil
	}}
}

// readMeanwhile reads and puts for as long as the data keys are moved, or the
// idle time.
func readMeanwhile(ctx context.Context, s *store.Store, n int, o *rotate.Options) (Sample, error) {
	meanwhile, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	var puts []time.Duration
	var putErr, rotateErr error
	all.Go(func() { puts, putErr = putNowAndThen(meanwhile, s) })
	all.Go(func() {
		defer stop()
		rotateErr = rotateMeanwhile(ctx, s, o, stop)
	})
	sample, err := readOnly(meanwhile, s, n)
	all.Wait()
	if err = first(err, putErr, rotateErr); err == nil && len(puts) > 0 {
		sample.Extra["put p99, ms"] = float64(quantile(puts, 0.99).Microseconds()) / 1e3
	}
	return sample, err
}

// rotateMeanwhile calls moved when everything is moved, and goes on to the end
// of the job, which is not measured.
func rotateMeanwhile(ctx context.Context, s *store.Store, o *rotate.Options, moved func()) error {
	if o == nil {
		time.Sleep(idleTime)
		return nil
	}
	if _, err := s.RotateKey(ctx, rotatedKey); err != nil {
		return err
	}
	run := *o
	run.Progress = func(p rotate.Progress) {
		if p.Phase != rotate.Moving {
			moved()
		}
	}
	_, err := rotate.Run(ctx, s, run)
	return err
}

func readOnly(ctx context.Context, s *store.Store, n int) (Sample, error) {
	var took []time.Duration
	began := time.Now()
	for i := 0; ctx.Err() == nil; i = (i*21 + 17) % n {
		at := time.Now()
		v, err := s.Get(context.WithoutCancel(ctx), secretName(i))
		if err != nil {
			return Sample{}, err
		}
		v.Clear()
		took = append(took, time.Since(at))
	}
	return Sample{Time: time.Since(began), N: len(took), Extra: map[string]float64{
		"get p50, µs": float64(quantile(took, 0.50).Nanoseconds()) / 1e3,
		"get p99, µs": float64(quantile(took, 0.99).Nanoseconds()) / 1e3,
	}}, nil
}

// putNowAndThen puts other versions of a few secrets.
func putNowAndThen(ctx context.Context, s *store.Store) (took []time.Duration, err error) {
	value := make([]byte, smallValue)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return took, nil
		case <-time.After(100 * time.Millisecond):
		}
		at := time.Now()
		if _, err := s.Put(context.WithoutCancel(ctx), "put/meanwhile", value, nil); err != nil {
			return took, err
		}
		took = append(took, time.Since(at))
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))]
}
