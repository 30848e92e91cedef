package faultvfs_test

import (
	"errors"
	"io"
	"path/filepath"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// readings are the operations that tell something and change nothing.
func readings() []*operation {
	some := func(n int, err error) error {
		if err == nil && n == 0 {
			return errWrongValue
		}
		return err
	}
	return []*operation{
		{name: "explain", reads: true, run: func(ctx ctxT, s st, _ string) error {
			x, err := s.Explain(ctx, "app/db", 2)
			if err == nil && x.Broken {
				return errWrongValue
			}
			return err
		}},
		{name: "key show", reads: true, run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.Key(ctx, "mk-1")) }},
		{name: "unseal list", reads: true, run: func(ctx ctxT, s st, _ string) error {
			slots, err := s.Slots(ctx)
			return some(len(slots), err)
		}},
		{name: "audit list", reads: true, run: func(ctx ctxT, s st, _ string) error {
			events, err := s.Events(ctx, store.EventFilter{Secret: "app/db"})
			return some(len(events), err)
		}},
		{name: "audit export", reads: true, run: func(ctx ctxT, s st, _ string) error {
			n, err := s.ExportEvents(ctx, io.Discard)
			return some(int(n), err)
		}},
		{name: "audit verify", reads: true, run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.VerifyAudit(ctx)) }},
		{name: "anchor", reads: true, run: func(ctx ctxT, s st, folder string) error {
			a, err := s.Anchor(ctx)
			if err != nil {
				return err
			}
			o := options(later)
			o.Anchor = &a
			again, err := store.Open(ctx, filepath.Join(folder, fileName), resealtest.Credential(), o) // has read nothing yet
			if err != nil {
				return err
			}
			return errors.Join(again.CheckAnchor(ctx, a), again.Close())
		}},
		{name: "residue", reads: true, run: func(ctx ctxT, s st, _ string) error { return storetest.Err(s.ScanResidue(ctx)) }},
		{name: "rotate plan", reads: true, run: func(ctx ctxT, s st, _ string) error {
			return storetest.Err(rotate.Plan(ctx, s, rotate.Options{From: "mk-1", To: "mk-2"}, rotate.PlanOptions{}))
		}},
		{name: "rotate verify", reads: true, run: func(ctx ctxT, s st, _ string) error {
			v, err := rotate.Verify(ctx, s, rotate.Options{From: "mk-1", To: "mk-2"})
			if err == nil && v.OK {
				return errWrongValue
			}
			return err
		}},
		{name: "watch", reads: true, run: func(ctx ctxT, s st, _ string) error {
			h, err := s.Watch(ctx, "app/mail", nil)
			if err != nil {
				return err
			}
			v, err := h.Value(ctx)
			if err == nil && string(v.Bytes()) != "app/mail value 2" {
				err = errWrongValue
			}
			return errors.Join(err, h.Close())
		}},
		{name: "open sealed", bare: true, reads: true, run: func(ctx ctxT, _ st, folder string) error {
			s, err := store.OpenSealed(ctx, filepath.Join(folder, fileName), options(later))
			if err != nil {
				return err
			}
			list, err := s.List(ctx, store.ListOptions{})
			return errors.Join(some(len(list), err), s.Close())
		}},
	}
}
