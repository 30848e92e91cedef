package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reseal/reseal/store"
)

// sec1 is the secret of the story: its versions in order, with the label that
// each ends up with.
var sec1 = []struct{ value, label string }{
	{"the first value", ""},
	{"the second value", "golden"},
	{"the third value", store.LabelPrevious},
	{"the fourth value", store.LabelCurrent},
	{"the fifth value", store.LabelPending},
}

// beat is one step of the story, with what has to come out of it.
type beat struct {
	step string
	what string
	do   func() error
}

// story is what goes wrong elsewhere: a secret is pointed at a new key, the old
// one is deleted, and old versions are gone. Here it ends well.
func (d *demo) story() error {
	fmt.Fprintln(d.w, "\nThe story")
	s, ctx := d.s, d.ctx
	for _, b := range []beat{
		{"1", "key mk-1, and sec-1 under it with five versions: current, previous, golden, pending, no label", d.makeSec1},
		{"2", "all five read", d.readAll},
		{"2a", "disable mk-1: get is refused and names key, state and remedy; after the remedy it reads", d.trap},
		{"3", "delete mk-1: refused, sec-1 needs it", d.deletionRefused},
		{"4", "delete sec-1, which can be restored, and mk-1 again: still refused", func() error {
			_, err := s.Delete(ctx, "sec-1", 0)
			return errors.Join(err, d.deletionRefused())
		}},
		{"5", "key mk-2", func() error { return s.CreateKey(ctx, "mk-2") }},
		{"6", "restore sec-1", func() error { _, err := s.Restore(ctx, "sec-1"); return err }},
		{"7", "set-key sec-1 mk-2: five versions rewrapped at once; configured and effective key are mk-2", d.moveSec1},
		{"8", "all five read", d.readAll},
		{"9", "delete mk-1: allowed now; past its date, sweep destroys it", d.destroyMK1},
		{"10", "all five read", d.readAll},
	} {
		if err := d.tell(b); err != nil {
			return err
		}
	}
	return nil
}

// tell runs a step and prints how it went.
func (d *demo) tell(b beat) error {
	err := b.do()
	d.Story = append(d.Story, jsonBeat{b.step, b.what, err == nil})
	mark := d.app.paint(d.w, green, "✓")
	if err != nil {
		mark = d.app.paint(d.w, red, "✗")
	}
	fmt.Fprintf(d.w, "  %s %-3s %s\n%s", mark, b.step, b.what, d.quote)
	d.quote = ""
	if err != nil {
		return &cliError{exit: exitFailed, code: "demo", msg: fmt.Sprintf("demo: step %s: %v", b.step, err), err: err}
	}
	return d.ctx.Err()
}

func (d *demo) makeSec1() error {
	if err := d.s.CreateKey(d.ctx, "mk-1"); err != nil {
		return err
	}
	for i, v := range sec1 {
		o := store.PutOptions{Key: "mk-1"}
		if v.label == store.LabelPending {
			o.Label = v.label
		}
		if _, err := d.s.Put(d.ctx, "sec-1", []byte(v.value), &o); err != nil {
			return err
		}
		if v.label == "golden" {
			if err := d.s.SetLabel(d.ctx, "sec-1", v.label, uint64(i+1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll reads each version by number, and by label where it has one.
func (d *demo) readAll() error {
	for i, v := range sec1 {
		selectors := []store.Selector{store.Version(uint64(i + 1))}
		if v.label != "" {
			selectors = append(selectors, store.Label(v.label))
		}
		for _, sel := range selectors {
			got, err := d.s.Get(d.ctx, "sec-1", sel)
			if err != nil {
				return err
			}
			if string(got.Bytes()) != v.value {
				return fmt.Errorf("version %d is another value than was stored", i+1)
			}
		}
	}
	return nil
}

// trap disables the key under the secret.
func (d *demo) trap() error {
	if _, err := d.s.DisableKey(d.ctx, "mk-1"); err != nil {
		return err
	}
	_, err := d.s.Get(d.ctx, "sec-1")
	var e *store.Error
	switch {
	case !errors.As(err, &e) || !errors.Is(err, store.ErrKeyUnavailable):
		return expect(err, store.ErrKeyUnavailable)
	case e.Secret != "sec-1" || e.ConfiguredKey != "mk-1" || e.EffectiveKey != "mk-1" || e.KeyState != store.Disabled || e.Remedy != "reseal key enable mk-1":
		return fmt.Errorf("the error does not say enough: %w", err)
	}
	d.quote = fmt.Sprintf("        %v\n        run: %s\n", err, e.Remedy)
	if err := d.s.EnableKey(d.ctx, "mk-1"); err != nil {
		return err
	}
	return d.readAll()
}

func (d *demo) deletionRefused() error {
	_, err := d.s.ScheduleKeyDeletion(d.ctx, "mk-1", 0)
	var e *store.Error
	if errors.As(err, &e) && e.Dependents != nil && !slices.Contains(e.Dependents.Names, "sec-1") {
		return errors.New("the refusal does not name sec-1")
	}
	return expect(err, store.ErrDependents)
}

func (d *demo) moveSec1() error {
	res, err := d.s.SetKey(d.ctx, "sec-1", "mk-2")
	if err != nil {
		return err
	}
	info, err := d.s.Show(d.ctx, "sec-1")
	if err != nil {
		return err
	}
	if res.Rewrapped != len(sec1) || info.ConfiguredKey != "mk-2" || info.Drift || !slices.Equal(info.EffectiveKeys, []string{"mk-2"}) {
		return fmt.Errorf("%d versions were rewrapped; configured key %s, effective keys %v", res.Rewrapped, info.ConfiguredKey, info.EffectiveKeys)
	}
	return nil
}

// destroyMK1 schedules the deletion, puts the clock past its date and sweeps.
func (d *demo) destroyMK1() error {
	at, err := d.s.ScheduleKeyDeletion(d.ctx, "mk-1", 0)
	if err != nil {
		return err
	}
	early, err := d.s.Sweep(d.ctx, false)
	if err != nil {
		return err
	}
	d.ahead = time.Until(at) + time.Hour
	rep, err := d.s.Sweep(d.ctx, false)
	d.ahead = 0
	if err != nil {
		return err
	}
	k, err := d.s.Key(d.ctx, "mk-1")
	if err != nil {
		return err
	}
	if len(early.DestroyedKeys) > 0 || !slices.Equal(rep.DestroyedKeys, []string{"mk-1"}) || k.State != store.Destroyed {
		return fmt.Errorf("before its date %v were destroyed, after it %v; mk-1 is %s", early.DestroyedKeys, rep.DestroyedKeys, k.State)
	}
	return nil
}
