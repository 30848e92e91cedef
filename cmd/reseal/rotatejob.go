package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func (a *app) rotateStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show rotation jobs",
		Long: `Show all rotation jobs, oldest first, and how far the open ones are. Exit code 5
while one is open. A job that is complete was read back, unless it says "not
verified". Needs no key: what is shown is as recorded, but for what is left, which
is counted.`,
		Example: `  reseal rotate status`,
		Args:    takes(),
		RunE:    a.runs(a.rotationStatus),
	}
}

type jsonStatus struct {
	jsonJob
	Jobs []jsonJob `json:"jobs"`
}

type jsonJob struct {
	jsonRotation
	StartedAt     stamp  `json:"started_at"`
	UpdatedAt     stamp  `json:"updated_at"`
	FinishedAt    stamp  `json:"finished_at"`
	Command       string `json:"command,omitempty"`
	Authenticated bool   `json:"authenticated"` // never: no tag covers a job's record
	job           store.Job
}

func (a *app) jobJSON(j store.Job) jsonJob {
	out := jsonJob{
		jsonRotation: jsonRotation{
			Job:        j.ID,
			Mode:       j.Mode,
			From:       j.From,
			To:         j.To,
			ToVersion:  j.ToVersion,
			Prefix:     j.Prefix,
			MadeBefore: stamp{j.MadeBefore},
			Total:      j.Total,
			Done:       j.Done,
			Remaining:  j.Remaining,
			State:      j.State,
			Verified:   j.Verified,
			Receipt:    j.Receipt,
		},
		StartedAt:  stamp{j.StartedAt},
		UpdatedAt:  stamp{j.UpdatedAt},
		FinishedAt: stamp{j.FinishedAt},
		job:        j,
	}
	if j.State.Open() {
		out.Command = a.completed(j.Command())
	}
	return out
}

func (a *app) rotationStatus(ctx context.Context, _ []string) error {
	return a.readable(ctx, func(s *store.Store) error {
		jobs, err := rotate.Status(ctx, s)
		if err != nil {
			return err
		}
		out := a.statusJSON(jobs)
		if err := a.emit(out, func(w io.Writer) { jobTable(w, jobs) }); err != nil {
			return err
		}
		if out.State.Open() {
			return &cliError{exit: exitIncomplete, code: "incomplete", remedy: out.remedy(),
				msg: fmt.Sprintf("a rotation is %s: %s still to move", out.State, plural(out.Remaining, "version"))}
		}
		return nil
	})
}

// statusJSON puts the newest open job, or the newest, in front of all.
func (a *app) statusJSON(jobs []store.Job) jsonStatus {
	out := jsonStatus{jsonJob: jsonJob{jsonRotation: jsonRotation{State: store.JobComplete}}, Jobs: []jsonJob{}}
	for _, j := range jobs {
		v := a.jobJSON(j)
		if j.State.Open() || !out.State.Open() {
			out.jsonJob = v
		}
		out.Jobs = append(out.Jobs, v)
	}
	return out
}

func (j *jsonJob) remedy() string {
	switch j.State {
	case store.JobPaused:
		return "reseal rotate resume " + j.Job
	case store.JobRunning:
		return "a process is at work on it; to stop that after its batch: reseal rotate pause " + j.Job
	}
	return j.job.Command()
}

func jobTable(w io.Writer, jobs []store.Job) {
	if len(jobs) == 0 {
		fmt.Fprintln(w, "no rotation was ever started")
		return
	}
	header, scoped := "JOB MODE FROM TO STATE DONE LEFT STARTED TOOK", slices.ContainsFunc(jobs, func(j store.Job) bool { return j.Prefix != "" })
	if scoped {
		header += " PREFIX"
	}
	var rows [][]string
	for _, j := range jobs {
		state, took, left := string(j.State), "-", thousands(j.Remaining)
		if j.State == store.JobComplete && !j.Verified {
			state = "not verified"
		}
		if !j.FinishedAt.IsZero() {
			took = j.FinishedAt.Sub(j.StartedAt).Round(time.Second).String()
		}
		if j.State == store.JobCancelled {
			left = "-" // nobody moves it any more
		}
		row := []string{j.ID[:8], j.Mode, j.From, fmt.Sprintf("%s/%d", j.To, j.ToVersion), state, thousands(j.Done), left, j.StartedAt.UTC().Format("2006-01-02T15:04Z"), took}
		if scoped {
			row = append(row, dash(j.Prefix))
		}
		rows = append(rows, row)
	}
	table(w, header, rows)
}

func (a *app) rotateVerify() *cobra.Command {
	var f rotateFlags
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check that a rotation reached its end",
		Long: `Check that nothing is left under the old key, and that every version that belongs
under the new one is configured so, and its data key opens there; with --mode
reencrypt its value too. Changes nothing. Exit code 3 if something is not as it
should be.

With --receipt the receipt in a file is checked instead, as rotate run --receipt
wrote it: that this store made it and nobody altered it, else exit code 8; and
that nothing has come back under what was left then, else exit code 3.`,
		Example: `  reseal rotate verify --from mk-1 --to mk-2`,
		Args:    takes(),
	}
	var file string
	f.scope(c)
	c.Flags().StringVar(&file, "receipt", "", "check the receipts in this `file`")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		if file != "" {
			return a.verifyReceipts(ctx, file, &f)
		}
		return a.unsealed(ctx, func(s *store.Store) error {
			o, err := f.options(ctx, s, "verify")
			if err != nil {
				return err
			}
			return a.verifyRotation(ctx, s, o)
		})
	})
	return c
}

type jsonVerification struct {
	OK        bool          `json:"ok"`
	From      string        `json:"from"`
	To        string        `json:"to"`
	Prefix    string        `json:"prefix"`
	Remaining int64         `json:"remaining"`
	Checked   int64         `json:"checked"`
	Failed    int64         `json:"failed"`
	Digest    string        `json:"digest"`
	Failures  []jsonFailure `json:"failures"`
}

func (a *app) verifyRotation(ctx context.Context, s *store.Store, o rotate.Options) error {
	bar := a.progress()
	o.Progress = func(p rotate.Progress) { bar.rotation(p) }
	v, err := rotate.Verify(ctx, s, o)
	bar.end()
	if err != nil {
		return err
	}
	out := a.verificationJSON(v)
	err = a.emit(out, func(w io.Writer) {
		left := "key " + v.From
		if v.From == v.To {
			left = "its older versions"
		}
		fmt.Fprintf(w, "%s opened under key %s, %s left under %s\n", plural(v.Checked-v.Failed, "version"), v.To, thousands(v.Remaining), left)
		failureLines(w, out.Failures)
	})
	if err == nil && !v.OK {
		msg := fmt.Sprintf("the rotation is not at its end: %s left", thousands(v.Remaining))
		if others := v.Failed - v.Remaining; others > 0 {
			msg += fmt.Sprintf(", %s besides", plural(others, "failure"))
		}
		err = &cliError{exit: exitFound, code: "found", remedy: rotationCommand(v), msg: msg}
	}
	return err
}

func (a *app) verificationJSON(v rotate.Verification) jsonVerification {
	return jsonVerification{v.OK, v.From, v.To, v.Prefix, v.Remaining, v.Checked, v.Failed, v.Digest, a.failures(v.Failures)}
}

func rotationCommand(v rotate.Verification) string {
	j := store.Job{Mode: string(v.Mode), From: v.From, To: v.To, Prefix: v.Prefix}
	return j.Command()
}

func failureLines(w io.Writer, fs []jsonFailure) {
	for _, f := range fs {
		fmt.Fprintf(w, "%s version %d: %s\n", f.Secret, f.Version, f.Error)
		if f.Remedy != "" {
			fmt.Fprintf(w, "  run: %s\n", f.Remedy)
		}
	}
}

// rotateSteer is a command that changes an open job, by its id or the first
// digits of it; without one, the only open job.
func (a *app) rotateSteer(verb, short string, do func(context.Context, *store.Store, string) error) *cobra.Command {
	long := map[string]string{
		"pause":  "Stop an open rotation job after its batch, whichever process runs it; that process\nwaits until the job is resumed.",
		"resume": "Let a paused rotation job go on. If the process that ran it is gone, reseal rotate\nrun with the same flags does.",
		"cancel": "End an open rotation job where it is: every secret stays whole under the key that\nit is under now.",
	}[verb]
	return &cobra.Command{
		Use:     verb + " [JOB]",
		Short:   short,
		Long:    long + "\n\nJOB is the job's id, or its first 6 or more digits; without it, the only open job.",
		Example: "  reseal rotate " + verb,
		Args:    takesUpTo("JOB"),
		RunE: a.runs(func(ctx context.Context, args []string) error {
			return a.unsealed(ctx, func(s *store.Store) error {
				id, err := openJob(ctx, s, args)
				if err != nil {
					return err
				}
				if err := do(ctx, s, id); err != nil {
					return err
				}
				res := struct {
					Job  string `json:"job"`
					Done string `json:"done"`
				}{id, verb}
				return a.say(res, "job %s: %s done", id, verb)
			})
		}),
	}
}

func openJob(ctx context.Context, s *store.Store, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	jobs, err := s.Jobs(ctx)
	if err != nil {
		return "", err
	}
	var open []string
	for _, j := range jobs {
		if j.State.Open() {
			open = append(open, j.ID)
		}
	}
	switch len(open) {
	case 0:
		return "", &cliError{exit: exitNotFound, code: "not_found", msg: "no rotation job is open", remedy: "reseal rotate status"}
	case 1:
		return open[0], nil
	}
	return "", usagef("reseal rotate status", "%d jobs are open: name one", len(open))
}
