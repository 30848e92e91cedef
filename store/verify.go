package store

import (
	"cmp"
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
)

// maxReported is how many failures a VerifyReport lists.
const maxReported = 1000

// VerifyOptions says how to verify. The zero value checks records and counts
// and opens no value.
type VerifyOptions struct {
	// Deep also opens every value, whatever the state of its master key, checks
	// the whole audit chain and every page of the file.
	Deep bool

	// Progress, if not nil, is called now and then with the number of secret
	// versions checked and their number at the start; never at the same time
	// from two goroutines.
	Progress func(done, total int64)
}

// VerifyReport is what a Verify found.
type VerifyReport struct {
	OK              bool // no failures, no drift
	Deep            bool
	VersionsChecked int64
	Drift           int64     // versions whose effective key is not the configured key; each is a failure too
	Behind          int64     // versions that are not under their key's primary version: no failure
	Failures        []Failure // the first 1000, by secret, version and key
	FailureCount    int64     // all of them
}

// Verify checks the whole store: the schema, every record tag, that every
// secret has the versions it should have and each of them one data key under a
// master key version that is there, that labels point where they should, and
// where the audit trail ends. With Deep it also opens every value. It collects
// what is wrong and stops at nothing, changes nothing, and does not hold
// writers up: each secret is checked as it is at one moment, but not all of them
// at the same.
//
// The error is nil when the check could be made, whatever it found.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	if err := s.needUnsealed(); err != nil {
		return VerifyReport{}, err
	}
	v := &verifier{s: s, ctx: ctx, o: o, after: math.MinInt64, report: VerifyReport{Deep: o.Deep}}
	tables := v.beside((*verifier).tables)
	err := v.survive(v.records())
	if err == nil {
		err = v.survive(v.versions())
	}
	if err = errors.Join(tables(), err); err != nil {
		return v.report, err
	}
	r := &v.report
	slices.SortStableFunc(r.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(a.Secret, b.Secret), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Key, b.Key))
	})
	r.OK = r.FailureCount == 0 && r.Drift == 0
	return *r, nil
}

// verifier is one run. Its workers share the report under the lock.
type verifier struct {
	s   *Store
	ctx context.Context
	o   VerifyOptions

	mu     sync.Mutex
	report VerifyReport
	after  int64 // row of the last secret that a worker took
	total  int64
}

// beside begins a step on another core, and returns what waits for it and puts
// what it found before what was found meanwhile. SQLite's own check of every page
// takes about as long as opening what is on them.
func (v *verifier) beside(step func(*verifier) error) (wait func() error) {
	other := &verifier{s: v.s, ctx: v.ctx, o: v.o}
	done := make(chan error, 1)
	go func() { done <- other.survive(step(other)) }()
	return func() error {
		err := <-done
		all := append(other.report.Failures, v.report.Failures...)
		v.report.Failures = all[:min(len(all), maxReported)]
		v.report.FailureCount += other.report.FailureCount
		return err
	}
}

// fail adds a failure to the report.
func (v *verifier) fail(f Failure) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.FailureCount++
	if len(v.report.Failures) < maxReported {
		v.report.Failures = append(v.report.Failures, f)
	}
}

// survive makes a failure of an error that says the file is damaged, and
// returns any other.
func (v *verifier) survive(err error) error {
	if err == nil {
		return nil
	}
	f := failureOf("", err)
	switch {
	case errors.Is(err, ErrSchemaAltered):
		f.Remedy = "reseal migrate validate"
	case !errors.Is(err, ErrDamaged):
		return err
	case f.Remedy == "":
		f.Remedy = "reseal audit verify"
	}
	v.fail(f)
	return nil
}

// versions checks all secrets with their versions, with two workers where there
// are two cores.
func (v *verifier) versions() error {
	if err := v.s.snapshot(v.ctx, func(q querier) error {
		return q.QueryRowContext(v.ctx, `SELECT count(*) FROM reseal_secret_versions`).Scan(&v.total)
	}); err != nil {
		return err
	}
	errs := make(chan error)
	workers := min(2, runtime.GOMAXPROCS(0))
	for range workers {
		go func() { errs <- v.work() }()
	}
	var all []error
	for range workers {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func (v *verifier) work() error {
	for {
		var more bool
		err := v.s.snapshot(v.ctx, func(q querier) (err error) { more, err = v.page(q); return err })
		if err = v.survive(err); err != nil || !more {
			return err
		}
	}
}

const (
	pageOfSecrets = 512 // that one statement reads
	pageSize      = 128 // versions of one secret that are looked at one by one
)

// page checks the next secrets and reports whether there were any.
func (v *verifier) page(q querier) (more bool, err error) {
	after, last, err := v.take(q)
	if err != nil || last == after {
		return false, err
	}
	keys, err := v.s.keyTable(v.ctx, q)
	if err != nil {
		return true, err
	}
	o := &opener{v: v, q: q, keys: keys, configured: map[int64]*masterKey{}, unwrapped: map[int64]*source{}}
	for _, k := range keys {
		o.configured[k.row] = k
	}
	defer o.close()
	others, err := v.smoothly(o, after, last)
	if errors.Is(sqlError(err), ErrDamaged) { // a page that one of them is on
		others, err = column[int64](v.ctx, q, `SELECT id FROM reseal_secrets WHERE id > ? AND id <= ?`, after, last)
	}
	for i := 0; i < len(others) && err == nil; i++ {
		err = v.survive(sqlError(v.carefully(o, others[i])))
	}
	return true, err
}

// take reserves the next secrets for a worker: those with rows above after, up
// to last.
func (v *verifier) take(q querier) (after, last int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	after = v.after
	err = q.QueryRowContext(context.WithoutCancel(v.ctx), `
		SELECT COALESCE(max(id), ?1)
		FROM (SELECT id FROM reseal_secrets WHERE id > ?1 ORDER BY id LIMIT ?2)`, after, pageOfSecrets).Scan(&last)
	if err == nil {
		v.after = last
	} else {
		v.after = math.MaxInt64 // the other worker stops too
	}
	return after, last, err
}

// checked counts versions and tells the progress.
func (v *verifier) checked(n, drift, behind int64) {
	if n == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.VersionsChecked += n
	v.report.Drift += drift
	v.report.Behind += behind
	if v.o.Progress != nil {
		v.o.Progress(v.report.VersionsChecked, max(v.total, v.report.VersionsChecked))
	}
}
