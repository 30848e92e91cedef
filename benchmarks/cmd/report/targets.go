package main

import "fmt"

// target is one line of what reseal is measured against. A finding is what was
// measured for it; a target may have several.
type target struct {
	what, goal string
	find       func(*book) []finding
	note       string // what bounds it, where it is not reached
}

type finding struct {
	text    string
	reached bool
}

// atMost compares a side's time with another's of the same case.
func atMost(limit float64, id, side, base string) func(*book) []finding {
	return compare(id, side, base, func(r float64) finding {
		return finding{fmt.Sprintf("%.2fx", r), r <= limit}
	})
}

// atLeast compares a side's rate with another's of the same case.
func atLeast(limit float64, id, side, base string) func(*book) []finding {
	return compare(id, side, base, func(r float64) finding {
		return finding{fmt.Sprintf("%.2fx", 1/r), 1/r >= limit}
	})
}

// more is how much longer a side takes than another.
func more(limit float64, id, side, base string) func(*book) []finding {
	return func(b *book) []finding {
		s, r := sides(b, id, side, base)
		if s == nil {
			return nil
		}
		var d []float64
		for i := range min(len(s.Wall), len(r.Wall)) {
			d = append(d, s.Wall[i]-r.Wall[i])
		}
		return []finding{{"+" + duration(median(d)), median(d) <= limit}}
	}
}

// under is a time as it is.
func under(limit float64, id, side string) func(*book) []finding {
	return func(b *book) []finding {
		s, _ := sides(b, id, side, side)
		if s == nil {
			return nil
		}
		return []finding{{duration(median(s.Wall)), median(s.Wall) <= limit}}
	}
}

func compare(id, side, base string, say func(ratio float64) finding) func(*book) []finding {
	return func(b *book) []finding {
		s, r := sides(b, id, side, base)
		if s == nil {
			return nil
		}
		return []finding{say(over(s.Wall, r.Wall))}
	}
}

func sides(b *book, id, side, base string) (s, r *sideResult) {
	res := b.find(id)
	if res == nil {
		return nil, nil
	}
	s, r = res.side(side), res.side(base)
	if s == nil || r == nil {
		return nil, nil
	}
	return s, r
}

// all puts findings side by side.
func all(finds ...func(*book) []finding) func(*book) []finding {
	return func(b *book) []finding {
		var out []finding
		for _, f := range finds {
			out = append(out, f(b)...)
		}
		return out
	}
}

const (
	ns = 1.0
	us = 1e3
	ms = 1e6
)

const aead = "XChaCha20-Poly1305"

var targets = []target{
	{
		what: "seal / open 64 KiB",
		goal: "at most 1.10x of XChaCha20-Poly1305",
		find: all(atMost(1.10, "envelope/seal/64 KiB", "reseal", aead), atMost(1.10, "envelope/open/64 KiB", "reseal", aead)),
	},
	{
		what: "seal / open 32 B and 1 KiB, cached key",
		goal: "at most 1.0 µs more than XChaCha20-Poly1305",
		find: all(
			more(1*us, "envelope/seal/32 B", "reseal", aead), more(1*us, "envelope/open/32 B", "reseal", aead),
			more(1*us, "envelope/seal/1 KiB", "reseal", aead), more(1*us, "envelope/open/1 KiB", "reseal", aead)),
	},
	{
		what: "seal / open 32 B and 1 KiB, fresh data key and its wrap",
		goal: "at most 2.0 µs more than XChaCha20-Poly1305",
		find: all(
			more(2*us, "value/seal/32 B", "reseal", aead), more(2*us, "value/open/32 B", "reseal", aead),
			more(2*us, "value/seal/1 KiB", "reseal", aead), more(2*us, "value/open/1 KiB", "reseal", aead)),
	},
	{
		what: "get 1 KiB by name",
		goal: "at most 1.3x of a prepared SELECT of the same bytes and the cipher",
		find: atMost(1.3, "store/get", "reseal", "SELECT"),
	},
	{
		what: "hot handle",
		goal: "under 0.3 µs",
		find: under(0.3*us, "store/hot", "reseal"),
	},
	{
		what: "put, durable",
		goal: "at least 0.8x of the durable INSERT of the same bytes",
		find: atLeast(0.8, "store/put", "reseal", "INSERT"),
	},
	{
		what: "put, eight writers at once",
		goal: "at least 3x of one writer",
		find: atLeast(3, "store/put/8", "reseal, 8 at once", "reseal"),
	},
	{
		what: "PutMany, 1,000 secrets",
		goal: "at least 0.5x of the bulk INSERT of the same bytes",
		find: atLeast(0.5, "store/put/bulk", "reseal, PutMany", "INSERT"),
	},
}
