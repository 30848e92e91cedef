package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func (a *app) rotatePlan() *cobra.Command {
	var f rotateFlags
	var po rotate.PlanOptions
	c := &cobra.Command{
		Use:   "plan",
		Short: "Tell what a rotation would do and take, and change nothing",
		Long: `Tell what reseal rotate run with the same flags would move, how long it would take,
how much disk it needs, and which versions it would have to leave where they are,
each with what helps. Nothing is changed: the times are of samples, moved in short
transactions that are rolled back, and of a small file that is written beside the
store and removed.

Up to 100,000 versions, with 64 MiB of values to reencrypt, are all opened to find
those that would fail; of more, some in random places. --deep opens all. The output
says which it was.

Exit code 3 if something would fail, or the disk may become full.`,
		Example: `  reseal rotate plan --from mk-1 --to mk-2`,
		Args:    takes(),
	}
	f.scope(c)
	f.limits(c)
	f.manner(c)
	c.Flags().BoolVar(&po.Deep, "deep", false, "open everything that would move, however much it is")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		return a.unsealed(ctx, func(s *store.Store) error {
			o, err := f.options(ctx, s, "plan")
			if err != nil {
				return err
			}
			p, err := rotate.Plan(ctx, s, o, po)
			if err != nil {
				return err
			}
			return a.planned(&p)
		})
	})
	return c
}

type jsonPlan struct {
	Mode           string        `json:"mode"`
	From           string        `json:"from"`
	To             string        `json:"to"`
	ToVersion      uint64        `json:"to_version"`
	NewVersion     bool          `json:"new_version"`
	Prefix         string        `json:"prefix"`
	MadeBefore     stamp         `json:"made_before"`
	Job            string        `json:"job"`
	Secrets        int64         `json:"secrets"`
	DeletedSecrets int64         `json:"deleted_secrets"`
	Versions       int64         `json:"versions"`
	Labelled       int64         `json:"labelled"`
	Pending        int64         `json:"pending"`
	Unlabelled     int64         `json:"unlabelled"`
	OfDeleted      int64         `json:"of_deleted"`
	Replaced       int64         `json:"replaced"`
	ValueBytes     int64         `json:"value_bytes"`
	Seconds        float64       `json:"seconds"`
	Moving         float64       `json:"moving_seconds"`
	Reading        float64       `json:"reading_seconds"`
	Ending         float64       `json:"ending_seconds"`
	Batches        int64         `json:"batches"`
	Rate           float64       `json:"rate"`
	Sampled        int64         `json:"sampled"`
	LogBytes       int64         `json:"log_bytes"`
	LogBytesMost   int64         `json:"log_bytes_most"`
	DiskNeeded     int64         `json:"disk_needed"`
	DiskFree       *int64        `json:"disk_free"`
	CheckedAll     bool          `json:"checked_all"`
	Checked        int64         `json:"checked"`
	Failing        int64         `json:"failing"`
	Failures       []jsonFailure `json:"failures"`
	Warnings       []string      `json:"warnings"`
	Keys           []jsonPlan    `json:"keys,omitempty"`
}

func (a *app) planJSON(p *rotate.Forecast) jsonPlan {
	out := jsonPlan{
		Mode:           string(p.Mode),
		From:           p.From,
		To:             p.To,
		ToVersion:      p.ToVersion,
		NewVersion:     p.NewVersion,
		Prefix:         p.Prefix,
		MadeBefore:     stamp{p.MadeBefore},
		Job:            p.Job,
		Secrets:        p.Secrets,
		DeletedSecrets: p.DeletedSecrets,
		Versions:       p.Versions,
		Labelled:       p.Labelled,
		Pending:        p.Pending,
		Unlabelled:     p.Unlabelled,
		OfDeleted:      p.OfDeleted,
		Replaced:       p.Replaced,
		ValueBytes:     p.ValueBytes,
		Seconds:        p.Seconds,
		Moving:         p.Moving,
		Reading:        p.Reading,
		Ending:         p.Ending,
		Batches:        p.Batches,
		Rate:           p.Rate,
		Sampled:        p.Cost.Sampled,
		LogBytes:       p.Disk.Log,
		LogBytesMost:   p.Disk.LogMost,
		DiskNeeded:     p.DiskNeed,
		CheckedAll:     p.Check.All,
		Checked:        p.Check.Opened,
		Failing:        p.Check.Failing,
		Failures:       a.failures(p.Check.Failures),
		Warnings:       list(p.Warnings),
	}
	if free := p.Disk.Free; free >= 0 {
		out.DiskFree = &free
	}
	for i := range p.Keys {
		out.Keys = append(out.Keys, a.planJSON(&p.Keys[i]))
	}
	return out
}

// planned prints a plan and finds what is wrong with it.
func (a *app) planned(p *rotate.Forecast) error {
	err := a.emit(a.planJSON(p), func(w io.Writer) { a.planText(w, p) })
	if err != nil {
		return err
	}
	fits, known := p.DiskFits()
	switch {
	case p.Check.Failing > 0:
		return &cliError{exit: exitFound, code: "found", remedy: "mend what is listed, then plan again",
			msg: fmt.Sprintf("%s could not be moved", plural(p.Check.Failing, "version"))}
	case known && !fits:
		return &cliError{exit: exitFound, code: "found", remedy: "make room on the disk, then plan again",
			msg: fmt.Sprintf("%s of disk may be needed, and %s are free", bytesText(p.DiskNeed), bytesText(p.Disk.Free))}
	}
	return nil
}

func (a *app) planText(w io.Writer, p *rotate.Forecast) {
	for i := range p.Keys {
		a.planText(w, &p.Keys[i])
		fmt.Fprintln(w)
	}
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%-10s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("rotation", "%s", planTarget(p))
	if p.Versions+p.Configured == 0 {
		line("versions", "nothing to move")
		a.warnings(p.Warnings)
		return
	}
	line("secrets", "%s, and %s deleted", thousands(p.Secrets), thousands(p.DeletedSecrets))
	line("versions", "%s: labelled %s, pending %s, unlabelled %s; of deleted secrets %s", thousands(p.Versions),
		thousands(p.Labelled), thousands(p.Pending), thousands(p.Unlabelled), thousands(p.OfDeleted))
	if p.Mode == rotate.Reencrypt {
		line("reencrypts", "%s, %s of sealed values; rewraps %s", plural(p.Replaced, "version"), bytesText(p.ValueBytes), thousands(p.Versions-p.Replaced))
	}
	line("time", "about %s: moving %s in %s (%s a second), reading back %s, ending %s; from %s", secondsText(p.Seconds), secondsText(p.Moving),
		planBatches(p.Batches), thousands(int64(p.Rate)), secondsText(p.Reading), secondsText(p.Ending), plural(p.Cost.Sampled, "sampled version"))
	line("log", "grows by about %s; by %s if a reader keeps it from being emptied", bytesText(p.Disk.Log), bytesText(p.Disk.LogMost))
	free := "what is free is not known"
	if p.Disk.Free >= 0 {
		free = bytesText(p.Disk.Free) + " are free"
	}
	line("disk", "up to %s needed, %s", bytesText(p.DiskNeed), free)
	checked := "all that would move"
	if !p.Check.All {
		checked = fmt.Sprintf("%s in random places, of %s; --deep opens all", plural(p.Check.Opened, "version"), thousands(p.Versions))
	}
	line("opened", "%s", checked)
	line("would fail", "%s", plural(p.Check.Failing, "version"))
	if len(p.Keys) > 0 {
		return
	}
	failureLines(w, a.failures(p.Check.Failures))
	a.warnings(p.Warnings)
}

func planTarget(p *rotate.Forecast) string {
	switch {
	case len(p.Keys) > 0:
		return fmt.Sprintf("all %d keys together", len(p.Keys))
	case p.To == "":
		return "no key is old enough, and nothing is under an older version"
	}
	made := ""
	if p.NewVersion {
		made = ", which is made first"
	}
	if !p.MadeBefore.IsZero() {
		made += ", data keys made before " + p.MadeBefore.UTC().Format(time.RFC3339Nano)
	}
	if p.Job != "" {
		made += ", going on with job " + p.Job[:12]
	}
	return fmt.Sprintf("%s from key %s to key %s version %d%s", p.Mode, p.From, p.To, p.ToVersion, made)
}

func planBatches(n int64) string {
	if n == 1 {
		return "1 batch"
	}
	return thousands(n) + " batches"
}

// secondsText writes seconds as people do: 0.4s, 12s, 3m20s.
func secondsText(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", s)
	}
	return d.Round(time.Second).String()
}

// bytesText writes a number of bytes with the unit that suits it.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
