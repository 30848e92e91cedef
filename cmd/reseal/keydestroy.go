package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

// keyRetired is the JSON of a master key, or a version of one, that is gone or
// will be.
type keyRetired struct {
	keyDone
	Backups []string       `json:"backups"` // known ones that need it, and so hold a copy
	Residue *store.Residue `json:"residue,omitempty"`
}

func (a *app) keyDestroyVersion() *cobra.Command {
	var yes string
	c := &cobra.Command{
		Use:   "destroy-version KEY VERSION",
		Short: "Destroy an old version of a master key",
		Long: `Destroy the material of a version of a master key, at once and for good. The
primary version, and a version that still wraps a data key, are refused.

Known backups that need it, which reseal backup made, are named first: each holds
a copy of the key version under the root key of its time, and keeps it. If there
are any and there is a terminal, the key's name has to be typed, unless --yes
gives it. Afterwards the store's files are searched for wraps and values that
were retired: see reseal doctor --scrub.`,
		Example: `  reseal key destroy-version rotated 1`,
		Args:    takes("KEY", "VERSION"),
	}
	c.Flags().StringVar(&yes, "yes", "", "confirm with the key's `name`, instead of on the terminal")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		v, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil || v == 0 {
			return usagef("reseal key show "+args[0], "%q is not the number of a key version", args[1])
		}
		return a.unsealed(ctx, func(s *store.Store) error { return a.destroyVersion(ctx, s, args[0], v, yes) })
	})
	return c
}

func (a *app) destroyVersion(ctx context.Context, s *store.Store, name string, v uint64, yes string) error {
	backups, err := backupsNeeding(ctx, s, name, v)
	if err != nil {
		return err
	}
	a.warnBackups(backups)
	if err := confirmDestruction(ctx, name, v, backups, yes); err != nil {
		return err
	}
	if err := s.DestroyKeyVersion(ctx, name, v); err != nil {
		return err
	}
	residue, err := s.ScanResidue(ctx)
	if err != nil {
		return err
	}
	if len(residue.Named) > 0 {
		a.warn("not gone from the store's files yet: %s", strings.Join(residue.Named, ", "))
	}
	if residue.Found > 0 {
		a.hint("run: %s", a.completed("reseal doctor --scrub"))
	}
	res := keyRetired{keyDone{Name: name, Version: v, State: store.Destroyed}, backups, &residue}
	return a.say(res, "key %s version %d is destroyed\nresidue: %s", name, v, residue)
}

// confirmDestruction has the key's name typed if known backups keep a copy of
// what is destroyed. Without a terminal their list has to do.
func confirmDestruction(ctx context.Context, name string, v uint64, backups []string, yes string) error {
	if yes == "" && len(backups) > 0 {
		t, err := openTerminal()
		if err != nil {
			return nil
		}
		defer t.close()
		question := fmt.Sprintf("Known backups keep a copy of key %s version %d:\n  %s\nDestroy it in this store for good? Type the key's name: ",
			name, v, strings.Join(backups, "\n  "))
		if yes, err = t.line(ctx, question); err != nil {
			return err
		}
	}
	if yes != name && (yes != "" || len(backups) > 0) {
		return usagef("", "the name given to confirm is not %q: nothing was destroyed", name)
	}
	return nil
}

// backupsNeeding returns the paths of the known backups that need a version of a
// master key, or with 0 any version, and so hold a copy of it.
func backupsNeeding(ctx context.Context, s *store.Store, key string, version uint64) ([]string, error) {
	all, err := s.Backups(ctx)
	paths := []string{}
	for _, b := range all {
		for _, k := range b.Keys {
			if k.Key == key && (version == 0 || k.Version == version) {
				paths = append(paths, b.Path)
				break
			}
		}
	}
	return paths, err
}

func (a *app) warnBackups(paths []string) {
	if len(paths) > 0 {
		a.warn("known backups hold a copy of it, and keep it: %s", strings.Join(paths, ", "))
	}
}
