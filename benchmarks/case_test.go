package benchmarks

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if Child() {
		return
	}
	code := m.Run()
	CloseShared()
	os.Exit(code)
}

// BenchmarkCases runs every side by itself; the heavy ones not with -short.
func BenchmarkCases(b *testing.B) {
	for _, c := range Cases() {
		for _, side := range c.Sides {
			b.Run(c.ID+"/"+side.Name, func(b *testing.B) {
				if c.Heavy && testing.Short() {
					b.Skip("heavy")
				}
				benchmarkSide(b, side)
			})
		}
	}
}

// benchmarkSide does at least b.N operations, and tells of one.
func benchmarkSide(b *testing.B, side Side) {
	w, err := side.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	if w.Close != nil {
		defer w.Close()
	}
	b.ReportAllocs()
	b.ResetTimer()
	var all Sample
	for all.N < b.N {
		n := b.N - all.N
		if side.N > 0 {
			n = side.N
		}
		sample, err := w.Take(b.Context(), n)
		if err != nil {
			b.Fatal(err)
		}
		all.N += sample.N
		all.Time += sample.Time
	}
	b.StopTimer()
	b.ReportMetric(float64(all.Time.Nanoseconds())/float64(all.N), "ns/op")
}

func TestCaseIDsAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.ID] {
			t.Errorf("two cases are called %q", c.ID)
		}
		seen[c.ID] = true
	}
}
