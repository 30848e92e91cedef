package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) auditCommand() *cobra.Command {
	return a.noun("audit", "The trail of changes", "  reseal audit list",
		a.auditList(), a.auditVerify(), a.auditExport())
}

func (a *app) auditList() *cobra.Command {
	var f store.EventFilter
	var since days
	c := &cobra.Command{
		Use:   "list",
		Short: "List audit events, oldest first",
		Long: `List audit events as recorded, oldest first: who changed what, with the keys from
and to. reseal audit verify checks that none was altered, removed or added.`,
		Example: `  reseal audit list --secret app/db/password --limit 20`,
		Args:    takes(),
	}
	c.Flags().StringVar(&f.Secret, "secret", "", "only events of this secret `name`")
	c.Flags().StringVar(&f.Key, "key", "", "only events of this master `key`")
	c.Flags().IntVar(&f.Limit, "limit", 0, "only the newest `n` (default all)")
	c.Flags().Var(&since, "since", "only events of the last so many days or hours, like 7d")
	c.RunE = a.runs(func(ctx context.Context, _ []string) error {
		if f.Limit < 0 {
			return usagef("", "--limit is %d: 1 or more, or 0 for all", f.Limit)
		}
		if since > 0 {
			f.Since = a.now().Add(-time.Duration(since))
		}
		return a.readable(ctx, func(s *store.Store) error { return a.listEvents(ctx, s, f) })
	})
	return c
}

// jsonEvent is an audit event, with whether the chain was checked.
type jsonEvent struct {
	store.Event
	Authenticated bool `json:"authenticated"`
}

func (a *app) listEvents(ctx context.Context, s *store.Store, f store.EventFilter) error {
	events, err := s.Events(ctx, f)
	if err != nil {
		return err
	}
	if !s.Sealed() {
		if _, err := s.VerifyAudit(ctx); err != nil {
			return err
		}
	}
	out := []jsonEvent{}
	var rows [][]string
	for _, e := range events {
		out = append(out, jsonEvent{e, !s.Sealed()})
		rows = append(rows, []string{fmt.Sprint(e.Seq), date(e.Time), e.Actor, e.Action, dash(e.Secret), dash(e.Key), string(e.Detail)})
	}
	a.noteRecorded(s)
	return a.emit(out, func(w io.Writer) {
		if len(rows) > 0 {
			table(w, "EVENT TIME ACTOR ACTION SECRET KEY DETAIL", rows)
		}
	})
}

func (a *app) auditVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that no event was altered, removed or added",
		Long: `Check the whole chain of audit events against the store's integrity key: an event
that was altered, removed, added or moved is named, with exit code 3. That the
store as a whole was not replaced by an older copy, only an anchor kept
elsewhere can tell: see reseal anchor.`,
		Example: `  reseal audit verify`,
		Args:    takes(),
		RunE:    a.runs(a.verifyAudit),
	}
}

func (a *app) verifyAudit(ctx context.Context, _ []string) error {
	type result struct {
		OK     bool   `json:"ok"`
		Events int64  `json:"events"`
		Error  string `json:"error,omitempty"`
	}
	return a.unsealed(ctx, func(s *store.Store) error {
		n, err := s.VerifyAudit(ctx)
		if errors.Is(err, store.ErrDamaged) {
			if a.json {
				a.emit(result{Events: n, Error: err.Error()}, nil)
			}
			return foundf("audit trail: %v", err)
		}
		if err != nil {
			return err
		}
		return a.say(result{OK: true, Events: n}, "%s, unbroken", plural(n, "event"))
	})
}

func (a *app) auditExport() *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Print all events as JSON Lines",
		Long:    `Print all audit events as recorded, oldest first, one JSON object a line.`,
		Example: `  reseal audit export > events.jsonl`,
		Args:    takes(),
		RunE: a.runs(func(ctx context.Context, _ []string) error {
			return a.readable(ctx, func(s *store.Store) error {
				_, err := s.ExportEvents(ctx, a.stdout)
				return err
			})
		}),
	}
}
