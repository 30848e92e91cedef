// Package benchmarks measures reseal beside the limit, which is the raw
// operation without reseal, and beside what one would use instead.
//
// It is a module of its own, so that what only a comparison needs never reaches
// the library's users. A case is one piece of work that several sides do; its
// code is used twice:
//
//	go -C benchmarks test -run '^$' -bench .      # each side by itself, for profiles
//	go -C benchmarks run ./cmd/report             # the sides in turn, as docs/performance.md
//
// All run in one process on real files in a temporary folder.
package benchmarks
