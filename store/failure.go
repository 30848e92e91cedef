package store

import (
	"errors"
)

// Failure is one thing that a rotation or a verification found wrong and went
// on from.
type Failure struct {
	Secret  string // "" if it cannot be told
	Version uint64 // 0 if it is the secret as a whole
	Key     string // the master key that wraps it, if it can be told
	Error   string // what is wrong
	Remedy  string // the command that helps
}

// failureOf tells an error about a secret as a Failure.
func failureOf(name string, err error) Failure {
	f := Failure{Secret: name, Error: err.Error()}
	var e *Error
	if errors.As(err, &e) {
		f.Version, f.Key, f.Remedy = e.Version, e.EffectiveKey, e.Remedy
		f.Error = e.Err.Error()
		if e.Detail != "" {
			f.Error += ": " + e.Detail
		}
	}
	return f
}
