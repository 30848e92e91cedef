package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func (a *app) rotateCommand() *cobra.Command {
	return a.noun("rotate", "Move many secrets to another master key", "  reseal rotate run --from mk-1 --to mk-2",
		a.rotatePlan(), a.rotateRun(), a.rotateStatus(), a.rotateVerify(), a.rotateValue(),
		a.rotateSteer("pause", "Stop a job after its batch", rotate.Pause),
		a.rotateSteer("resume", "Let a paused job go on", rotate.Resume),
		a.rotateSteer("cancel", "End a job where it is", rotate.Cancel))
}

// rotateFlags say what is rotated and how.
type rotateFlags struct {
	rotate.Options
	mode       string
	olderThan  days
	madeBefore moment
	receipt    string // the file to write it to
}

func (f *rotateFlags) scope(c *cobra.Command) {
	c.Flags().StringVar(&f.From, "from", "", "the master `key` to leave")
	c.Flags().StringVar(&f.To, "to", "", "the master `key` to go to (default the store's default key)")
	c.Flags().StringVar(&f.Key, "key", "", "go to the newest version of this master `key`")
	c.Flags().StringVar(&f.Prefix, "prefix", "", "only secrets whose names begin with this `text`")
	c.Flags().StringVar(&f.mode, "mode", string(rotate.Rewrap), "the `mode`: rewrap, or reencrypt for new data keys and values")
}

// limits say which data keys a reencryption replaces.
func (f *rotateFlags) limits(c *cobra.Command) {
	c.Flags().Var(&f.madeBefore, "made-before", "reencrypt what was made before this date, rewrap the others")
	c.Flags().Uint64Var(&f.TouchedBy, "touched-by", 0, "reencrypt what version `n` of the key may have wrapped, rewrap the others")
	c.Flags().Var(&f.olderThan, "older-than", "rotate keys whose newest version is older, like 90d")
}

// manner says how gently and thoroughly.
func (f *rotateFlags) manner(c *cobra.Command) {
	c.Flags().IntVar(&f.Batch, "batch", rotate.DefaultBatch, "at most `n` data keys in a transaction")
	c.Flags().IntVar(&f.Rate, "rate", 0, "at most `n` data keys a second (default no limit)")
	c.Flags().BoolVar(&f.Fast, "fast", false, "no rest, and several batches prepared at a time; takes more from the host")
	c.Flags().BoolVar(&f.Scrub, "scrub", false, "rebuild the file at the end: no old wrap is left in free pages")
}

// options returns what the flags of a rotate command say, with the default key
// for a --to that is not given.
func (f *rotateFlags) options(ctx context.Context, s *store.Store, command string) (rotate.Options, error) {
	o := f.Options
	o.Mode, o.OlderThan, o.MadeBefore = rotate.Mode(f.mode), time.Duration(f.olderThan), time.Time(f.madeBefore)
	if err := f.check(command); err != nil {
		return o, err
	}
	if o.From == "" || o.To != "" || o.Key != "" {
		return o, nil
	}
	keys, err := s.Keys(ctx)
	for _, k := range keys {
		if k.Default {
			o.To = k.Name
		}
	}
	if err == nil && o.To == o.From {
		err = usagef("name another key with --to, or its newest version with --key "+o.From, "%q is the default key itself", o.From)
	}
	return o, err
}

// check says what is wrong with the flags in their own names.
func (f *rotateFlags) check(command string) error {
	help := "reseal rotate " + command + " --help"
	switch {
	case f.Batch < 0:
		return usagef(help, "--batch is %d: 1 or more", f.Batch)
	case f.Rate < 0:
		return usagef(help, "--rate is %d: 1 or more, or 0 for no limit", f.Rate)
	case f.From != "" || f.Key != "" || f.olderThan > 0:
		return nil
	case command == "verify":
		return usagef(help, "say which rotation: --from KEY --to KEY, --key KEY, or --receipt FILE")
	}
	return usagef(help, "say what to rotate: --from KEY --to KEY, --key KEY, or --older-than with more than nothing")
}

func (a *app) rotateRun() *cobra.Command {
	var f rotateFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Start a rotation, or go on with it",
		Long: `Move every version of every secret from one master key to another (--from, --to),
or from a key's older versions to its newest (--key), in short transactions, while
readers and writers go on. It may be interrupted or killed at any time: running it
again goes on where it was. At the end every version is read back under the new
key, and what is left under the old one is counted: zero.

--older-than D first gives each key whose newest version is older than D a new
one, and then moves everything to its key's newest version: for a nightly job.

--mode rewrap, the default, gives each data key a new wrap: right for routine, and
for leaving a key. --mode reencrypt gives each version a new data key and seals its
value anew: right if somebody may have a master key and an old copy of the file,
because the data keys in that copy open the values of today. Only what is under
the old key, or an older version, moves: to reencrypt everything under one key,
first reseal key rotate K, then reseal rotate run --key K --mode reencrypt. Values
that somebody has read already, or can read in a copy, only new values make
worthless. --made-before and --touched-by replace fewer data keys and rewrap the
others.

The old key is neither disabled nor destroyed: see reseal key delete.

Exit code 5 if something could not be moved, or is still to be.`,
		Example: `  reseal rotate run --from mk-1 --to mk-2`,
		Args:    takes(),
	}
	f.scope(c)
	f.limits(c)
	f.manner(c)
	c.Flags().StringVar(&f.receipt, "receipt", "", "write the receipt to this new `file`, for reseal rotate verify --receipt")
	c.Flags().BoolVar(&a.events, "events", false, "tell of progress in lines of JSON on standard error, with --json")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		if a.events && !a.json {
			return usagef("", "--events goes with --json")
		}
		if err := freePath(f.receipt); err != nil {
			return err
		}
		return a.unsealed(ctx, func(s *store.Store) error {
			o, err := f.options(ctx, s, "run")
			if err != nil {
				return err
			}
			return a.runRotation(ctx, s, o, f.receipt)
		})
	})
	return c
}

// jsonRotation is a rotation in the JSON of rotate run and rotate status.
type jsonRotation struct {
	Job        string         `json:"job"`
	Mode       string         `json:"mode"`
	From       string         `json:"from"`
	To         string         `json:"to"`
	ToVersion  uint64         `json:"to_version"`
	Prefix     string         `json:"prefix"`
	MadeBefore stamp          `json:"made_before"`
	Total      int64          `json:"total"`
	Done       int64          `json:"done"`
	Remaining  int64          `json:"remaining"`
	State      store.JobState `json:"state"`
	Verified   bool           `json:"verified"`
	Receipt    *store.Receipt `json:"receipt,omitempty"`
}

type jsonRun struct {
	jsonRotation
	Moved          int64          `json:"moved"`
	Replaced       int64          `json:"replaced"`
	Checked        int64          `json:"checked"`
	Failed         int64          `json:"failed"`
	Failures       []jsonFailure  `json:"failures"`
	Seconds        float64        `json:"seconds"`
	Rate           float64        `json:"rate"`
	CheckpointBusy bool           `json:"checkpoint_busy"`
	Warnings       []string       `json:"warnings"`
	Keys           []jsonRotation `json:"keys,omitempty"`
}

// jsonFailure is a version that does not open.
type jsonFailure struct {
	Secret  string `json:"secret"`
	Version uint64 `json:"version"`
	Key     string `json:"key,omitempty"`
	Error   string `json:"error"`
	Remedy  string `json:"remedy,omitempty"`
}

func (a *app) failures(fs []store.Failure) []jsonFailure {
	out := []jsonFailure{}
	for _, f := range fs {
		out = append(out, jsonFailure{f.Secret, f.Version, f.Key, f.Error, a.completed(f.Remedy)})
	}
	return out
}

func rotationJSON(r *rotate.Report) jsonRotation {
	return jsonRotation{
		Job:        r.Job,
		Mode:       string(r.Mode),
		From:       r.From,
		To:         r.To,
		ToVersion:  r.ToVersion,
		Prefix:     r.Prefix,
		MadeBefore: stamp{r.MadeBefore},
		Total:      r.Total,
		Done:       r.Done,
		Remaining:  r.Remaining,
		State:      r.State,
		Verified:   r.Verified,
		Receipt:    r.Receipt,
	}
}

func (a *app) runJSON(r *rotate.Report) jsonRun {
	out := jsonRun{
		jsonRotation:   rotationJSON(r),
		Moved:          r.Moved,
		Replaced:       r.Replaced,
		Checked:        r.Checked,
		Failed:         r.Failed,
		Failures:       a.failures(r.Failures),
		Seconds:        r.Elapsed.Seconds(),
		Rate:           r.Rate,
		CheckpointBusy: r.CheckpointBusy,
		Warnings:       list(r.Warnings),
	}
	for i := range r.Keys {
		out.Keys = append(out.Keys, rotationJSON(&r.Keys[i]))
	}
	return out
}

func (a *app) runRotation(ctx context.Context, s *store.Store, o rotate.Options, receipt string) error {
	bar := a.progress()
	o.Progress = func(p rotate.Progress) { bar.rotation(p) }
	rep, err := rotate.Run(ctx, s, o)
	bar.end()
	if err != nil && !rotationBegan(&rep) {
		return err
	}
	if eerr := a.emit(a.runJSON(&rep), func(w io.Writer) { a.runText(w, &rep) }); eerr != nil {
		return eerr
	}
	if receipt != "" {
		if werr := a.writeReceipts(receipt, &rep); werr != nil && err == nil {
			return werr
		}
	}
	return rotationEnd(&rep, err)
}

// rotationBegan reports whether there is something to say of a run that ended
// in an error.
func rotationBegan(r *rotate.Report) bool { return r.Job != "" || len(r.Keys) > 0 }

// rotationEnd gives the end of a run its exit code.
func rotationEnd(r *rotate.Report, err error) error {
	again := "run the same command again to go on"
	switch {
	case errors.Is(err, context.Canceled):
		return &cliError{exit: exitInterrupted, code: "interrupted", remedy: again, err: err,
			msg: fmt.Sprintf("interrupted after a whole batch: %s still to move", plural(r.Remaining, "version"))}
	case errors.Is(err, rotate.ErrIncomplete):
		return &cliError{exit: exitIncomplete, code: "incomplete", remedy: "mend what is listed, then " + again, err: err,
			msg: fmt.Sprintf("%s could not be moved and stayed as they are", plural(r.Failed, "version"))}
	case err == nil && r.State.Open():
		return &cliError{exit: exitIncomplete, code: "incomplete", remedy: again,
			msg: fmt.Sprintf("the rotation is %s: %s still to move", r.State, plural(r.Remaining, "version"))}
	}
	return err
}

func (p *progress) rotation(r rotate.Progress) {
	if p.events {
		p.event(r)
		return
	}
	// What waits is told at once: nothing more comes for a while.
	if r.Phase != p.phase && (p.bar || r.Phase == rotate.Paused) {
		p.last = time.Time{}
	}
	p.phase = r.Phase
	what := "moved"
	switch r.Phase {
	case rotate.Paused:
		what, r.Rate, r.Left = "paused by reseal rotate pause at", 0, 0
	case rotate.Checking:
		what = "read back"
	case rotate.Settling:
		what = "emptying the log, moved"
	}
	p.show(what, r.Done, r.Total, r.Rate, r.Left)
}

func (a *app) runText(w io.Writer, r *rotate.Report) {
	for i := range r.Keys {
		a.runText(w, &r.Keys[i])
	}
	if len(r.Keys) > 0 {
		return // they have told everything
	}
	fmt.Fprintln(w, runLine(r))
	if r.Receipt != nil {
		fmt.Fprintln(w, "residue:", r.Receipt.Residue)
	}
	failureLines(w, a.failures(r.Failures))
	for _, warning := range r.Warnings {
		a.warn("%s", warning)
	}
	if r.CheckpointBusy {
		a.warn("another process reads the store: until it ends, old wraps stay in the database's log")
	}
}

func runLine(r *rotate.Report) string {
	target := r.To
	if r.ToVersion > 0 {
		target = fmt.Sprintf("%s version %d", r.To, r.ToVersion)
	}
	checked := ""
	if r.Verified {
		checked = fmt.Sprintf(", all %s opened under it", thousands(r.Checked))
	}
	if r.To == "" {
		return "nothing to do: no key is old enough, and nothing is under an older version"
	}
	if r.Job == "" && r.Total == 0 && r.Remaining == 0 {
		return fmt.Sprintf("nothing to move to key %s%s", target, checked)
	}
	replaced := ""
	if r.Mode == rotate.Reencrypt {
		replaced = fmt.Sprintf(", %s of %s in this run reencrypted", thousands(r.Replaced), thousands(r.Moved))
	}
	return fmt.Sprintf("%s: %s of %s moved to key %s%s, %s left%s; %s, %s a second",
		r.State, thousands(r.Done), plural(r.Total, "version"), target, replaced, thousands(r.Remaining), checked,
		r.Elapsed.Round(time.Millisecond), thousands(int64(r.Rate)))
}
