package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reseal/reseal/store"
)

// runOlder rotates every enabled key by age, or the one that is named. A key
// whose job another process is at work on, or somebody paused, is left to them.
func runOlder(ctx context.Context, s *store.Store, o Options) (Report, error) {
	began := time.Now()
	keys, err := s.Keys(ctx)
	if err != nil {
		return Report{Mode: o.Mode}, err
	}
	total := Report{Mode: o.Mode, Prefix: o.Prefix, State: store.JobComplete, Verified: true}
	found := o.Key == ""
	for _, k := range keys {
		if o.Key != "" && k.Name != o.Key {
			continue
		}
		found = true
		if k.State != store.Enabled && o.Key == "" {
			continue
		}
		one, rerr := runAged(ctx, s, o, k)
		if one != nil {
			total.add(*one)
		}
		err = errors.Join(err, rerr)
		if ctx.Err() != nil {
			break
		}
	}
	if !found {
		return total, fmt.Errorf("rotate key %q: %w", o.Key, store.ErrNotFound)
	}
	if len(total.Keys) == 1 {
		return total.Keys[0], err
	}
	total.Elapsed = time.Since(began)
	return total, err
}

// runAged makes a key's newest version young enough and moves everything to it.
// There is no report if nothing was to be done.
func runAged(ctx context.Context, s *store.Store, o Options, k store.KeyInfo) (*Report, error) {
	primary, rotated, err := s.RotateKeyOlder(ctx, k.Name, o.OlderThan)
	if err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	o.Key, o.OlderThan = k.Name, 0
	left, err := s.RotationRemaining(ctx, o.spec())
	if err != nil || left == 0 && !rotated {
		return nil, err
	}
	if paused, err := pausedFrom(ctx, s, k.Name); err != nil || paused {
		return nil, err
	}
	rep, err := runOne(ctx, s, o)
	if errors.Is(err, store.ErrJobRunning) {
		left, jerr := abandonedFrom(ctx, s, k.Name)
		if left { // another job, which nobody is at work on: it would stay for ever
			return nil, err
		}
		return nil, jerr
	}
	if rotated {
		rep.Warnings = append(rep.Warnings, fmt.Sprintf("key %q has the new version %d", k.Name, primary))
	}
	return &rep, err
}

func pausedFrom(ctx context.Context, s *store.Store, key string) (bool, error) {
	return jobFrom(ctx, s, key, store.JobPaused)
}

func abandonedFrom(ctx context.Context, s *store.Store, key string) (bool, error) {
	return jobFrom(ctx, s, key, store.JobIncomplete)
}

func jobFrom(ctx context.Context, s *store.Store, key string, state store.JobState) (bool, error) {
	jobs, err := s.Jobs(ctx)
	return slices.ContainsFunc(jobs, func(j store.Job) bool { return j.State == state && j.From == key }), err
}

// add adds the report of one key.
func (r *Report) add(one Report) {
	r.Keys = append(r.Keys, one)
	r.Total += one.Total
	r.Done += one.Done
	r.Moved += one.Moved
	r.Replaced += one.Replaced
	r.Remaining += one.Remaining
	r.Checked += one.Checked
	r.Failed += one.Failed
	r.Batches += one.Batches
	r.Failures = append(r.Failures, one.Failures...)
	r.Warnings = append(r.Warnings, one.Warnings...)
	r.Verified = r.Verified && one.Verified
	r.CheckpointBusy = r.CheckpointBusy || one.CheckpointBusy
	r.LongestLock = max(r.LongestLock, one.LongestLock)
	if one.State != store.JobComplete {
		r.State = one.State
	}
}
