package rotate_test

import (
	"fmt"
	"testing"

	"github.com/reseal/reseal/rotate"
)

// BenchmarkRewrap moves data keys of 32-byte values: one operation is one data
// key. The time includes the read-back and the checkpoint.
func BenchmarkRewrap(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		for _, c := range []struct {
			name    string
			options rotate.Options
		}{
			{"gentle", rotate.Options{Key: "mk-1"}},
			{"fast", rotate.Options{Key: "mk-1", Fast: true}},
		} {
			b.Run(fmt.Sprintf("version/%s/%d", c.name, n), func(b *testing.B) { benchmarkVersion(b, n, c.options) })
		}
		b.Run(fmt.Sprintf("key-to-key/%d", n), func(b *testing.B) { benchmarkKeyToKey(b, n) })
	}
}

func benchmarkVersion(b *testing.B, n int, o rotate.Options) {
	s := newStore(b)
	fill(b, s, "app", n, 1, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.RotateKey(b.Context(), "mk-1"); err != nil {
			b.Fatal(err)
		}
		runOK(b, s, o)
	}
	perDataKey(b, n)
}

func benchmarkKeyToKey(b *testing.B, n int) {
	s := newStore(b)
	fill(b, s, "app", n, 1, 32)
	from, to := "mk-1", "mk-2"
	b.ReportAllocs()
	for b.Loop() {
		runOK(b, s, rotate.Options{From: from, To: to})
		from, to = to, from
	}
	perDataKey(b, n)
}

func perDataKey(b *testing.B, n int) {
	total := float64(b.N) * float64(n)
	b.ReportMetric(total/b.Elapsed().Seconds(), "keys/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/total, "ns/key")
}
