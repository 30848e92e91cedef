package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func (a *app) demoCommand() *cobra.Command {
	var n int
	var dir string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Watch a key being replaced, on a store of its own",
		Long: `Make a store in a new temporary folder, or in --dir, and watch: a key that is needed
cannot be deleted; a secret moves to another key with all its versions; the old
key is destroyed and everything stays readable. Then 10,000 secrets, or --secrets,
are stored, rotated to a new master key and verified one by one.

Everything happens as the other commands do it, except that the clock is put
forward once, past a date. Exit code 1 if a step does not end as it should.`,
		Example: `  reseal demo --secrets 1000`,
		Args:    takes(),
	}
	c.Flags().IntVar(&n, "secrets", 10_000, "rotate this `number` of secrets")
	c.Flags().StringVar(&dir, "dir", "", "make the store in this `folder`")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		if n < 1 || n > 10_000_000 {
			return usagef("", "--secrets is %d: between 1 and 10,000,000", n)
		}
		return a.demo(ctx, n, dir)
	})
	return c
}

// demo is one run of the demonstration.
type demo struct {
	app   *app
	ctx   context.Context
	s     *store.Store
	w     io.Writer // text, or nothing with --json
	ahead time.Duration
	began time.Time
	quote string // what a step of the story wants shown after it
	jsonDemo
}

type jsonDemo struct {
	DB             string       `json:"db"`
	KeyFile        string       `json:"key_file"`
	Story          []jsonBeat   `json:"story"`
	Secrets        int          `json:"secrets"`
	StoreSeconds   float64      `json:"store_seconds"`
	Rotation       jsonRotation `json:"rotation"`
	RotateSeconds  float64      `json:"rotate_seconds"`
	RotateRate     float64      `json:"rotate_rate"`
	StillUnderOld  int64        `json:"still_under_old_key"`
	Verify         jsonVerify   `json:"verify"`
	VerifySeconds  float64      `json:"verify_seconds"`
	ElapsedSeconds float64      `json:"elapsed_seconds"`
}

type jsonBeat struct {
	Step string `json:"step"`
	What string `json:"what"`
	OK   bool   `json:"ok"`
}

func (a *app) demo(ctx context.Context, n int, dir string) error {
	d := &demo{app: a, ctx: ctx, w: a.stdout, began: time.Now()}
	if a.json {
		d.w = io.Discard
	}
	d.Secrets = n
	if err := d.create(dir); err != nil {
		return err
	}
	defer d.s.Close()
	for _, act := range []func() error{d.story, d.fill, d.rotate, d.verify} {
		if err := act(); err != nil {
			return err
		}
	}
	d.ElapsedSeconds = time.Since(d.began).Seconds()
	return a.emit(d.jsonDemo, d.report)
}

func (d *demo) create(dir string) (err error) {
	if dir == "" {
		dir, err = os.MkdirTemp("", "reseal-demo-")
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return usagef("name an empty folder with --dir", "demo: %v", err)
	}
	d.DB, d.KeyFile = filepath.Join(dir, "reseal.db"), filepath.Join(dir, "reseal.key")
	for _, path := range []string{d.DB, d.KeyFile} {
		if _, err := os.Lstat(path); err == nil {
			return &cliError{exit: exitFailed, code: "exists", msg: fmt.Sprintf("demo: there is %s already", path), remedy: "name an empty folder with --dir", err: store.ErrExists}
		}
	}
	cred, err := store.NewKeyFile(d.KeyFile)
	if err != nil {
		return makeError(fmt.Sprintf("key file %q", d.KeyFile), plainError(err))
	}
	fmt.Fprintf(d.w, "A store of its own: %s\n", d.DB)
	now := func() time.Time { return time.Now().Add(d.ahead) }
	d.s, err = store.Create(d.ctx, d.DB, cred, &store.Options{Now: now})
	return err
}

// fill stores the secrets, many in a transaction.
func (d *demo) fill() error {
	if err := d.s.CreateKey(d.ctx, "mk-3"); err != nil {
		return err
	}
	fmt.Fprintln(d.w, "\nThe rotation")
	began, bar := time.Now(), d.app.progress()
	const group = 500
	for first := 0; first < d.Secrets; first += group {
		err := d.s.Update(d.ctx, func(tx *sql.Tx) error {
			for i := first; i < min(first+group, d.Secrets); i++ {
				name := fmt.Sprintf("demo/%03d/secret-%05d", i/1000, i)
				if _, err := d.s.PutTx(d.ctx, tx, name, fmt.Appendf(nil, "the value of %s", name), &store.PutOptions{Key: "mk-3"}); err != nil {
					return err
				}
			}
			return d.ctx.Err()
		})
		if err != nil {
			bar.end()
			return err
		}
		took := time.Since(began)
		bar.show("stored", int64(first), int64(d.Secrets), float64(first)/took.Seconds(), 0)
	}
	bar.end()
	d.StoreSeconds = time.Since(began).Seconds()
	d.done("%s more stored under mk-3", plural(int64(d.Secrets), "secret"))
	return nil
}

func (d *demo) rotate() error {
	if err := d.s.CreateKey(d.ctx, "mk-4"); err != nil {
		return err
	}
	bar := d.app.progress()
	rep, err := rotate.Run(d.ctx, d.s, rotate.Options{From: "mk-3", To: "mk-4", Progress: bar.rotation})
	bar.end()
	if err != nil {
		return rotationEnd(&rep, err)
	}
	old, err := d.s.Key(d.ctx, "mk-3")
	if err != nil {
		return err
	}
	d.Rotation, d.StillUnderOld = rotationJSON(&rep), old.Dependents.Versions
	d.RotateSeconds, d.RotateRate = rep.Elapsed.Seconds(), rep.Rate
	if rep.State != store.JobComplete || !rep.Verified || rep.Done != int64(d.Secrets) || d.StillUnderOld != 0 {
		return fmt.Errorf("demo: the rotation is %s with %d of %d moved and %d versions under mk-3", rep.State, rep.Done, d.Secrets, d.StillUnderOld)
	}
	d.done("moved from mk-3 to mk-4, and read back under it")
	return nil
}

func (d *demo) verify() error {
	began, bar := time.Now(), d.app.progress()
	r, err := d.s.Verify(d.ctx, store.VerifyOptions{Deep: true, Progress: func(done, total int64) { bar.show("opened", done, total, 0, 0) }})
	bar.end()
	if err != nil {
		return err
	}
	d.VerifySeconds = time.Since(began).Seconds()
	d.Verify = jsonVerify{r.OK, r.Deep, r.VersionsChecked, r.Drift, r.Behind, d.app.failures(r.Failures), r.FailureCount}
	if !r.OK || r.VersionsChecked != int64(d.Secrets+5) {
		return foundf("demo: %d of %d versions checked, %d failures", r.VersionsChecked, d.Secrets+5, r.FailureCount)
	}
	d.done("every value of the store opened")
	return nil
}

// done prints that a part is done.
func (d *demo) done(format string, args ...any) {
	fmt.Fprintf(d.w, "  %s %s\n", d.app.paint(d.w, green, "✓"), fmt.Sprintf(format, args...))
}

// report is the end of the text.
func (d *demo) report(w io.Writer) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "  %-26s %s\n", what, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(w, "\nReport")
	line("story", "%d of %d steps as they should be", len(d.Story), len(d.Story))
	line("secrets stored", "%s in %s", thousands(int64(d.Secrets)), seconds(d.StoreSeconds))
	line("secrets rotated", "%s from mk-3 to mk-4 in %s, %s a second", thousands(d.Rotation.Done), seconds(d.RotateSeconds), thousands(int64(d.RotateRate)))
	line("versions still under mk-3", "%d", d.StillUnderOld)
	line("deep verification", "%s: all %s opened in %s", d.app.paint(w, green, "ok"), plural(d.Verify.VersionsChecked, "version"), seconds(d.VerifySeconds))
	line("time in all", "%s", seconds(d.ElapsedSeconds))
	flags := "--db " + shellQuote(d.DB) + " --key-file " + shellQuote(d.KeyFile)
	fmt.Fprintf(w, "\nThe store stays where it is. Look around:\n  reseal show sec-1 %s\n  reseal key list %s\n", flags, flags)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

// expect tells whether an error is the one that a step of the story wants.
func expect(err, want error) error {
	switch {
	case errors.Is(err, want):
		return nil
	case err == nil:
		return fmt.Errorf("it was allowed, and should be refused: %w", want)
	}
	return err
}
