package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) verifyCommand() *cobra.Command {
	var deep, accept bool
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check the whole store",
		Long: `Check the records of all secrets and master keys, that no row was removed or added
by other means, and the audit trail. With --deep also unwrap every data key and
open every value. Exit code 3 if something is wrong: each finding comes with the
command that helps.

Where rows are missing and there is no backup to go back to, --accept first
records those that are there as those that should be. It brings nothing back, and
leaves an audit event with both counts.`,
		Example: `  reseal verify --deep`,
		Args:    takes(),
	}
	c.Flags().BoolVar(&deep, "deep", false, "unwrap every data key and open every value")
	c.Flags().BoolVar(&accept, "accept", false, "record the rows that are there as those that should be")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		return a.unsealed(ctx, func(s *store.Store) error {
			if accept {
				if err := s.AcceptRows(ctx); err != nil {
					return err
				}
			}
			return a.verify(ctx, s, deep)
		})
	})
	return c
}

type jsonVerify struct {
	OK              bool          `json:"ok"`
	Deep            bool          `json:"deep"`
	VersionsChecked int64         `json:"versions_checked"`
	Drift           int64         `json:"drift"`
	Behind          int64         `json:"behind"`
	Failures        []jsonFailure `json:"failures"`
	FailureCount    int64         `json:"failure_count"`
}

func (a *app) verify(ctx context.Context, s *store.Store, deep bool) error {
	bar := a.progress()
	r, err := s.Verify(ctx, store.VerifyOptions{Deep: deep, Progress: func(done, total int64) { bar.show("checked", done, total, 0, 0) }})
	bar.end()
	if err != nil {
		return err
	}
	out := jsonVerify{r.OK, r.Deep, r.VersionsChecked, r.Drift, r.Behind, a.failures(r.Failures), r.FailureCount}
	if err := a.emit(out, func(w io.Writer) { a.verifyText(w, &out) }); err != nil || out.OK {
		return err
	}
	return foundf("the store is not as it should be: %s", plural(out.FailureCount, "finding"))
}

func (a *app) verifyText(w io.Writer, r *jsonVerify) {
	failureLines(w, r.Failures)
	what := "records, wraps' keys and audit trail"
	if r.Deep {
		what = "every data key unwrapped and every value opened"
	}
	verdict := a.paint(w, green, "ok")
	if !r.OK {
		verdict = a.paint(w, red, "not ok")
	}
	fmt.Fprintf(w, "%s: %s checked, %s; drift %s, behind %s\n", verdict, plural(r.VersionsChecked, "version"), what, thousands(r.Drift), thousands(r.Behind))
}

func (a *app) explainCommand() *cobra.Command {
	var version uint64
	c := &cobra.Command{
		Use:   "explain NAME",
		Short: "Show the chain from a secret to the root key, and where it breaks",
		Long: `Follow a secret's current version, or the one that --version names, along its chain:
secret, version, data key, master key version, its state, root key. Where it
breaks, the command that fixes it is named.`,
		Example: `  reseal explain app/db/password`,
		Args:    takes("NAME"),
	}
	c.Flags().Uint64Var(&version, "version", 0, "the version of this `number` (default the current one)")
	c.RunE = a.runs(func(ctx context.Context, args []string) error {
		if c.Flags().Changed("version") {
			if err := numbered(version); err != nil {
				return err
			}
		}
		return a.unsealed(ctx, func(s *store.Store) error { return a.explain(ctx, s, args[0], version) })
	})
	return c
}

type jsonExplain struct {
	Secret              string     `json:"secret"`
	Version             uint64     `json:"version"`
	Labels              []string   `json:"labels"`
	ConfiguredKey       string     `json:"configured_key"`
	EffectiveKey        string     `json:"effective_key"`
	EffectiveKeyVersion uint64     `json:"effective_key_version"`
	KeyState            string     `json:"key_state"`
	Steps               []jsonStep `json:"steps"`
	Broken              bool       `json:"broken"`
	Remedy              string     `json:"remedy,omitempty"`
}

type jsonStep struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func (a *app) explain(ctx context.Context, s *store.Store, name string, version uint64) error {
	e, err := s.Explain(ctx, name, version)
	if err != nil {
		return err
	}
	out := jsonExplain{
		Secret:              e.Secret,
		Version:             e.Version,
		Labels:              list(e.Labels),
		ConfiguredKey:       e.ConfiguredKey,
		EffectiveKey:        e.EffectiveKey,
		EffectiveKeyVersion: e.EffectiveKeyVersion,
		KeyState:            string(e.KeyState),
		Steps:               []jsonStep{},
		Broken:              e.Broken,
		Remedy:              a.completed(e.Remedy),
	}
	for _, st := range e.Steps {
		out.Steps = append(out.Steps, jsonStep(st))
	}
	return a.emit(out, func(w io.Writer) { a.explainText(w, &out) })
}

func (a *app) explainText(w io.Writer, e *jsonExplain) {
	fmt.Fprintf(w, "%s version %d (%s)\n", e.Secret, e.Version, dash(strings.Join(e.Labels, ", ")))
	for _, st := range e.Steps {
		mark := a.paint(w, green, "✓")
		if !st.OK {
			mark = a.paint(w, red, "✗")
		}
		fmt.Fprintf(w, "  %s %-20s %s\n", mark, st.What, st.Detail)
	}
	if e.Remedy != "" {
		fmt.Fprintf(w, "run: %s\n", e.Remedy)
	}
}
