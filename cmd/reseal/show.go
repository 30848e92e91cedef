package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

// jsonSecret is a secret in the JSON of show, and without its versions in that
// of list.
type jsonSecret struct {
	Name           string            `json:"name"`
	ConfiguredKey  string            `json:"configured_key"`
	EffectiveKeys  []string          `json:"effective_keys"`
	Drift          bool              `json:"drift"`
	Behind         bool              `json:"behind"`
	CurrentVersion uint64            `json:"current_version"`
	Description    string            `json:"description"`
	Tags           map[string]string `json:"tags"`
	CreatedAt      stamp             `json:"created_at"`
	UpdatedAt      stamp             `json:"updated_at"`
	DeletedAt      stamp             `json:"deleted_at"`
	PurgeAt        stamp             `json:"purge_at"`
	Authenticated  bool              `json:"authenticated"`
	Damage         string            `json:"damage,omitempty"`
}

type jsonShow struct {
	jsonSecret
	Versions []jsonVersion `json:"versions"`
}

type jsonVersion struct {
	Version             uint64   `json:"version"`
	Labels              []string `json:"labels"`
	EffectiveKey        string   `json:"effective_key"`
	EffectiveKeyVersion uint64   `json:"effective_key_version"`
	Behind              bool     `json:"behind"`
	CreatedAt           stamp    `json:"created_at"`
	Token               string   `json:"token,omitempty"`
}

func secretJSON(s *store.SecretInfo) jsonSecret {
	return jsonSecret{
		Name:           s.Name,
		ConfiguredKey:  s.ConfiguredKey,
		EffectiveKeys:  list(s.EffectiveKeys),
		Drift:          s.Drift,
		Behind:         s.Behind,
		CurrentVersion: s.CurrentVersion,
		Description:    s.Description,
		Tags:           s.Tags,
		CreatedAt:      stamp{s.CreatedAt},
		UpdatedAt:      stamp{s.UpdatedAt},
		DeletedAt:      stamp{s.DeletedAt},
		PurgeAt:        stamp{s.PurgeAt},
		Authenticated:  s.Authenticated,
		Damage:         s.Damage,
	}
}

func showJSON(s *store.SecretInfo) jsonShow {
	out := jsonShow{jsonSecret: secretJSON(s), Versions: []jsonVersion{}}
	for _, v := range s.Versions {
		out.Versions = append(out.Versions, jsonVersion{
			Version:             v.Version,
			Labels:              list(v.Labels),
			EffectiveKey:        v.EffectiveKey,
			EffectiveKeyVersion: v.EffectiveKeyVersion,
			Behind:              v.Behind,
			CreatedAt:           stamp{v.CreatedAt},
			Token:               v.Token,
		})
	}
	return out
}

func (a *app) listCommand() *cobra.Command {
	var o store.ListOptions
	var tag string
	c := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List secrets with the keys that really wrap them",
		Long: `List secrets: name, current version, configured key, and the key or keys that
really wrap its versions. A secret is marked "drift" if those differ, which only
damage or another program can cause, "behind" if a version is not under its key's
primary version, which is normal after reseal key rotate, and "damaged" if it does
not check; the exit code is then 8.

Works without unsealing; what is shown is then as recorded. With a key file or
passphrase given, every wrap is opened and checked.`,
		Example: `  reseal list app/`,
		Args:    takesUpTo("PREFIX"),
	}
	f := c.Flags()
	f.StringVar(&o.Key, "key", "", "only secrets that need this master `key`")
	f.StringVar(&tag, "tag", "", "only secrets with this tag, `key=value` or key")
	f.BoolVar(&o.Deleted, "deleted", false, "the deleted secrets, which can be restored, instead")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if len(args) == 1 {
			o.Prefix = args[0]
		}
		o.TagKey, o.TagValue, _ = strings.Cut(tag, "=")
		if o.TagKey == "" && c.Flags().Changed("tag") {
			return usagef("reseal list --help", "--tag is without a key: key=value, or key alone")
		}
		return a.list(ctx, o)
	})
	return c
}

func (a *app) list(ctx context.Context, o store.ListOptions) error {
	return a.readable(ctx, func(s *store.Store) error {
		secrets, missing := s.List(ctx, o)
		if missing != nil && !errors.Is(missing, store.ErrDamaged) {
			return missing
		}
		out := []jsonSecret{}
		damaged := 0
		for i := range secrets {
			out = append(out, secretJSON(&secrets[i]))
			if secrets[i].Damage != "" {
				damaged++
			}
		}
		a.noteRecorded(s)
		err := a.emit(out, func(w io.Writer) { a.listTable(w, secrets, o.Deleted) })
		if err == nil {
			err = missing
		}
		if err == nil && damaged > 0 {
			err = &cliError{exit: exitDamaged, code: "damaged", err: store.ErrDamaged, remedy: "reseal verify --deep",
				msg: fmt.Sprintf("%s damaged or altered", pluralIs(damaged, "secret"))}
		}
		return err
	})
}

func pluralIs(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return fmt.Sprintf("%d %ss are", n, noun)
}

func (a *app) listTable(w io.Writer, secrets []store.SecretInfo, deleted bool) {
	if len(secrets) == 0 {
		return
	}
	header := "NAME CURRENT CONFIGURED EFFECTIVE MARK"
	if deleted {
		header = "NAME CURRENT CONFIGURED EFFECTIVE PURGE-FROM MARK"
	}
	var rows [][]string
	for i := range secrets {
		s := &secrets[i]
		row := []string{s.Name, number(s.CurrentVersion), s.ConfiguredKey, dash(strings.Join(s.EffectiveKeys, ","))}
		if deleted {
			row = append(row, date(s.PurgeAt))
		}
		rows = append(rows, append(row, a.mark(w, s.Damage != "", s.Drift, s.Behind)))
	}
	table(w, header, rows)
}

func number(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func (a *app) mark(w io.Writer, damaged, drift, behind bool) string {
	switch {
	case damaged:
		return a.paint(w, red, "damaged")
	case drift:
		return a.paint(w, red, "drift")
	case behind:
		return a.paint(w, yellow, "behind")
	}
	return ""
}

func (a *app) noteRecorded(s *store.Store) {
	if s.Sealed() && !a.json {
		fmt.Fprintln(a.stderr, a.paint(a.stderr, dim, "as recorded: read without the root key, nothing was checked"))
	}
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show everything about a secret but its value",
		Long: `Show a secret's configured key and, for each version, its labels, the key and key
version that really wrap it, and its date. Works without unsealing; what is
shown is then as recorded. With a key file or passphrase given, every wrap is
opened and checked.`,
		Example: `  reseal show app/db/password`,
		Args:    takes("NAME"),
		RunE:    a.runs(a.show),
	}
}

func (a *app) show(ctx context.Context, args []string) error {
	return a.readable(ctx, func(s *store.Store) error {
		info, err := s.Show(ctx, args[0])
		if err != nil {
			return err
		}
		return a.emit(showJSON(info), func(w io.Writer) { a.showText(w, info) })
	})
}

func (a *app) showText(w io.Writer, s *store.SecretInfo) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-16s%s\n", label, text)
		}
	}
	line("name", s.Name)
	line("description", s.Description)
	line("tags", tagLine(s.Tags))
	line("configured key", s.ConfiguredKey)
	line("effective key", strings.Join(s.EffectiveKeys, ", ")+effectiveNote(s))
	if !s.DeletedAt.IsZero() {
		line("deleted", date(s.DeletedAt)+", can be restored; may be purged from "+date(s.PurgeAt))
	}
	line("created", date(s.CreatedAt))
	if !s.Authenticated {
		line("checked", "no, as recorded: read without the root key")
	} else {
		line("checked", "yes, every wrap was opened")
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, v := range s.Versions {
		rows = append(rows, []string{
			fmt.Sprint(v.Version),
			dash(strings.Join(v.Labels, ",")),
			dash(v.EffectiveKey),
			number(v.EffectiveKeyVersion),
			date(v.CreatedAt),
			a.mark(w, false, v.EffectiveKey != s.ConfiguredKey, v.Behind),
		})
	}
	table(w, "VERSION LABELS KEY KEY-VERSION CREATED MARK", rows)
}

func effectiveNote(s *store.SecretInfo) string {
	switch {
	case s.Drift:
		return " (drift: not the configured key; run: reseal set-key " + s.Name + " " + s.ConfiguredKey + ")"
	case s.Behind:
		return " (behind: not every version is under the primary version)"
	}
	return ""
}

func tagLine(tags map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		pairs = append(pairs, k+"="+tags[k])
	}
	return strings.Join(pairs, ", ")
}
