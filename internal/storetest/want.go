// Package storetest has the words in which reseal's own tests say what they
// want. The stores come from package resealtest.
package storetest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reseal/reseal/store"
)

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
