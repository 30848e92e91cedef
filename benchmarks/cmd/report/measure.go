package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/reseal/reseal/benchmarks"
)

// result is what was measured of a case.
type result struct {
	ID    string       `json:"id"`
	Title string       `json:"title"`
	Per   string       `json:"per"`
	Sides []sideResult `json:"sides"`
	Run   string       `json:"run"` // commit, versions and machine it was measured with
}

// sideResult has one number a round. Numbers of the same round belong together:
// they were taken one after the other.
type sideResult struct {
	Name  string               `json:"name"`
	N     int                  `json:"n"`       // operations in a sample
	Wall  []float64            `json:"wall_ns"` // an operation, on the clock on the wall
	CPU   []float64            `json:"cpu_ns"`  // and of all cores' time
	Extra map[string][]float64 `json:"extra,omitempty"`
}

// entrant is a side at work.
type entrant struct {
	benchmarks.Side
	work *benchmarks.Work
	n    int
	res  sideResult
}

// measure opens all sides of a case, finds how many operations fit a sample,
// and then lets the sides take turns, beginning with another in each round.
func measure(ctx context.Context, c benchmarks.Case, o options) (res result, err error) {
	dir, err := os.MkdirTemp(o.dir, "reseal-report-")
	if err != nil {
		return res, err
	}
	defer os.RemoveAll(dir)
	entrants, err := enter(ctx, c, dir, o)
	for _, e := range entrants {
		if e.work.Close != nil {
			defer e.work.Close()
		}
	}
	if err != nil {
		return res, err
	}
	for round := range o.rounds {
		for i := range entrants {
			e := entrants[(i+round)%len(entrants)]
			if e.Rounds > 0 && round >= e.Rounds {
				continue
			}
			if err := e.take(ctx); err != nil {
				return res, fmt.Errorf("%s: %w", e.Name, err)
			}
		}
	}
	res = result{ID: c.ID, Title: c.Title, Per: c.Per}
	for _, e := range entrants {
		res.Sides = append(res.Sides, e.res)
	}
	return res, nil
}

// enter opens the sides, each in a folder of its own.
func enter(ctx context.Context, c benchmarks.Case, dir string, o options) (out []*entrant, err error) {
	for i, side := range c.Sides {
		at := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(at, 0o700); err != nil {
			return out, err
		}
		w, err := side.Open(ctx, at)
		if err != nil {
			return out, fmt.Errorf("%s: %w", side.Name, err)
		}
		e := &entrant{Side: side, work: w, res: sideResult{Name: side.Name}}
		out = append(out, e)
		if e.n = side.N; e.n == 0 {
			if e.n, err = fit(ctx, w, o.sample); err != nil {
				return out, fmt.Errorf("%s: %w", side.Name, err)
			}
		}
		e.res.N = e.n
	}
	return out, nil
}

// fit returns how many operations take about that long. It warms up, too.
func fit(ctx context.Context, w *benchmarks.Work, long time.Duration) (int, error) {
	for n := 1; ; {
		s, err := w.Take(ctx, n)
		if err != nil {
			return 0, err
		}
		if s.Time >= long/4 || n >= 1<<30 {
			return max(1, int(float64(s.N)*float64(long)/float64(max(s.Time, 1)))), nil
		}
		n = min(n*8, int(float64(n)*float64(long)/float64(max(s.Time, 1)))+1)
	}
}

// take measures one sample. The garbage of the side before is not its own.
func (e *entrant) take(ctx context.Context) error {
	runtime.GC()
	before := cpuTime()
	s, err := e.work.Take(ctx, e.n)
	if err != nil {
		return err
	}
	cpu := cpuTime() - before
	e.res.Wall = append(e.res.Wall, float64(s.Time.Nanoseconds())/float64(s.N))
	e.res.CPU = append(e.res.CPU, float64(cpu.Nanoseconds())/float64(s.N))
	for name, v := range s.Extra {
		if e.res.Extra == nil {
			e.res.Extra = map[string][]float64{}
		}
		e.res.Extra[name] = append(e.res.Extra[name], v)
	}
	return nil
}

// side returns the side whose name begins so, or nil.
func (r *result) side(name string) *sideResult {
	i := slices.IndexFunc(r.Sides, func(s sideResult) bool { return strings.HasPrefix(s.Name, name) })
	if i < 0 {
		return nil
	}
	return &r.Sides[i]
}

// quantile returns the value below which the part q of them is.
func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// over returns the median of how much of base's time s takes, round by round.
func over(s, base []float64) float64 {
	var r []float64
	for i := range min(len(s), len(base)) {
		if base[i] > 0 {
			r = append(r, s[i]/base[i])
		}
	}
	return median(r)
}

// line is a result in short, for those who watch.
func (r *result) line() string {
	var b strings.Builder
	for i, s := range r.Sides {
		fmt.Fprintf(&b, "%s %s (cpu %s)", s.Name, duration(median(s.Wall)), duration(median(s.CPU)))
		if i > 0 {
			fmt.Fprintf(&b, " x%.2f (cpu x%.2f)", over(s.Wall, r.Sides[0].Wall), over(s.CPU, r.Sides[0].CPU))
		}
		if i+1 < len(r.Sides) {
			b.WriteString(" | ")
		}
	}
	return b.String()
}

// duration prints nanoseconds with three digits.
func duration(ns float64) string {
	for _, u := range []struct {
		name string
		n    float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.n {
			return digits(ns/u.n) + " " + u.name
		}
	}
	return digits(ns) + " ns"
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
