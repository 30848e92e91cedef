package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) doctorCommand() *cobra.Command {
	var scrub bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what needs attention, with the command that helps",
		Long: `Look for drift and damage, dates that have passed or are pending, unfinished
rotations, and files that others can read; for wraps and sealed values that no row
holds any more and whose bytes are still in the store's files; and name the
versions of the schema, the driver and SQLite. Values are not opened: see reseal
verify --deep. Exit code 3 if something needs attention.

With --scrub the file is first rebuilt without its free space, and its log
emptied: after purges, key destruction, and the removal of unseal slots. That
takes as much disk again as the file and twice as much memory, and stops writers
meanwhile. If anything is left all the same, the exit code is 3.`,
		Example: `  reseal doctor`,
		Args:    takes(),
	}
	c.Flags().BoolVar(&scrub, "scrub", false, "rebuild the file first: nothing that was removed is left in its free space")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error { return a.doctor(ctx, scrub) })
	return c
}

// finding is something that needs attention.
type finding struct {
	What   string `json:"what"` // short and stable
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
	undo   bool   // the remedy takes back what somebody wanted
}

type jsonDoctor struct {
	OK       bool      `json:"ok"`
	Findings []finding `json:"findings"`
	Notes    []finding `json:"notes"`
	// Residue is what was found of retired wraps and values in the store's files.
	Residue  store.Residue `json:"residue"`
	Schema   int64         `json:"schema"`
	Versions jsonBuild     `json:"versions"`
}

// examination gathers findings, and notes of what is as it should be but good
// to know.
type examination struct {
	app     *app
	ctx     context.Context
	s       *store.Store
	scrub   bool
	found   []finding
	notes   []finding
	residue store.Residue
}

func (x *examination) find(what, remedy, format string, args ...any) {
	x.found = append(x.found, finding{What: what, Detail: fmt.Sprintf(format, args...), Remedy: x.app.completed(remedy)})
}

func (x *examination) note(what, remedy, format string, args ...any) {
	x.notes = append(x.notes, finding{What: what, Detail: fmt.Sprintf(format, args...), Remedy: x.app.completed(remedy)})
}

// pending notes what somebody began and may still take back.
func (x *examination) pending(what, undo, format string, args ...any) {
	x.note(what, undo, format, args...)
	x.notes[len(x.notes)-1].undo = true
}

func (a *app) doctor(ctx context.Context, scrub bool) error {
	x := &examination{app: a, ctx: ctx, scrub: scrub, found: []finding{}, notes: []finding{}}
	x.files()
	err := a.unsealed(ctx, func(s *store.Store) error {
		x.s = s
		for _, look := range []func() error{x.records, x.keys, x.deleted, x.jobs, x.root, x.remains} {
			if err := look(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	v := buildVersions(ctx)
	out := jsonDoctor{OK: len(x.found) == 0, Findings: x.found, Notes: x.notes, Residue: x.residue, Schema: v.Schema, Versions: v}
	if err := a.emit(out, func(w io.Writer) { a.doctorText(w, &out) }); err != nil || out.OK {
		return err
	}
	return foundf("%s", plural(int64(len(x.found)), "finding"))
}

func (a *app) doctorText(w io.Writer, d *jsonDoctor) {
	show := func(c color, mark string, fs []finding) {
		for _, f := range fs {
			fmt.Fprintf(w, "%s %s: %s\n", a.paint(w, c, mark), f.What, f.Detail)
			if f.undo {
				fmt.Fprintf(w, "  to undo: %s\n", f.Remedy)
			} else if f.Remedy != "" {
				fmt.Fprintf(w, "  run: %s\n", f.Remedy)
			}
		}
	}
	show(red, "✗", d.Findings)
	show(yellow, "·", d.Notes)
	if d.OK {
		fmt.Fprintf(w, "%s nothing needs attention\n", a.paint(w, green, "✓"))
	}
	fmt.Fprintln(w, "residue:", d.Residue)
	v := d.Versions
	fmt.Fprintf(w, "schema %d, format %d, reseal %s, %s, SQLite %s, driver %s\n", d.Schema, v.Format, v.Version, v.Go, v.SQLite, v.Driver)
}

// files looks at the modes of the store's files and of those that unseal it.
func (x *examination) files() {
	a := x.app
	db := a.db
	if file, err := filepath.EvalSymlinks(db); err == nil {
		db = file // the log lies beside the file, not beside a link to it
	}
	paths := []string{db, db + "-wal", db + "-shm"}
	if src, err := a.configured(); err == nil {
		paths = append(paths, src.keyFile, src.passphraseFile)
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if p == "" || err != nil || runtime.GOOS == "windows" {
			continue
		}
		if perm := info.Mode().Perm(); perm&0o077 != 0 {
			x.find("file mode", "chmod 600 "+shellQuote(p), "%s has mode %04o: others can read or write it", p, perm)
		}
	}
}

// records checks what verify without --deep does.
func (x *examination) records() error {
	r, err := x.s.Verify(x.ctx, store.VerifyOptions{})
	if err != nil {
		return err
	}
	for _, f := range r.Failures {
		what, of := "damage", f.Secret
		if f.Secret == "" {
			of = f.Key
		}
		if strings.HasPrefix(f.Remedy, "reseal set-key ") {
			what = "drift"
		}
		x.find(what, f.Remedy, "%s version %d: %s", dash(of), f.Version, f.Error)
	}
	return nil
}

// behind notes data keys that older versions of an enabled key wrap.
func (x *examination) behind(k *store.KeyInfo) {
	var n int64
	for _, v := range k.Versions {
		if v.Version != k.PrimaryVersion {
			n += v.DataKeys
		}
	}
	if n > 0 && k.State == store.Enabled {
		x.note("behind", "reseal rotate run --key "+k.Name, "%s under older versions of key %s", plural(n, "data key"), k.Name)
	}
}

func (x *examination) keys() error {
	keys, err := x.s.Keys(x.ctx)
	if err != nil {
		return err
	}
	now := x.app.now()
	for i := range keys {
		k := &keys[i]
		x.behind(k)
		needed := k.Dependents.Any()
		switch {
		case k.State == store.Disabled && needed:
			x.find("disabled key", "reseal key enable "+k.Name, "key %s is disabled and %s", k.Name, k.Dependents)
		case k.State == store.PendingDeletion && needed:
			x.find("pending deletion", "reseal key cancel-deletion "+k.Name, "key %s may be destroyed from %s and is %s", k.Name, date(k.DeletionAt), k.Dependents)
		case k.State == store.PendingDeletion && now.After(k.DeletionAt):
			x.note("pending deletion", "reseal sweep", "the date of key %s has passed", k.Name)
		case k.State == store.PendingDeletion:
			x.pending("pending deletion", "reseal key cancel-deletion "+k.Name, "key %s may be destroyed from %s; nothing needs it", k.Name, date(k.DeletionAt))
		}
	}
	return nil
}

func (x *examination) deleted() error {
	secrets, err := x.s.List(x.ctx, store.ListOptions{Deleted: true})
	if err != nil {
		return err
	}
	now := x.app.now()
	for _, s := range secrets {
		needs := strings.Join(s.EffectiveKeys, ", ")
		if now.After(s.PurgeAt) {
			x.note("deleted secret", "reseal sweep", "the date of %s has passed; until it is purged it needs key %s", s.Name, needs)
			continue
		}
		x.pending("deleted secret", "reseal restore "+s.Name, "%s may be purged from %s and needs key %s until then", s.Name, date(s.PurgeAt), needs)
	}
	return nil
}

func (x *examination) jobs() error {
	jobs, err := x.s.Jobs(x.ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		switch {
		case j.State == store.JobPaused:
			x.find("unfinished rotation", "reseal rotate resume "+j.ID, "from %s to %s is paused, %s left", j.From, j.To, plural(j.Remaining, "version"))
		case j.State == store.JobRunning:
			x.find("unfinished rotation", "reseal rotate status", "from %s to %s is running, %s left", j.From, j.To, plural(j.Remaining, "version"))
		case j.State.Open():
			x.find("unfinished rotation", j.Command(), "from %s to %s is %s, %s left", j.From, j.To, j.State, plural(j.Remaining, "version"))
		}
	}
	return nil
}

func (x *examination) root() error {
	rotating, err := x.s.RootRotating(x.ctx)
	if err == nil && rotating {
		x.find("unfinished root rotation", "reseal unseal rotate-root", "master keys and slots cannot change until it is finished")
	}
	return err
}

// remains looks for what was retired and is still in the store's files. That a
// rotation or a purge leaves a little is normal; that a scrub does is not, and
// neither is what was destroyed or removed for good.
func (x *examination) remains() (err error) {
	if !x.scrub {
		x.residue, err = x.s.ScanResidue(x.ctx)
		switch {
		case err != nil:
		case len(x.residue.Named) > 0:
			x.find("residue", "reseal doctor --scrub", "%s, and with them %s", x.residue, strings.Join(x.residue.Named, ", "))
		case x.residue.Found > 0:
			x.note("residue", "reseal doctor --scrub", "%s", x.residue)
		}
		return err
	}
	disk, err := x.s.Settle(x.ctx, true)
	x.residue = disk.Residue
	if err == nil && !x.residue.Clean() {
		x.find("residue", "reseal doctor --scrub", "the file was rebuilt, and yet %s%s", x.residue, inUse(disk.Busy))
	}
	return err
}

// inUse says what to do about a reader in the way.
func inUse(busy bool) string {
	if !busy {
		return ""
	}
	return ": another process reads the store, and its log stays until that ends"
}
