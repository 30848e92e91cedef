package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) putCommand() *cobra.Command {
	var in valueInput
	var opts store.PutOptions
	var description string
	var tags []string
	c := &cobra.Command{
		Use:   "put NAME",
		Short: "Store a new version of a secret",
		Long: `Store a new version of a secret. The value is never an argument: it comes from
standard input, from --from-file, or from the terminal, where it is asked for
twice and not shown.

A file is kept byte for byte, and so is input of several lines. When a single
line on standard input has white space around it, as echo's newline, put asks
whether it belongs to the value; where there is no terminal, say so with --trim
or --keep.

The version becomes "current" and the one before it "previous". With --label L
only L moves to it. A --token makes a retry safe: the same token and value again
change nothing.`,
		Example: `  reseal random | reseal put app/db/password`,
		Args:    takesOneName,
	}
	f := c.Flags()
	f.StringVar(&opts.Key, "key", "", "the master `key` of a new secret (default the store's default key)")
	f.StringVar(&in.fromFile, "from-file", "", "read the value from this `file`, byte for byte")
	f.BoolVar(&in.trim, "trim", false, "remove white space around the value")
	f.BoolVar(&in.keep, "keep", false, "keep white space around the value")
	f.StringVar(&opts.Label, "label", "", "the staging `label` that moves to the version (default current)")
	f.StringVar(&opts.Token, "token", "", "a version `token`, 1 to 64 characters: makes a retry safe")
	f.StringVar(&description, "description", "", "`text` about the secret, not encrypted")
	f.StringArrayVar(&tags, "tag", nil, "add a tag `key=value`, not encrypted; may be repeated")
	f.IntVar(&a.maxValue, "max-value", store.DefaultMaxValue, "the longest value that is taken, in `bytes`, up to 1048576")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		var err error
		if opts.Tags, err = parseTags(tags, false); err != nil {
			return err
		}
		if c.Flags().Changed("description") {
			opts.Description = &description
		}
		if _, err := os.Stat(in.fromFile); in.fromFile != "" && errors.Is(err, fs.ErrNotExist) {
			return usagef("", "open %s: no such file or directory", in.fromFile)
		}
		if err := a.checkMaxValue(); err != nil {
			return err
		}
		return a.put(ctx, args[0], in, &opts)
	})
	return c
}

// takesOneName is takes("NAME"), for the command where the second argument may
// be a value: it says where values go, and does not repeat it.
func takesOneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("pipe the value in, use --from-file, or wait to be asked for it", "a value is never an argument: other users can see arguments, and the shell keeps them")
	}
	return takes("NAME")(cmd, args)
}

func parseTags(pairs []string, remove bool) (map[string]string, error) {
	tags := map[string]string{}
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" || v == "" && !remove {
			return nil, usagef("write it as key=value", "a tag has no key or no value")
		}
		tags[k] = v
	}
	return tags, nil
}

type jsonPut struct {
	Name       string `json:"name"`
	Version    uint64 `json:"version"`
	Key        string `json:"key"`
	KeyVersion uint64 `json:"key_version"`
	Created    bool   `json:"created"`
	Replayed   bool   `json:"replayed"`
	Redirected string `json:"redirected_from,omitempty"`
}

func (a *app) put(ctx context.Context, name string, in valueInput, opts *store.PutOptions) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	return a.unsealed(ctx, func(s *store.Store) error {
		value, err := a.readValue(ctx, in)
		if err != nil {
			return err
		}
		defer clear(value[:cap(value)])
		res, err := s.Put(ctx, name, value, opts)
		if err != nil {
			return err
		}
		if res.Redirected != "" {
			a.warn("a rotation away from key %q is open: the new secret is under its target %q", res.Redirected, res.Key)
		}
		note := ""
		if res.Replayed {
			note = ": the token made it before, nothing was changed"
		}
		return a.say(jsonPut(res), "%s version %d under key %s version %d%s", res.Name, res.Version, res.Key, res.KeyVersion, note)
	})
}

func (a *app) getCommand() *cobra.Command {
	var version uint64
	var label, out string
	c := &cobra.Command{
		Use:   "get NAME",
		Short: "Print a secret's value",
		Long: `Print the value of a secret's current version, or of the one that --version or
--label names, byte for byte. A newline is added on a terminal only. With -o the
value goes to a new file that only you can read.`,
		Example: `  reseal get app/db/password`,
		Args:    takes("NAME"),
	}
	c.Flags().Uint64Var(&version, "version", 0, "the version of this `number`")
	c.Flags().StringVar(&label, "label", "", "the version with this staging `label`")
	c.Flags().StringVarP(&out, "output", "o", "", "write the value to this new `file`")
	c.MarkFlagsMutuallyExclusive("version", "label")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		var sel []store.Selector
		switch {
		case label != "":
			sel = append(sel, store.Label(label))
		case version > 0:
			sel = append(sel, store.Version(version))
		case c.Flags().Changed("version") || c.Flags().Changed("label"):
			return usagef("reseal get --help", "versions are numbered from 1, and a label has a name")
		}
		if err := freePath(out); err != nil {
			return err
		}
		return a.get(ctx, args[0], out, sel)
	})
	return c
}

type jsonGet struct {
	Name        string  `json:"name"`
	Version     uint64  `json:"version"`
	CreatedAt   stamp   `json:"created_at"`
	Value       *string `json:"value,omitempty"`
	ValueBase64 []byte  `json:"value_base64,omitempty"`
	Output      string  `json:"output,omitempty"`
}

func (a *app) get(ctx context.Context, name, out string, sel []store.Selector) error {
	return a.unsealed(ctx, func(s *store.Store) error {
		v, err := s.Get(ctx, name, sel...)
		if err != nil {
			return err
		}
		defer v.Clear()
		res := jsonGet{Name: v.Name, Version: v.Version, CreatedAt: stamp{v.CreatedAt}, Output: out}
		switch {
		case out != "":
			if err := writeNewFile(out, v.Bytes()); err != nil {
				return err
			}
			return a.say(res, "%s version %d written to %s", v.Name, v.Version, out)
		case utf8.Valid(v.Bytes()):
			text := string(v.Bytes())
			res.Value = &text
		default:
			res.ValueBase64 = v.Bytes()
		}
		return a.emit(res, func(w io.Writer) {
			w.Write(v.Bytes())
			if isTerminal(w) {
				fmt.Fprintln(w)
			}
		})
	})
}

func (a *app) setKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "set-key NAME KEY",
		Short: "Move a secret to another master key: every version, or nothing",
		Long: `Rewrap the data key of every version of a secret, labelled or not, under another
master key's primary version, and make that the configured key: in one
transaction, each new wrap proved to open before it commits. Values are not
touched. With the key that the secret has, versions that are behind are moved to
its primary version. Deleted secrets can be moved too, and the old key may be
disabled or pending deletion.

This is for routine. If the old key may have leaked, whoever has a copy of the
store can read the copy for ever: store new values.`,
		Example: `  reseal set-key app/db/password mk-2`,
		Args:    takes("NAME", "KEY"),
		RunE:    a.runs(a.setKey),
	}
}

type jsonSetKey struct {
	Name       string `json:"name"`
	From       string `json:"from"`
	To         string `json:"to"`
	KeyVersion uint64 `json:"key_version"`
	Versions   int    `json:"versions"`
	Rewrapped  int    `json:"rewrapped"`
}

func (a *app) setKey(ctx context.Context, args []string) error {
	return a.unsealed(ctx, func(s *store.Store) error {
		res, err := s.SetKey(ctx, args[0], args[1])
		if err != nil {
			return err
		}
		return a.say(jsonSetKey(res), "%s: %s to key %s version %d, %d rewrapped", res.Name, plural(int64(res.Versions), "version"), res.To, res.KeyVersion, res.Rewrapped)
	})
}

func (a *app) labelCommand() *cobra.Command {
	var version uint64
	var remove bool
	c := &cobra.Command{
		Use:   "label NAME LABEL",
		Short: "Move or remove a staging label",
		Long: `Move a staging label to a version of a secret, or remove it. Moving "current"
puts "previous" where it was; "current" cannot be removed.`,
		Example: `  reseal label app/db/password stable --version 1`,
		Args:    takes("NAME", "LABEL"),
	}
	c.Flags().Uint64Var(&version, "version", 0, "move the label to the version of this `number`")
	c.Flags().BoolVar(&remove, "remove", false, "remove the label")
	c.MarkFlagsOneRequired("version", "remove")
	c.MarkFlagsMutuallyExclusive("version", "remove")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if !remove {
			if err := numbered(version); err != nil {
				return err
			}
		}
		return a.label(ctx, args[0], args[1], version, remove)
	})
	return c
}

func (a *app) label(ctx context.Context, name, label string, version uint64, remove bool) error {
	type result struct {
		Name    string `json:"name"`
		Label   string `json:"label"`
		Version uint64 `json:"version,omitempty"`
		Removed bool   `json:"removed"`
	}
	return a.unsealed(ctx, func(s *store.Store) error {
		if remove {
			if err := s.RemoveLabel(ctx, name, label); err != nil {
				return err
			}
			return a.say(result{Name: name, Label: label, Removed: true}, "%s: label %s removed", name, label)
		}
		if err := s.SetLabel(ctx, name, label, version); err != nil {
			return err
		}
		return a.say(result{Name: name, Label: label, Version: version}, "%s: label %s is on version %d", name, label, version)
	})
}

func (a *app) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "tag NAME KEY=VALUE...",
		Short:   "Add or remove tags",
		Long:    `Add tags to a secret; KEY= without a value removes one. Tags are not encrypted.`,
		Example: `  reseal tag app/db/password team=payments`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return takes("NAME", "KEY=VALUE")(cmd, args)
			}
			return nil
		},
		RunE: a.runs(a.tag),
	}
}

func (a *app) tag(ctx context.Context, args []string) error {
	name := args[0]
	changes, err := parseTags(args[1:], true)
	if err != nil {
		return err
	}
	return a.unsealed(ctx, func(s *store.Store) error {
		if err := s.SetTags(ctx, name, changes); err != nil {
			return err
		}
		info, err := s.Show(ctx, name)
		if err != nil {
			return err
		}
		res := struct {
			Name string            `json:"name"`
			Tags map[string]string `json:"tags"`
		}{name, info.Tags}
		return a.say(res, "%s: %s", name, tagLine(info.Tags))
	})
}
