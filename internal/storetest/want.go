package storetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

// MustPut puts a value, or fails the test.
func (s *Store) MustPut(t testing.TB, name, value string, o store.PutOptions) store.PutResult {
	t.Helper()
	res, err := s.Put(t.Context(), name, []byte(value), &o)
	OK(t, err)
	return res
}

// MustGet returns a value, or fails the test.
func (s *Store) MustGet(t testing.TB, name string, sel ...store.Selector) string {
	t.Helper()
	v, err := s.Get(t.Context(), name, sel...)
	OK(t, err)
	defer v.Clear()
	return string(v.Bytes())
}

// OK fails the test if err is not nil.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Refused fails the test if err is not want, or carries no facts. It returns
// the facts.
func Refused(t testing.TB, err, want error) *store.Error {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	var e *store.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v carries no facts", err)
	}
	return e
}

// Diff reports how got differs from want.
func Diff(t testing.TB, what string, want, got any, opts ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, opts...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// Err drops the other result of a call.
func Err[T any](_ T, err error) error { return err }
