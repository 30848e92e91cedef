package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/store"
)

// Rotator changes a secret's value where it is used: the password in the
// database, the token at the service. Value calls its methods in order. A run
// that was interrupted begins again at the step it was in, so that Set, Test
// and Finish must be safe to repeat with the same token.
type Rotator interface {
	// Create returns a new value. It changes nothing outside: if the run is
	// interrupted before the value is stored, it is called again. Value clears
	// what it returns.
	Create(ctx context.Context, step Step) ([]byte, error)

	// Set makes the pending value valid where the secret is used. The current
	// one should stay valid until Finish.
	Set(ctx context.Context, step Step) error

	// Test uses the pending value and fails if it does not work.
	Test(ctx context.Context, step Step) error

	// Finish is called when the new value is current, to retire the old one.
	Finish(ctx context.Context, step Step) error
}

// StepName is one of the four steps.
type StepName string

// The steps of a value rotation, in order.
const (
	StepCreate StepName = "create"
	StepSet    StepName = "set"
	StepTest   StepName = "test"
	StepFinish StepName = "finish"
)

// Step is what a Rotator is told. The values are valid during the call.
type Step struct {
	Name    StepName
	Secret  string
	Token   string      // of this rotation; the pending version's version token
	Current store.Value // what readers get; in Finish it is the new value
	Pending store.Value // the new value; none in Create
}

// ValueReport is what Value did.
type ValueReport struct {
	Name    string
	Token   string
	Version uint64   // the new current version
	Old     uint64   // the one before it, labelled previous
	Resumed StepName // the step at which an interrupted rotation went on, or ""
}

// tokenPrefix marks the versions that a value rotation made.
const tokenPrefix = "rotate-"

// StepError is returned by Value when a Rotator's step fails. The pending
// version stays: calling Value again goes on with it, and taking the label
// pending away gives it up.
type StepError struct {
	Secret string
	Step   StepName
	Err    error // the Rotator's
}

func (e *StepError) Error() string {
	return fmt.Sprintf("rotate value of secret %q: step %s: %v", e.Secret, e.Step, e.Err)
}

// Unwrap returns the Rotator's error.
func (e *StepError) Unwrap() error { return e.Err }

// Value gives a secret a new value in four steps: create and store it as the
// version labelled pending; set it where it is used; test it; make it current,
// which labels the old one previous, and finish. Readers get the old value
// until the new one has passed its test.
//
// Interrupted at any step, the next call goes on there. A version that somebody
// else labelled pending is refused with store.ErrExists.
func Value(ctx context.Context, s *store.Store, name string, r Rotator) (ValueReport, error) {
	v := &valueRun{s: s, r: r, step: Step{Secret: name}, report: ValueReport{Name: name}}
	defer v.clear()
	if err := v.load(ctx); err != nil {
		return v.report, fmt.Errorf("rotate value: %w", err)
	}
	return v.report, v.steps(ctx)
}

// Resume point: no pending version, begin with create; pending and not current,
// with set; pending and current, with finish.
type valueRun struct {
	s      *store.Store
	r      Rotator
	step   Step
	report ValueReport
}

func (v *valueRun) clear() {
	v.step.Current.Clear()
	v.step.Pending.Clear()
}

// load reads where the secret stands.
func (v *valueRun) load(ctx context.Context) error {
	name := v.step.Secret
	current, err := v.s.Get(ctx, name)
	if err != nil {
		return err
	}
	v.step.Current = current
	pending, err := v.s.Get(ctx, name, store.Label(store.LabelPending))
	if errors.Is(err, store.ErrNotFound) {
		v.report.Old = current.Version
		return nil
	}
	if err != nil {
		return err
	}
	v.step.Pending = pending
	return v.adopt(ctx)
}

// adopt goes on with the pending version, if a value rotation made it.
func (v *valueRun) adopt(ctx context.Context) error {
	info, err := v.s.Show(ctx, v.step.Secret)
	if err != nil {
		return err
	}
	for _, ver := range info.Versions {
		switch {
		case ver.Version != v.step.Pending.Version:
		case !strings.HasPrefix(ver.Token, tokenPrefix):
			return &store.Error{Op: "rotate value of", Secret: info.Name, Version: ver.Version, Labels: ver.Labels, Err: store.ErrExists,
				Detail: "somebody else's pending version", Remedy: "reseal label " + info.Name + " pending --remove"}
		default:
			v.step.Token = ver.Token
		}
	}
	v.report.Resumed = StepSet
	v.report.Old = v.step.Current.Version
	if v.step.Pending.Version == v.step.Current.Version {
		v.report.Resumed = StepFinish
		v.report.Old = previous(info)
	}
	return nil
}

func previous(info *store.SecretInfo) uint64 {
	for _, ver := range info.Versions {
		for _, l := range ver.Labels {
			if l == store.LabelPrevious {
				return ver.Version
			}
		}
	}
	return 0
}

// steps runs those that are still to do.
func (v *valueRun) steps(ctx context.Context) error {
	if v.report.Resumed == "" {
		if err := v.create(ctx); err != nil {
			return err
		}
	}
	if v.report.Resumed != StepFinish {
		if err := v.call(ctx, StepSet, v.r.Set); err != nil {
			return err
		}
		if err := v.call(ctx, StepTest, v.r.Test); err != nil {
			return err
		}
		if err := v.s.SetLabel(ctx, v.step.Secret, store.LabelCurrent, v.step.Pending.Version); err != nil {
			return fmt.Errorf("rotate value: %w", err)
		}
		v.step.Current.Clear()
		v.step.Current = v.step.Pending
	}
	v.report.Token, v.report.Version = v.step.Token, v.step.Pending.Version
	if err := v.call(ctx, StepFinish, v.r.Finish); err != nil {
		return err
	}
	// The label goes last: it is what says that Finish is still to be called.
	if err := v.s.RemoveLabel(ctx, v.step.Secret, store.LabelPending); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("rotate value: %w", err)
	}
	return nil
}

func (v *valueRun) call(ctx context.Context, name StepName, fn func(context.Context, Step) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v.step.Name = name
	if err := fn(ctx, v.step); err != nil {
		return &StepError{Secret: v.step.Secret, Step: name, Err: err}
	}
	return nil
}

// create stores the new value as the pending version.
func (v *valueRun) create(ctx context.Context) error {
	v.step.Token = tokenPrefix + crypto.NewID().String()
	var value []byte
	defer func() { clear(value) }()
	err := v.call(ctx, StepCreate, func(ctx context.Context, step Step) (err error) {
		value, err = v.r.Create(ctx, step)
		return err
	})
	if err != nil {
		return err
	}
	if err := v.store(ctx, value); err != nil {
		return fmt.Errorf("rotate value: %w", err)
	}
	return nil
}

// store puts the value as the pending version, unless another rotation of the
// secret was faster.
func (v *valueRun) store(ctx context.Context, value []byte) error {
	name := v.step.Secret
	return v.s.Update(ctx, func(tx *sql.Tx) error {
		other, err := v.s.GetTx(ctx, tx, name, store.Label(store.LabelPending))
		if err == nil {
			other.Clear()
			return &store.Error{Op: "rotate value of", Secret: name, Version: other.Version, Err: store.ErrExists,
				Detail: "another rotation has just begun", Remedy: "reseal show " + name}
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		res, err := v.s.PutTx(ctx, tx, name, value, &store.PutOptions{Label: store.LabelPending, Token: v.step.Token})
		if err != nil {
			return err
		}
		v.step.Pending, err = v.s.GetTx(ctx, tx, name, store.Version(res.Version))
		return err
	})
}
