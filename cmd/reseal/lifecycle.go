package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) deleteCommand() *cobra.Command {
	var d days
	c := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a secret; it can be restored for 7 to 30 days",
		Long: `Start a secret's recovery window. Until it is purged, its versions, labels and name
stay, and the master keys that it needs are held; get fails and says so. Nothing
happens at the date by itself: reseal purge or reseal sweep removes what is past
its date.`,
		Example: `  reseal delete app/db/password --window 7d`,
		Args:    takes("NAME"),
	}
	c.Flags().Var(&d, "window", "how long it can be restored for certain: 7d to 30d (default 30d)")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		return a.unsealed(ctx, func(s *store.Store) error { return a.delete(ctx, s, args[0], time.Duration(d)) })
	})
	return c
}

func (a *app) delete(ctx context.Context, s *store.Store, name string, window time.Duration) error {
	res, err := s.Delete(ctx, name, window)
	if err != nil {
		return err
	}
	out := struct {
		Name     string   `json:"name"`
		PurgeAt  stamp    `json:"purge_at"`
		Warnings []string `json:"warnings"`
	}{res.Name, stamp{res.PurgeAt}, list(res.Warnings)}
	a.warnings(res.Warnings)
	err = a.say(out, "%s is deleted and may be purged from %s", res.Name, date(res.PurgeAt))
	a.hint("to undo: %s", a.completed("reseal restore "+res.Name))
	return err
}

// warnings prints warnings that the JSON of a command has too.
func (a *app) warnings(all []string) {
	for _, w := range all {
		a.warn("%s", w)
	}
}

func (a *app) restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore NAME",
		Short: "Take the deletion of a secret back",
		Long: `Take the deletion of a secret back, also past its date as long as it was not purged.
A master key that stands in the way of reading it is named.`,
		Example: `  reseal restore old/token`,
		Args:    takes("NAME"),
		RunE: a.runs(func(ctx context.Context, args []string) error {
			return a.unsealed(ctx, func(s *store.Store) error {
				res, err := s.Restore(ctx, args[0])
				if err != nil {
					return err
				}
				out := struct {
					Name     string   `json:"name"`
					Restored bool     `json:"restored"`
					Warnings []string `json:"warnings"`
				}{res.Name, res.Restored, list(res.Warnings)}
				a.warnings(res.Warnings)
				if !res.Restored {
					return a.say(out, "%s was not deleted: nothing was changed", res.Name)
				}
				return a.say(out, "%s is restored", res.Name)
			})
		}),
	}
}

func (a *app) purgeCommand() *cobra.Command {
	var atOnce bool
	var yes string
	c := &cobra.Command{
		Use:   "purge NAME",
		Short: "Remove a deleted secret for good",
		Long: `Remove a deleted secret for good, once its date has passed. With --now any secret is
removed at once; the name has to be typed again, or given with --yes. What stays
is the name, so that version numbers go on if it is used again, and the audit
events.`,
		Example: `  reseal purge old/token --now --yes old/token`,
		Args:    takes("NAME"),
	}
	c.Flags().BoolVar(&atOnce, "now", false, "at once, whatever the date")
	c.Flags().StringVar(&yes, "yes", "", "confirm with the secret's `name`")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if err := store.CheckName(args[0]); err != nil {
			return err
		}
		return a.unsealed(ctx, func(s *store.Store) error {
			if atOnce {
				if err := a.confirm(ctx, args[0], yes); err != nil {
					return err
				}
			}
			return a.purge(ctx, s, args[0], atOnce)
		})
	})
	return c
}

// confirm asks for a name to be typed again, or takes the one in --yes.
func (a *app) confirm(ctx context.Context, name, yes string) error {
	if yes == "" {
		t, err := openTerminal()
		if err != nil {
			return usagef("add --yes "+name, "removing %q for good needs its name typed again, and there is no terminal", name)
		}
		defer t.close()
		if yes, err = t.line(ctx, fmt.Sprintf("Remove all versions of %s for good? Type its name again: ", name)); err != nil {
			return err
		}
	}
	if yes != name {
		return usagef("", "the name given to confirm is not %q: nothing was removed", name)
	}
	return nil
}

func (a *app) purge(ctx context.Context, s *store.Store, name string, atOnce bool) error {
	res, err := s.Purge(ctx, name, atOnce)
	if err != nil {
		return err
	}
	out := struct {
		Name     string `json:"name"`
		Versions int    `json:"versions"`
		Residue  bool   `json:"residue"`
	}{res.Name, res.Versions, res.Residue}
	a.warnResidue(res.Residue)
	return a.say(out, "%s is purged, %s removed", res.Name, plural(int64(res.Versions), "version"))
}

func (a *app) warnResidue(residue bool) {
	if residue {
		a.warn("another process reads the store: until it ends, what was removed stays in the database's log")
	}
}

func (a *app) pruneCommand() *cobra.Command {
	var all bool
	var keep int
	c := &cobra.Command{
		Use:   "prune NAME | --all",
		Short: "Remove old versions without labels",
		Long: `Remove the versions of a secret, or with --all of every secret, that have no label,
but the newest of them that --keep says. Labelled versions are never removed.`,
		Example: `  reseal prune app/db/password --keep 2`,
		Args:    takesUpTo("NAME"),
	}
	c.Flags().BoolVar(&all, "all", false, "every secret that is not deleted")
	c.Flags().IntVar(&keep, "keep", 0, "keep the newest `n` versions without labels")
	c.MarkFlagRequired("keep")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if all == (len(args) == 1) {
			return usagef("reseal prune --help", "name one secret, or give --all")
		}
		return a.unsealed(ctx, func(s *store.Store) error {
			if all {
				n, err := s.PruneAll(ctx, keep)
				return a.pruned(n, err)
			}
			n, err := s.Prune(ctx, args[0], keep)
			return a.pruned(int64(n), err)
		})
	})
	return c
}

func (a *app) pruned(n int64, err error) error {
	if err != nil {
		return err
	}
	res := struct {
		Versions int64 `json:"versions"`
	}{n}
	return a.say(res, "%s removed", plural(n, "version"))
}

func (a *app) discardCommand() *cobra.Command {
	var version uint64
	c := &cobra.Command{
		Use:   "discard NAME --version N",
		Short: "Remove one version that is proved to be unopenable",
		Long: `Remove one version of a secret that is proved to be unopenable, so that damage
cannot hold a master key for ever. A version that opens, or would if its master
key were enabled, is refused.`,
		Example: `  reseal discard damaged --version 1`,
		Args:    takes("NAME"),
	}
	c.Flags().Uint64Var(&version, "version", 0, "the version's `number`")
	c.MarkFlagRequired("version")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if err := numbered(version); err != nil {
			return err
		}
		return a.unsealed(ctx, func(s *store.Store) error {
			if err := s.Discard(ctx, args[0], version); err != nil {
				return err
			}
			res := struct {
				Name    string `json:"name"`
				Version uint64 `json:"version"`
			}{args[0], version}
			return a.say(res, "%s version %d is discarded", args[0], version)
		})
	})
	return c
}

func (a *app) sweepCommand() *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use:   "sweep",
		Short: "Purge secrets and destroy keys whose dates have passed",
		Long: `Purge the deleted secrets and destroy the master keys whose dates have passed; a
key that something needs after all is left alone and named. Nothing else ever
acts on a date.`,
		Example: `  reseal sweep --dry-run`,
		Args:    takes(),
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing and report the same")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		return a.unsealed(ctx, func(s *store.Store) error { return a.sweep(ctx, s, dryRun) })
	})
	return c
}

type jsonSweep struct {
	DryRun        bool       `json:"dry_run"`
	Purged        []string   `json:"purged"`
	DestroyedKeys []string   `json:"destroyed_keys"`
	Orphans       int64      `json:"orphans"`
	Skipped       []jsonSkip `json:"skipped"`
	Residue       bool       `json:"residue"`
	Backups       []string   `json:"backups"` // known ones that hold copies of the destroyed keys
}

type jsonSkip struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (a *app) sweep(ctx context.Context, s *store.Store, dryRun bool) error {
	r, err := s.Sweep(ctx, dryRun)
	if err != nil {
		return err
	}
	out := jsonSweep{r.DryRun, list(r.Purged), list(r.DestroyedKeys), r.Orphans, []jsonSkip{}, r.Residue, []string{}}
	for _, k := range r.Skipped {
		out.Skipped = append(out.Skipped, jsonSkip(k))
	}
	for _, key := range r.DestroyedKeys {
		paths, err := backupsNeeding(ctx, s, key, 0)
		if err != nil {
			return err
		}
		out.Backups = append(out.Backups, paths...)
	}
	slices.Sort(out.Backups)
	out.Backups = slices.Compact(out.Backups)
	a.warnBackups(out.Backups)
	a.warnResidue(r.Residue)
	return a.emit(out, func(w io.Writer) { sweepText(w, &out) })
}

func sweepText(w io.Writer, r *jsonSweep) {
	purge, destroy := "purged", "destroyed"
	if r.DryRun {
		purge, destroy = "would be purged", "would be destroyed"
	}
	for _, name := range r.Purged {
		fmt.Fprintf(w, "secret %s %s\n", name, purge)
	}
	for _, name := range r.DestroyedKeys {
		fmt.Fprintf(w, "key %s %s\n", name, destroy)
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "%s %s left alone: %s\n", s.Kind, s.Name, s.Reason)
	}
	if r.Orphans > 0 {
		fmt.Fprintf(w, "%s without a secret\n", plural(r.Orphans, "data key"))
	}
	if len(r.Purged)+len(r.DestroyedKeys)+len(r.Skipped) == 0 {
		fmt.Fprintln(w, "nothing is past its date")
	}
}
