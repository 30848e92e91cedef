//go:build race

package migrations

// raceFactor is how much slower the race detector makes SQLite.
const raceFactor = 50
