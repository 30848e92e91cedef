// Command reseal keeps secrets in one SQLite file, each version sealed under a
// data key of its own that a named master key wraps, and moves them from one
// master key to another without leaving a version behind.
//
// docs/cli.md lists what other programs may rely on: outputs, exit codes and
// environment variables.
package main

import (
	"context"
	"os"
)

func main() {
	guardMemory()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
