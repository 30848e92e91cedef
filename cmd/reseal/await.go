package main

import "context"

// await returns what fn does, or ctx's error if that comes first. It is for a
// read from a pipe or a terminal, which nothing else interrupts: left alone it
// ends with the process.
func await[T any](ctx context.Context, fn func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		value, err := fn()
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
