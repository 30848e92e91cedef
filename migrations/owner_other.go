//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package migrations

// giveOwner and giveMode do nothing on systems where a file has the rights of
// its folder.
func giveOwner(string, string) error { return nil }
func giveMode(string, string) error  { return nil }
