// Command report measures every case of package benchmarks, its sides in turn,
// and writes docs/performance.md with its charts.
//
//	go -C benchmarks run ./cmd/report                 # all of it; -light leaves out what takes long
//	go -C benchmarks run ./cmd/report -only store/    # some cases, the others as they were measured last
//	go -C benchmarks run ./cmd/report -short          # only counts that no machine changes; fails if one is too high
//
// Results are written after each case, to performance/results.json beside the
// page: a run that was interrupted goes on with -resume.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/reseal/reseal/benchmarks"
)

type options struct {
	docs   string
	dir    string
	only   string
	rounds int
	sample time.Duration
	light  bool
	resume bool
	short  bool
}

func main() {
	if benchmarks.Child() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "report: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, log io.Writer) error {
	var o options
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.StringVar(&o.docs, "docs", "../docs", "folder of performance.md")
	flags.StringVar(&o.dir, "dir", "", "folder for the stores, on the disk to measure (default the system's temporary folder)")
	flags.StringVar(&o.only, "only", "", "measure only the cases whose names begin with one of these, separated by commas")
	flags.IntVar(&o.rounds, "rounds", 9, "samples of each side")
	flags.DurationVar(&o.sample, "time", 100*time.Millisecond, "time that a sample of a short operation takes")
	flags.BoolVar(&o.light, "light", false, "leave the heavy cases out")
	flags.BoolVar(&o.resume, "resume", false, "keep the cases that this commit and machine have measured")
	flags.BoolVar(&o.short, "short", false, "only count allocations, statements and bytes written, and fail if one is too high")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.short {
		return count(ctx, o, os.Stdout)
	}
	return measureAll(ctx, o, log)
}

func (o *options) chosen(id string) bool {
	if o.only == "" {
		return true
	}
	for prefix := range strings.SplitSeq(o.only, ",") {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// measureAll measures the cases, each a file's worth of results.
func measureAll(ctx context.Context, o options, log io.Writer) error {
	if err := checkDocs(o.docs); err != nil {
		return err
	}
	book, err := openBook(o)
	if err != nil {
		return err
	}
	benchmarks.Folder = o.dir
	defer benchmarks.CloseShared()
	for _, c := range benchmarks.Cases() {
		if !o.chosen(c.ID) || o.light && c.Heavy || o.resume && book.measured(c.ID) {
			continue
		}
		began := time.Now()
		res, err := measure(ctx, c, o)
		if err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		fmt.Fprintf(log, "%-32s %6.1fs  %s\n", c.ID, time.Since(began).Seconds(), res.line())
		book.put(res)
		if err := book.save(); err != nil {
			return err
		}
	}
	return book.write()
}
