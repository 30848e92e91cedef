package main

import (
	"context"
	"fmt"
	"io"

	"github.com/reseal/reseal/benchmarks"
)

// count counts what no machine changes, and fails if one of it is more than it
// may be.
func count(ctx context.Context, o options, out io.Writer) error {
	benchmarks.Folder = o.dir
	defer benchmarks.CloseShared()
	bad := 0
	for _, c := range benchmarks.Counts() {
		if !o.chosen(c.ID) {
			continue
		}
		n, err := benchmarks.CountIn(ctx, o.dir, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		verdict := "ok"
		if n > c.AtMost+0.1 { // the runtime allocates now and then, too
			verdict = "TOO MANY"
			bad++
		}
		fmt.Fprintf(out, "%-34s %9.2f %-11s at most %9.2f  %s\n", c.ID, n, c.Unit, c.AtMost, verdict)
	}
	if bad > 0 {
		return fmt.Errorf("%d counts are higher than they may be", bad)
	}
	return nil
}
