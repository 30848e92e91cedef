package main

import (
	"fmt"
	"strings"
)

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
		note: "a commitment to key and place is two HMAC-SHA-256 over some 190 bytes, ten to twelve blocks of SHA-256; with the processor's SHA instructions they are three quarters of the difference in the profile. The rest is the additional data, which the raw cipher does not have here. The format fixes both.",
	},
	{
		what: "seal / open 32 B and 1 KiB, fresh data key and its wrap",
		goal: "at most 2.0 µs more than XChaCha20-Poly1305",
		find: all(
			more(2*us, "value/seal/32 B", "reseal", aead), more(2*us, "value/open/32 B", "reseal", aead),
			more(2*us, "value/seal/1 KiB", "reseal", aead), more(2*us, "value/open/1 KiB", "reseal", aead)),
		note: "two envelopes, so four HMAC, and the key schedule of the fresh key: about 26 blocks of SHA-256, and the cipher twice where the raw side has it once.",
	},
	{
		what: "envelope of 1 KiB, seal / open",
		goal: "no slower than any envelope of another package",
		find: all(fastestEnvelope("peers/seal"), fastestEnvelope("peers/open")),
		note: "with AES instructions AES-256-GCM is faster than XChaCha20-Poly1305, and a data key and a wrap cost less than the SHA-256 of two commitments. None of the faster ones commits to its key, and with random nonces of 96 bits they must not seal more than 2^32 values under one key.",
	},
	{
		what: "get 1 KiB by name",
		goal: "at most 1.3x of a prepared SELECT of the same bytes and the cipher",
		find: atMost(1.3, "store/get", "reseal", "SELECT"),
		note: "one statement over six tables and seven trees instead of one over one table: the secret's record with its labels, which is authenticated, the version, its data key, and the state of its master key. That statement is about three fifths of a get (each further tree 2 µs to 3 µs; numbers and bytes come in a column each), on the driver's own statement, past database/sql, which would take 4 µs to 6 µs more. An eighth are two envelopes with their commitments, a fortieth the secret's tag; the rest is the driver, the way through the store and Go's allocations. Without the two trees of the master key it would be 3 µs less, with fewer columns or names for them hardly 1 µs. Both sides read in one process, where all of SQLite's connections share one cache and take pages from each other: where only stores read, as before ANALYZE below, a get takes half the time.",
	},
	{
		what: "hot handle",
		goal: "under 0.3 µs",
		find: under(0.3*us, "store/hot", "Append"),
	},
	{
		what: "put, durable",
		goal: "at least 0.8x of the durable INSERT of the same bytes",
		find: atLeast(0.8, "store/put", "reseal", "INSERT"),
		note: "a put writes eleven pages of the write-ahead log (47 kB) where the raw INSERT writes three: the secret with its two indexes, the version and its index, data key, label with its index, audit event and state row. Where a flush costs nothing it takes about 240 µs against 45: COMMIT 80, the five INSERTs with their CHECKs and triggers 100, the state row 15, the secret by name 13, BEGIN 12. What a put looks up besides its secret is remembered from the last one, as long as nobody else has committed. A checkpoint every 4,000 pages and not every 1,000 made no difference that could be measured. The longer the disk takes for a flush, the better the ratio.",
	},
	{
		what: "put, eight writers at once",
		goal: "at least 3x of one writer",
		find: atLeast(3, "store/put/8", "reseal, 8 at once", "reseal"),
		note: "eight puts share one COMMIT and are seven or eight in a transaction, but SQLite runs their statements on one core, which is what is left: the shorter the flush, the less there is to share.",
	},
	{
		what: "PutMany, 1,000 secrets",
		goal: "at least 0.5x of the bulk INSERT of the same bytes",
		find: atLeast(0.5, "store/put/bulk", "reseal, PutMany", "INSERT"),
		note: "five rows in five tables with eleven b-trees, where the raw side has one row and two b-trees. Where a flush costs nothing SQLite alone takes 36 µs for them, 32 rows a statement, and 10 for the raw row; of those 36 the CHECKs of names and labels are 5, the triggers that refuse replacement 6, and with neither, nor foreign keys, 21 are left. In the profile 86 % is SQLite's: 72 the INSERTs, 14 COMMIT with its checkpoints. The rest is the driver, the MACs of audit events, and looking the names up; the cipher runs beside it on another core. Up to 256 rows a statement made no difference that could be measured.",
	},
	{
		what: "rewrap 1,000,000, fast",
		goal: "at least 0.50x of the range UPDATE without a cipher",
		find: atLeast(0.50, "rotation/rewrap/1 M", "reseal, fast", "range"),
		note: "two cores share it, so that a data key may cost them four times what the limit takes on one. In the profile 58 % is the cipher: three envelopes (open, seal, and open again as a proof) of 1.0 µs each, a third of that SHA-256 in the processor's instructions; 19 % is the UPDATE with its comparison with the old bytes, the commit and SQLite's checkpoints; 8 % is reading two tables side by side, packed into one row a batch; 7 % is counting what is to do, from a cold cache; the rest is the runtime's. Of two cores 1.7 are at work: one counts alone at first, and a commit that waits for the disk keeps its core from Go's scheduler for some time.",
	},
	{
		what: "rewrap 1,000,000, fast",
		goal: "at least 2x of the loop row by row with the same cipher",
		find: atLeast(2, "rotation/rewrap/1 M", "reseal, fast", "row by row"),
	},
	{
		what: "rewrap 1,000,000, gentle",
		goal: "at least 0.35x of the range UPDATE without a cipher",
		find: atLeast(0.35, "rotation/rewrap/1 M", "reseal, gentle", "range"),
		note: "it leaves a core to the host: what the fast gear shares out to two cores, three envelopes a data key above all, it does on one, the next batch when one was written. When it prepared one while another was written, a data key took four fifths of the time where nobody read, as long where somebody did, and a reader's p99 was twice as long.",
	},
	{
		what: "memory of a gentle rotation of 1,000,000",
		goal: "at most 16 MB over the idle store, flat in the count; under 100 MB in all",
		find: all(
			extra("peak over idle, MB", 16, "rotation/memory", "reseal, gentle, 10 k"),
			extra("peak over idle, MB", 16, "rotation/memory", "reseal, gentle, 1 M"),
			extra("peak, MB", 100, "rotation/memory", "reseal, gentle, 1 M")),
	},
	{
		what: "write-ahead log of a gentle rotation of 1,000,000",
		goal: "under 16 MB",
		find: extra("write-ahead log, MB", 16, "rotation/memory", "reseal, gentle, 1 M"),
	},
	{
		what: "reencrypt 100,000 versions of 1 KiB",
		goal: "at least 0.8x of the UPDATE of the same bytes",
		find: all(atLeast(0.8, "rotation/reencrypt", "reseal, fast", "UPDATE"), atLeast(0.8, "rotation/reencrypt", "reseal, gentle", "UPDATE")),
		note: "fast and gentle. Every value is read, opened, sealed, and opened again as a proof, three envelopes of 1 KiB and their wraps; then two rows in two tables are written, the data key compared with its old bytes, the value by a range of rows a statement. That is 27 µs of processor time: 41 % is the cipher, 37 % writing with the commit and the checkpoints, 22 % reading from pages of which each has three values. The fast gear has both of two cores at work four fifths of the time. The gentle one leaves a core to the host: one reads, makes and writes, one after the other, and rests.",
	},
	{
		what: "get after ANALYZE",
		goal: "at most 1.1x of before",
		find: atMost(1.1, "growth/analyze", "after", "before"),
	},
	{
		what: "growth: rewrap at 1 M",
		goal: "at least 0.8x of the rate at 10 k",
		find: growth,
	},
	{
		what: "growth: get at 1 M",
		goal: "at most 1.5x of 10 k",
		find: atMost(1.5, "growth/get", "1 M", "10 k"),
		note: "a get goes down five trees that grow with the secrets, and of a million reads seven pages from the system's cache, 2 µs each, and has SQLite check their cells, 1 µs: the last of each tree and some above, which SQLite's cache of 2 MB does not hold. More room for a reader alone does not help: in this build of SQLite all connections of a process share one cache, and one that is below its own limit keeps nothing while the others are above theirs.",
	},
	{
		what: "growth: open a store of 1 M",
		goal: "under 20 ms besides the key derivation",
		find: under(20*ms, "growth/open", "1 M"),
	},
	{
		what: "reader during a gentle rotation",
		goal: "p50 at most 1.1x and p99 at most 2.5x of idle; put p99 at most 25 ms",
		find: all(
			extraOver("get p50, µs", 1.1, "rotation/readers", "gentle", "idle"),
			extraOver("get p99, µs", 2.5, "rotation/readers", "gentle", "idle"),
			extra("put p99, ms", 25, "rotation/readers", "gentle")),
		note: "a reader has a core for itself and waits for no lock of the file. In a trace of its waits for a core two fifths are Go's garbage collection and a third a mutex of SQLite's page caches, which all connections share; after each commit a reader's pages are read again. A put waits for the batch that is being written and then for its own flush.",
	},
	{
		what: "verify --deep, 1 M versions of 32 B",
		goal: "at least 150,000 versions a second, memory constant",
		find: all(under(1e9/150e3, "verify/deep", "1 M"), extra("peak over idle, MB", 64, "verify/deep", "1 M")),
		note: "SQLite's integrity check, which looks each row up in each index, takes 8 µs a version on one core where nothing else runs, and 14 beside the other one; that is a third of the profile (it was half of it, with the CHECKs of names and labels, which their tags cover). On the other core reading secrets and versions takes 14 µs, of which the labels are a third, opening a value with its wrap 3, the audit chain 5, and counting the rows 4.",
	},
}

// extra is a figure besides the time.
func extra(name string, limit float64, id, side string) func(*book) []finding {
	return func(b *book) []finding {
		s, _ := sides(b, id, side, side)
		if s == nil || len(s.Extra[name]) == 0 {
			return nil
		}
		_, unit, _ := strings.Cut(name, ", ")
		v := median(s.Extra[name])
		return []finding{{digits(v) + " " + unit, v <= limit}}
	}
}

// extraOver compares such a figure of two sides.
func extraOver(name string, limit float64, id, side, base string) func(*book) []finding {
	return func(b *book) []finding {
		s, r := sides(b, id, side, base)
		if s == nil || len(s.Extra[name]) == 0 {
			return nil
		}
		v := over(s.Extra[name], r.Extra[name])
		return []finding{{fmt.Sprintf("%.2fx", v), v <= limit}}
	}
}

// growth compares the rates of the fast gear in two cases, each by its own
// limit: they were not measured one after the other.
func growth(b *book) []finding {
	small, limitSmall := sides(b, "rotation/rewrap/10 k", "reseal, fast", "range")
	large, limitLarge := sides(b, "rotation/rewrap/1 M", "reseal, fast", "range")
	if small == nil || large == nil {
		return nil
	}
	r := over(small.Wall, limitSmall.Wall) / over(large.Wall, limitLarge.Wall)
	return []finding{{fmt.Sprintf("%.2fx, each by its limit", r), r >= 0.8}}
}

// fastestEnvelope compares reseal with the fastest of the other envelopes.
func fastestEnvelope(id string) func(*book) []finding {
	return func(b *book) []finding {
		res := b.find(id)
		if res == nil {
			return nil
		}
		mine, fastest, least := res.side("reseal"), "", 0.0
		for _, s := range res.Sides {
			name, rest, _ := strings.Cut(s.Name, " (")
			if r := over(s.Wall, mine.Wall); strings.HasPrefix(rest, "envelope)") && (fastest == "" || r < least) {
				fastest, least = name, r
			}
		}
		return []finding{{fmt.Sprintf("%s takes %.2fx", fastest, least), least >= 1}}
	}
}
