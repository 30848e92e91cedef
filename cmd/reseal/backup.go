package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

type jsonBackup struct {
	Path      string          `json:"path"`
	CreatedAt stamp           `json:"created_at"`
	Bytes     int64           `json:"bytes"`
	Keys      []jsonBackupKey `json:"keys"`
}

type jsonBackupKey struct {
	Key     string `json:"key"`
	Version uint64 `json:"version"`
}

func (a *app) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the store, with a list of the keys that the copy needs",
		Long: `Copy the store as it is now to a new file that only you can read, compare the copy
with the store, and remember which master key versions it needs. Readers and
writers go on meanwhile. The copy is a store like this one and opens with the
unseal slots of today, whatever becomes of slots and keys here.`,
		Example: `  reseal backup copy.db`,
		Args:    takes("FILE"),
		RunE: a.runs(func(ctx context.Context, args []string) error {
			if err := freePath(args[0]); err != nil {
				return err
			}
			return a.unsealed(ctx, func(s *store.Store) error { return a.backup(ctx, s, args[0]) })
		}),
	}
}

func (a *app) backup(ctx context.Context, s *store.Store, path string) error {
	b, err := s.Backup(ctx, path)
	if err != nil {
		return err
	}
	out := jsonBackup{Path: b.Path, CreatedAt: stamp{b.CreatedAt}, Bytes: b.Bytes, Keys: []jsonBackupKey{}}
	var names []string
	for _, k := range b.Keys {
		out.Keys = append(out.Keys, jsonBackupKey(k))
		names = append(names, fmt.Sprintf("%s version %d", k.Key, k.Version))
	}
	return a.emit(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s, %s bytes, needs %s\n", b.Path, thousands(b.Bytes), dash(strings.Join(names, ", ")))
	})
}

type jsonAnchor struct {
	StoreID    string `json:"store_id"`
	Generation int64  `json:"generation"`
	Digest     string `json:"digest"`
	AuditCount int64  `json:"audit_count"`
	AuditHead  string `json:"audit_head"`
}

func (a *app) anchorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "anchor",
		Short: "Print how far the store has come, to be kept elsewhere",
		Long: `Print the store's id, the number of changes it has had, a digest of its
authenticated state, and the end of its audit trail. Nothing inside a file can
show that the whole file was replaced by an older copy of itself. An anchor that
was kept elsewhere can: with --anchor FILE every command refuses a store that has
not come to where the anchor was taken, or whose audit trail does not lead
through it. FILE is what reseal anchor --json printed.`,
		Example: `  reseal anchor --json > reseal.anchor
  reseal list --anchor reseal.anchor`,
		Args: takes(),
		RunE: a.runs(func(ctx context.Context, _ []string) error {
			return a.unsealed(ctx, func(s *store.Store) error {
				v, err := s.Anchor(ctx)
				if err != nil {
					return err
				}
				return a.say(jsonAnchor(v), "store %s generation %d digest %s", v.StoreID, v.Generation, v.Digest)
			})
		}),
	}
}

// anchor reads the anchor that --anchor names, if one is given.
func (a *app) anchor() (*store.Anchor, error) {
	if a.anchorFile == "" {
		return nil, nil
	}
	text, err := readFile(a.anchorFile)
	if err != nil {
		return nil, err
	}
	var v jsonAnchor
	if err := json.Unmarshal(text, &v); err != nil || v.StoreID == "" || v.AuditHead == "" {
		return nil, usagef("make one: reseal anchor --json", "%q is not an anchor", a.anchorFile)
	}
	anchor := store.Anchor(v)
	return &anchor, nil
}
