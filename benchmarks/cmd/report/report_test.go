package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reseal/reseal/benchmarks"
)

// bookOf is a book in which every side of every case takes so long, the first
// of a case half of that.
func bookOf(t *testing.T, ns float64) *book {
	t.Helper()
	b := &book{o: options{docs: t.TempDir()}, At: look(), Rounds: 3}
	for _, c := range benchmarks.Cases() {
		r := result{ID: c.ID, Title: c.Title}
		for i, side := range c.Sides {
			took := ns
			if i == 0 {
				took = ns / 2
			}
			r.Sides = append(r.Sides, sideResult{Name: side.Name, N: 1, Wall: []float64{took, took, took}, CPU: []float64{took},
				Extra: map[string][]float64{"peak, MB": {1}, "put p99, ms": {30}}})
		}
		b.put(r)
	}
	return b
}

func TestTargetsFindTheirCases(t *testing.T) {
	b := bookOf(t, 100)
	for _, target := range targets {
		if len(target.find(b)) == 0 && !strings.Contains(target.what, "log of") {
			t.Errorf("nothing was found for %q", target.what)
		}
		if found := target.find(&book{}); len(found) > 0 {
			t.Errorf("%q found %v where nothing was measured", target.what, found)
		}
	}
}

func TestTargetsAreMissedAndReached(t *testing.T) {
	for what, want := range map[string]bool{"seal / open 64 KiB": false, "hot handle": true} {
		for _, target := range targets {
			if target.what != what {
				continue
			}
			for _, f := range target.find(bookOf(t, 100)) {
				if f.reached != want {
					t.Errorf("%s: %s reached: %v", what, f.text, f.reached)
				}
			}
		}
	}
}

func TestPageHasEveryCaseAndSaysWhatIsMissing(t *testing.T) {
	b := bookOf(t, 100)
	if err := errors.Join(b.save(), b.write()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(b.o.docs, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range benchmarks.Cases() {
		if !strings.Contains(string(page), "| "+c.Title+" |") {
			t.Errorf("the page does not have %q", c.Title)
		}
	}
	again, err := openBook(b.o)
	if err != nil || len(again.Results) != len(b.Results) || !again.measured("store/get") {
		t.Errorf("the results were not kept: %d of %d, %v", len(again.Results), len(b.Results), err)
	}
	if page := (&book{}).page(); !strings.Contains(page, "not measured") {
		t.Error("the page of no results does not say so")
	}
}

func TestChartsAreXML(t *testing.T) {
	for _, b := range []*book{bookOf(t, 1e6), {}} {
		for name, chart := range charts(b) {
			d := xml.NewDecoder(strings.NewReader(chart))
			var err error
			for err == nil {
				_, err = d.Token()
			}
			if err != io.EOF {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestMedians(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median(%v) = %v", c.v, got)
		}
	}
	// A machine that gets slower changes no ratio.
	if r := over([]float64{2, 4, 8}, []float64{1, 2, 4}); r != 2 {
		t.Errorf("over = %v", r)
	}
}

// Sides take turns, and a case that fails says which side.
func TestMeasureTakesTurns(t *testing.T) {
	var order []string
	side := func(name string) benchmarks.Side {
		return benchmarks.Side{Name: name, N: 2, Open: func(_ context.Context, _ string) (*benchmarks.Work, error) {
			return &benchmarks.Work{Do: func(_ context.Context, n int) (benchmarks.Sample, error) {
				order = append(order, name)
				return benchmarks.Sample{Time: time.Microsecond, N: n}, nil
			}}, nil
		}}
	}
	o := options{dir: t.TempDir(), rounds: 3}
	r, err := measure(t.Context(), benchmarks.Case{Sides: []benchmarks.Side{side("a"), side("b")}}, o)
	if err != nil || strings.Join(order, "") != "abbaab" || r.Sides[0].Wall[0] != 500 {
		t.Errorf("measure = %+v, %v, in the order %v", r, err, order)
	}
	bad := side("c")
	bad.Open = func(context.Context, string) (*benchmarks.Work, error) { return nil, errors.New("no") }
	if _, err := measure(t.Context(), benchmarks.Case{Sides: []benchmarks.Side{side("a"), bad}}, o); err == nil || err.Error() != "c: no" {
		t.Errorf("measure = %v", err)
	}
}
