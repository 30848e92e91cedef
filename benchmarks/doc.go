// Package benchmarks measures reseal beside the raw operations that it is made
// of. It is a module of its own, so that what only a comparison needs never
// reaches the library's users.
//
//	cd benchmarks && go test -run '^$' -bench . -benchmem
package benchmarks
