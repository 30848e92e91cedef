package rotate

import (
	"fmt"
	"time"

	"github.com/reseal/reseal/store"
)

// Mode is how a rotation gets a secret to its new key. The zero Mode is
// Rewrap.
type Mode string

const (
	// Rewrap gives each data key a new wrap. Sealed values are not touched. It
	// is for routine.
	Rewrap Mode = store.ModeRewrap

	// Reencrypt gives each secret version a new data key and seals its value
	// anew. It is for when a data key, or a key above it, may be known to others.
	Reencrypt Mode = store.ModeReencrypt
)

// Defaults of Options; DefaultPause is the least one.
const (
	DefaultBatch     = 2000
	DefaultBatchTime = 25 * time.Millisecond
	DefaultPause     = time.Millisecond
)

// Options says what to rotate and how gently. Either From and To are given, or
// Key, or OlderThan with or without Key.
type Options struct {
	// From and To are the master key to leave and the enabled one to go to.
	// From may be disabled, pending deletion, or have an altered record.
	From, To string

	// Key goes from the older versions of this master key to its newest.
	Key string

	// OlderThan first gives each enabled master key whose newest version is
	// older a new one; then every version of a secret goes to its key's newest.
	// With Key it does so for that key only. It may be called at every start
	// of a program, and by several at once. Defaults to not doing so.
	OlderThan time.Duration

	// Prefix takes only secrets whose names begin with it. Defaults to all.
	Prefix string

	// Mode defaults to Rewrap.
	Mode Mode

	// MadeBefore limits Reencrypt to data keys that were made before it, to the
	// millisecond; the others are rewrapped. Defaults to all.
	MadeBefore time.Time

	// TouchedBy limits Reencrypt to data keys that this version of From, or of
	// Key, may have wrapped: those made before the next version was there, by the
	// clock of the machine that made them, and those that it or an older one wraps
	// now. Defaults to all.
	TouchedBy uint64

	// Batch is the most data keys in one transaction. Defaults to DefaultBatch.
	Batch int

	// BatchTime is how long one transaction should hold the write lock; batches
	// shrink to keep to it. Defaults to DefaultBatchTime.
	BatchTime time.Duration

	// Pause is how long other writers have between two batches. Defaults to a
	// quarter of the time that the batch held the write lock and at least
	// DefaultPause, or with Fast to none; negative is none. Writers in other
	// processes need it: they wait by asking now and then.
	Pause time.Duration

	// Rate is the most data keys to move in a second. From key to key a secret
	// moves whole, and its many versions are made up for afterwards. Defaults to
	// no limit.
	Rate int

	// Fast rests only if Pause says so. With Key and OlderThan it prepares several
	// batches at a time while one is written; otherwise a core is left to others,
	// and the next batch is prepared when one was written.
	Fast bool

	// Scrub rebuilds the file at the end (VACUUM), so that no old wrap is left
	// in free pages. It takes as much disk again, twice as much memory as the
	// file is large, and stops writers meanwhile.
	Scrub bool

	// Progress, if not nil, is called after each batch, in Run's goroutine.
	Progress func(Progress)
}

func (o *Options) fill() error {
	switch {
	case o.OlderThan < 0 || o.Batch < 0 || o.BatchTime < 0 || o.Rate < 0:
		return fmt.Errorf("%w: a negative limit", store.ErrInvalid)
	case o.OlderThan > 0 && (o.From != "" || o.To != ""):
		return fmt.Errorf("%w: an age goes with one key or none, not from key to key", store.ErrInvalid)
	case o.OlderThan > 0 && o.Key == "":
	case o.Key != "" && (o.From != "" || o.To != ""):
		return fmt.Errorf("%w: either one key, or from one to another", store.ErrInvalid)
	case o.Key == "" && (o.From == "" || o.To == ""):
		return fmt.Errorf("%w: say which key to rotate, or from which to which", store.ErrInvalid)
	case o.Key == "" && o.From == o.To:
		return fmt.Errorf("%w: from %q to itself; name it as the key to go to its newest version", store.ErrInvalid, o.From)
	}
	if o.Mode == "" {
		o.Mode = Rewrap
	}
	if o.TouchedBy != 0 && o.Key == "" && o.From == "" {
		return fmt.Errorf("%w: a key version that touched data keys needs its key", store.ErrInvalid)
	}
	if o.Batch == 0 {
		o.Batch = DefaultBatch
	}
	if o.BatchTime == 0 {
		o.BatchTime = DefaultBatchTime
	}
	return nil
}

// spec is the rotation of one key, or between two.
func (o *Options) spec() store.RotationSpec {
	s := store.RotationSpec{Mode: string(o.Mode), From: o.From, To: o.To, Prefix: o.Prefix, MadeBefore: o.MadeBefore, TouchedBy: o.TouchedBy}
	if o.Key != "" {
		s.From, s.To = o.Key, o.Key
	}
	return s
}
