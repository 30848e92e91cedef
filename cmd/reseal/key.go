package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) keyCommand() *cobra.Command {
	return a.noun("key", "Master keys", "  reseal key list",
		a.keyCreate(), a.keyList(), a.keyShow(), a.keyRotate(), a.keyDisable(), a.keyEnable(),
		a.keyDelete(), a.keyCancelDeletion(), a.keyDestroyVersion(), a.keySetDefault())
}

// jsonKey is a master key in the JSON of key list, and with its versions in
// that of key show.
type jsonKey struct {
	Name           string         `json:"name"`
	State          store.KeyState `json:"state"`
	PrimaryVersion uint64         `json:"primary_version"`
	Default        bool           `json:"default"`
	Dependents     *jsonHolders   `json:"dependents"`
	CreatedAt      stamp          `json:"created_at"`
	DeletionAt     stamp          `json:"deletion_at"`
	Authenticated  bool           `json:"authenticated"`
}

type jsonKeyShow struct {
	jsonKey
	Versions []jsonKeyVersion `json:"versions"`
}

type jsonKeyVersion struct {
	Version   uint64         `json:"version"`
	State     store.KeyState `json:"state"`
	DataKeys  int64          `json:"data_keys"`
	CreatedAt stamp          `json:"created_at"`
}

// jsonHolders is what still needs a master key.
type jsonHolders struct {
	Secrets        int64    `json:"secrets"`
	Versions       int64    `json:"versions"`
	DeletedSecrets int64    `json:"deleted_secrets"`
	Labelled       int64    `json:"labelled"`
	Pending        int64    `json:"pending"`
	Unlabelled     int64    `json:"unlabelled"`
	OfDeleted      int64    `json:"of_deleted"`
	Configured     int64    `json:"configured"`
	Default        bool     `json:"default"`
	Jobs           []string `json:"jobs"`
	Names          []string `json:"names"`
	Backups        []string `json:"backups"`
}

func holders(d store.Dependents) *jsonHolders {
	return &jsonHolders{
		Secrets:        d.Secrets,
		Versions:       d.Versions,
		DeletedSecrets: d.DeletedSecrets,
		Labelled:       d.Labelled,
		Pending:        d.Pending,
		Unlabelled:     d.Unlabelled,
		OfDeleted:      d.OfDeleted,
		Configured:     d.Configured,
		Default:        d.Default,
		Jobs:           list(d.Jobs),
		Names:          list(d.Names),
		Backups:        list(d.Backups),
	}
}

func keyJSON(k *store.KeyInfo) jsonKey {
	return jsonKey{
		Name:           k.Name,
		State:          k.State,
		PrimaryVersion: k.PrimaryVersion,
		Default:        k.Default,
		Dependents:     holders(k.Dependents),
		CreatedAt:      stamp{k.CreatedAt},
		DeletionAt:     stamp{k.DeletionAt},
		Authenticated:  k.Authenticated,
	}
}

// keyDone is the JSON of a change to a master key.
type keyDone struct {
	Name       string         `json:"name"`
	State      store.KeyState `json:"state,omitempty"`
	Version    uint64         `json:"version,omitempty"`
	DeletionAt *stamp         `json:"deletion_at,omitempty"`
	Dependents *jsonHolders   `json:"dependents,omitempty"`
}

// keyVerb is a command that changes the master key KEY.
func (a *app) keyVerb(use, short, long, example string, do func(context.Context, *store.Store, string) error) *cobra.Command {
	return &cobra.Command{
		Use:     use + " KEY",
		Short:   short,
		Long:    long,
		Example: "  reseal key " + example,
		Args:    takes("KEY"),
		RunE: a.runs(func(ctx context.Context, args []string) error {
			return a.unsealed(ctx, func(s *store.Store) error { return do(ctx, s, args[0]) })
		}),
	}
}

func (a *app) keyCreate() *cobra.Command {
	return a.keyVerb("create", "Create a master key", `Create an enabled master key. The names of keys are never used again, not even
after destruction.`, "create mk-3",
		func(ctx context.Context, s *store.Store, name string) error {
			if err := s.CreateKey(ctx, name); err != nil {
				return err
			}
			return a.say(keyDone{Name: name, State: store.Enabled, Version: 1}, "key %s created", name)
		})
}

func (a *app) keyRotate() *cobra.Command {
	return a.keyVerb("rotate", "Give a master key a new primary version", `Give a master key a new version, which wraps whatever is stored from now on. What
older versions wrap stays readable and is then "behind"; reseal rotate run --key
KEY moves it.`, "rotate mk-1",
		func(ctx context.Context, s *store.Store, name string) error {
			v, err := s.RotateKey(ctx, name)
			if err != nil {
				return err
			}
			err = a.say(keyDone{Name: name, Version: v}, "key %s has the new primary version %d", name, v)
			a.hint("next: %s", a.completed("reseal rotate run --key "+name))
			return err
		})
}

func (a *app) keyDisable() *cobra.Command {
	return a.keyVerb("disable", "Disable a master key", `Disable a master key: what it wraps cannot be read until the key is enabled or
the secret is moved to another key. Prints what needs the key.`, "disable mk-1",
		func(ctx context.Context, s *store.Store, name string) error {
			d, err := s.DisableKey(ctx, name)
			if err != nil {
				return err
			}
			err = a.say(keyDone{Name: name, State: store.Disabled, Dependents: holders(d)}, "key %s is disabled: %s", name, d)
			if d.Any() {
				a.hint("to undo: %s", a.completed("reseal key enable "+name))
			}
			return err
		})
}

func (a *app) keyEnable() *cobra.Command {
	return a.keyVerb("enable", "Enable a disabled master key", "Enable a disabled master key.", "enable mk-1",
		func(ctx context.Context, s *store.Store, name string) error {
			if err := s.EnableKey(ctx, name); err != nil {
				return err
			}
			return a.say(keyDone{Name: name, State: store.Enabled}, "key %s is enabled", name)
		})
}

func (a *app) keyDelete() *cobra.Command {
	var d days
	c := a.keyVerb("delete", "Schedule the destruction of a master key", `Allow a master key to be destroyed after 7 to 30 days. Refused while anything
needs the key, secrets that are deleted but can be restored included. Nothing
happens at the date by itself: reseal sweep destroys what is past its date, and
checks again. Known backups that need the key are named: they hold a copy of it,
which stays.`, "delete unused",
		func(ctx context.Context, s *store.Store, name string) error {
			at, err := s.ScheduleKeyDeletion(ctx, name, time.Duration(d))
			if err != nil {
				return err
			}
			backups, err := backupsNeeding(ctx, s, name, 0)
			if err != nil {
				return err
			}
			a.warnBackups(backups)
			res := keyRetired{keyDone: keyDone{Name: name, State: store.PendingDeletion, DeletionAt: &stamp{at}}, Backups: backups}
			err = a.say(res, "key %s may be destroyed by reseal sweep from %s", name, date(at))
			a.hint("to undo: %s", a.completed("reseal key cancel-deletion "+name))
			return err
		})
	c.Flags().Var(&d, "window", "how long it can be cancelled: 7d to 30d (default 30d)")
	return c
}

func (a *app) keyCancelDeletion() *cobra.Command {
	return a.keyVerb("cancel-deletion", "Cancel a scheduled destruction", `Take a scheduled destruction back, also past its date as long as no sweep has
run. The key is then disabled.`, "cancel-deletion going",
		func(ctx context.Context, s *store.Store, name string) error {
			if err := s.CancelKeyDeletion(ctx, name); err != nil {
				return err
			}
			err := a.say(keyDone{Name: name, State: store.Disabled}, "key %s is disabled and no longer pending deletion", name)
			a.hint("next: %s", a.completed("reseal key enable "+name))
			return err
		})
}

func (a *app) keySetDefault() *cobra.Command {
	return a.keyVerb("set-default", "Name the master key of new secrets", "Name the master key under which new secrets are created.", "set-default mk-1",
		func(ctx context.Context, s *store.Store, name string) error {
			if err := s.SetDefaultKey(ctx, name); err != nil {
				return err
			}
			return a.say(keyDone{Name: name}, "new secrets are created under key %s", name)
		})
}

func (a *app) keyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List master keys with what needs each",
		Long: `List master keys with their state, primary version, and what needs each of them,
counted from the wraps themselves. Works without unsealing; what is shown is then
as recorded.`,
		Example: `  reseal key list`,
		Args:    takes(),
		RunE:    a.runs(a.listKeys),
	}
}

func (a *app) listKeys(ctx context.Context, _ []string) error {
	return a.readable(ctx, func(s *store.Store) error {
		keys, err := s.Keys(ctx)
		if err != nil {
			return err
		}
		out := []jsonKey{}
		var rows [][]string
		for i := range keys {
			k := &keys[i]
			out = append(out, keyJSON(k))
			d := k.Dependents
			rows = append(rows, []string{k.Name, string(k.State), fmt.Sprint(k.PrimaryVersion), fmt.Sprint(d.Secrets), fmt.Sprint(d.Versions), fmt.Sprint(d.DeletedSecrets), keyNote(k)})
		}
		a.noteRecorded(s)
		return a.emit(out, func(w io.Writer) { table(w, "NAME STATE PRIMARY SECRETS VERSIONS DELETED NOTE", rows) })
	})
}

func keyNote(k *store.KeyInfo) string {
	var notes []string
	if k.Default {
		notes = append(notes, "default")
	}
	if !k.DeletionAt.IsZero() {
		notes = append(notes, "may be destroyed from "+date(k.DeletionAt))
	}
	return strings.Join(notes, ", ")
}

func (a *app) keyShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show KEY",
		Short: "Show a master key, its versions and its dependents by kind",
		Long: `Show a master key's state, what needs it by kind, and its versions with the number
of data keys that each wraps. Works without unsealing; what is shown is then as
recorded.`,
		Example: `  reseal key show default`,
		Args:    takes("KEY"),
		RunE:    a.runs(a.showKey),
	}
}

func (a *app) showKey(ctx context.Context, args []string) error {
	return a.readable(ctx, func(s *store.Store) error {
		k, err := s.Key(ctx, args[0])
		if err != nil {
			return err
		}
		out := jsonKeyShow{jsonKey: keyJSON(&k), Versions: []jsonKeyVersion{}}
		for _, v := range k.Versions {
			out.Versions = append(out.Versions, jsonKeyVersion{v.Version, v.State, v.DataKeys, stamp{v.CreatedAt}})
		}
		return a.emit(out, func(w io.Writer) { keyText(w, &k) })
	})
}

func keyText(w io.Writer, k *store.KeyInfo) {
	d := k.Dependents
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-16s%s\n", label, text)
		}
	}
	line("name", k.Name)
	line("state", string(k.State))
	if !k.DeletionAt.IsZero() {
		line("deletion", "may be destroyed from "+date(k.DeletionAt))
	}
	line("created", date(k.CreatedAt))
	line("dependents", d.String())
	if d.Versions > 0 {
		line("  labelled", fmt.Sprint(d.Labelled))
		line("  pending", fmt.Sprint(d.Pending))
		line("  unlabelled", fmt.Sprint(d.Unlabelled))
		line("  of deleted", fmt.Sprint(d.OfDeleted))
	}
	line("known backups", strings.Join(d.Backups, ", "))
	if k.Authenticated {
		line("checked", "yes")
	} else {
		line("checked", "no, as recorded: read without the root key")
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, v := range k.Versions {
		mark := ""
		if v.Version == k.PrimaryVersion {
			mark = "primary"
		}
		rows = append(rows, []string{fmt.Sprint(v.Version), string(v.State), fmt.Sprint(v.DataKeys), date(v.CreatedAt), mark})
	}
	table(w, "VERSION STATE DATA-KEYS CREATED NOTE", rows)
}
