package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// service is where a secret is used: it accepts some passwords. It fails or
// stops at the steps that it is told to.
type service struct {
	accepts []string
	calls   []string
	fail    rotate.StepName
	made    int
	tokens  map[string]bool
	during  func(rotate.StepName)
}

var errService = errors.New("service is down")

func (v *service) note(step rotate.Step) error {
	v.calls = append(v.calls, string(step.Name))
	if v.tokens == nil {
		v.tokens = map[string]bool{}
	}
	v.tokens[step.Token] = true
	if v.during != nil {
		v.during(step.Name)
	}
	if step.Name == v.fail {
		return errService
	}
	return nil
}

func (v *service) Create(_ context.Context, step rotate.Step) ([]byte, error) {
	v.made++
	return fmt.Appendf(nil, "password %d", v.made), v.note(step)
}

func (v *service) Set(_ context.Context, step rotate.Step) error {
	if err := v.note(step); err != nil {
		return err
	}
	v.accepts = append(v.accepts, string(step.Pending.Bytes()))
	return nil
}

func (v *service) Test(_ context.Context, step rotate.Step) error {
	if err := v.note(step); err != nil {
		return err
	}
	if !slices.Contains(v.accepts, string(step.Pending.Bytes())) {
		return errService
	}
	return nil
}

func (v *service) Finish(_ context.Context, step rotate.Step) error {
	if err := v.note(step); err != nil {
		return err
	}
	v.accepts = []string{string(step.Current.Bytes())}
	return nil
}

func newServiceStore(tb testing.TB) (*store.Store, *service) {
	tb.Helper()
	s := newStore(tb)
	if _, err := s.Put(tb.Context(), "db", []byte("password 0"), nil); err != nil {
		tb.Fatal(err)
	}
	return s, &service{accepts: []string{"password 0"}}
}

// wantRotated checks that the service accepts what readers get and nothing
// else, and the labels.
func wantRotated(tb testing.TB, s *store.Store, v *service, current, previous string) {
	tb.Helper()
	for label, want := range map[string]string{store.LabelCurrent: current, store.LabelPrevious: previous} {
		got, err := s.Get(tb.Context(), "db", store.Label(label))
		if err != nil || string(got.Bytes()) != want {
			tb.Errorf("%s = %q, %v; want %q", label, got.Bytes(), err, want)
		}
	}
	if _, err := s.Get(tb.Context(), "db", store.Label(store.LabelPending)); !errors.Is(err, store.ErrNotFound) {
		tb.Errorf("pending: %v", err)
	}
	if diff := cmp.Diff([]string{current}, v.accepts); diff != "" {
		tb.Errorf("what the service accepts (-want +got):\n%s", diff)
	}
}

func TestValueRotatesInFourSteps(t *testing.T) {
	s, v := newServiceStore(t)
	v.during = func(step rotate.StepName) {
		want := "password 0"
		if step == rotate.StepFinish {
			want = "password 1"
		}
		got, err := s.Get(t.Context(), "db")
		if err != nil || string(got.Bytes()) != want {
			t.Errorf("during %s readers get %q, %v", step, got.Bytes(), err)
		}
	}
	rep, err := rotate.Value(t.Context(), s, "db", v)
	if err != nil || rep.Version != 2 || rep.Old != 1 || rep.Resumed != "" {
		t.Fatalf("Value = %+v, %v", rep, err)
	}
	if diff := cmp.Diff([]string{"create", "set", "test", "finish"}, v.calls); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if len(v.tokens) != 1 || !v.tokens[rep.Token] {
		t.Errorf("tokens: %v, report: %+v", v.tokens, rep)
	}
	wantRotated(t, s, v, "password 1", "password 0")
	v.during = nil
	if _, err := rotate.Value(t.Context(), s, "db", v); err != nil {
		t.Fatal(err)
	}
	wantRotated(t, s, v, "password 2", "password 1")
}

func TestValueGoesOnWhereItWasInterrupted(t *testing.T) {
	for step, c := range map[rotate.StepName]struct {
		resumed rotate.StepName
		calls   []string
		current string // meanwhile
		final   string
	}{
		rotate.StepCreate: {"", []string{"create", "create", "set", "test", "finish"}, "password 0", "password 2"},
		rotate.StepSet:    {rotate.StepSet, []string{"create", "set", "set", "test", "finish"}, "password 0", "password 1"},
		rotate.StepTest:   {rotate.StepSet, []string{"create", "set", "test", "set", "test", "finish"}, "password 0", "password 1"},
		rotate.StepFinish: {rotate.StepFinish, []string{"create", "set", "test", "finish", "finish"}, "password 1", "password 1"},
	} {
		t.Run(string(step), func(t *testing.T) {
			s, v := newServiceStore(t)
			v.fail = step
			_, err := rotate.Value(t.Context(), s, "db", v)
			var e *rotate.StepError
			if !errors.Is(err, errService) || !errors.As(err, &e) || e.Step != step {
				t.Fatal(err)
			}
			got, err := s.Get(t.Context(), "db")
			if err != nil || string(got.Bytes()) != c.current || !slices.Contains(v.accepts, c.current) {
				t.Errorf("current = %q, %v; the service accepts %q", got.Bytes(), err, v.accepts)
			}
			v.fail = ""
			rep, err := rotate.Value(t.Context(), s, "db", v)
			if err != nil || rep.Resumed != c.resumed || rep.Old != 1 || rep.Version != 2 {
				t.Fatalf("Value = %+v, %v", rep, err)
			}
			if diff := cmp.Diff(c.calls, v.calls); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			wantRotated(t, s, v, c.final, "password 0")
		})
	}
}

func TestValueGivenUpBeginsAnew(t *testing.T) {
	s, v := newServiceStore(t)
	v.fail = rotate.StepTest
	if _, err := rotate.Value(t.Context(), s, "db", v); !errors.Is(err, errService) {
		t.Fatal(err)
	}
	if err := s.RemoveLabel(t.Context(), "db", store.LabelPending); err != nil {
		t.Fatal(err)
	}
	v.fail = ""
	if rep, err := rotate.Value(t.Context(), s, "db", v); err != nil || rep.Version != 3 || rep.Resumed != "" {
		t.Fatalf("Value = %+v, %v", rep, err)
	}
	wantRotated(t, s, v, "password 2", "password 0")
}

func TestValueRefusesPendingVersionOfOthers(t *testing.T) {
	s, v := newServiceStore(t)
	for _, token := range []string{"", "mine"} {
		if _, err := s.Put(t.Context(), "db", []byte("theirs"), &store.PutOptions{Label: store.LabelPending, Token: token}); err != nil {
			t.Fatal(err)
		}
		_, err := rotate.Value(t.Context(), s, "db", v)
		var e *store.Error
		if !errors.Is(err, store.ErrExists) || !errors.As(err, &e) || e.Remedy != "reseal label db pending --remove" || len(v.calls) != 0 {
			t.Errorf("Value = %v after %v", err, v.calls)
		}
	}
}

func TestValueOfTwoAtOnceMakesOneVersion(t *testing.T) {
	s, v := newServiceStore(t)
	other := &service{accepts: []string{"password 0"}, made: 10}
	v.during = func(step rotate.StepName) {
		if step == rotate.StepCreate {
			if _, err := rotate.Value(t.Context(), s, "db", &interrupted{other}); !errors.Is(err, errService) {
				t.Errorf("the other: %v", err)
			}
		}
	}
	if _, err := rotate.Value(t.Context(), s, "db", v); !errors.Is(err, store.ErrExists) {
		t.Fatalf("Value = %v", err)
	}
	info, err := s.Show(t.Context(), "db")
	if err != nil || len(info.Versions) != 2 {
		t.Errorf("versions: %+v, %v", info.Versions, err)
	}
}

// interrupted stops after its pending version is stored.
type interrupted struct{ *service }

func (v *interrupted) Set(context.Context, rotate.Step) error { return errService }

func TestValueOfUnknownSecretIsNotFound(t *testing.T) {
	s, v := newServiceStore(t)
	if _, err := rotate.Value(t.Context(), s, "no/such", v); !errors.Is(err, store.ErrNotFound) || len(v.calls) != 0 {
		t.Errorf("Value = %v after %v", err, v.calls)
	}
}

func TestValueStopsWhenCancelled(t *testing.T) {
	s, v := newServiceStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	v.during = func(step rotate.StepName) {
		if step == rotate.StepSet {
			cancel()
		}
	}
	if _, err := rotate.Value(ctx, s, "db", v); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"create", "set"}, v.calls); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	v.during = nil
	if _, err := rotate.Value(t.Context(), s, "db", v); err != nil {
		t.Fatal(err)
	}
	wantRotated(t, s, v, "password 1", "password 0")
}
