package rotate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/reseal/reseal/store"
)

// Forecast is what Run with the same options would do, and take.
type Forecast struct {
	store.RotationPlan

	Mode       Mode
	From, To   string
	Prefix     string
	MadeBefore time.Time // as in Options, or from TouchedBy

	Seconds float64 // expected, of everything that follows
	Moving  float64 // seconds of them: batches, and pauses between them
	Reading float64 // reading everything back
	Ending  float64 // emptying the log, scanning or rebuilding the file, counting

	BatchRows int64   // data keys of a typical batch
	Batches   int64   // expected
	Rate      float64 // data keys a second while moving
	DiskNeed  int64   // bytes that have to be free, if somebody reads for all of the time

	Warnings []string

	// Keys are the forecasts of each key, when several would be rotated by age.
	// The other members are then their sums.
	Keys []Forecast
}

// DiskFits reports whether what is free is enough, and whether that can be told.
func (f *Forecast) DiskFits() (fits, known bool) { return f.Disk.Free >= f.DiskNeed, f.Disk.Free >= 0 }

// PlanOptions are options of Plan.
type PlanOptions struct {
	// Deep opens everything that would move, however much it is, to find what
	// would fail. Defaults to all of up to 100,000 versions and 64 MiB of values,
	// and otherwise to 64 random places.
	Deep bool
}

// Plan says what Run with these options would do, and changes nothing. Its
// times are made of samples that are taken on this machine now: with the same
// load, a run on a healthy store takes between half and twice as long.
//
// Errors are those that Run would end with before it moves anything.
func Plan(ctx context.Context, s *store.Store, o Options, po PlanOptions) (Forecast, error) {
	if err := o.fill(); err != nil {
		return Forecast{Mode: o.Mode, From: o.From, To: o.To}, err
	}
	var f Forecast
	var err error
	if o.OlderThan > 0 {
		f, err = planOlder(ctx, s, o, po)
	} else {
		f, err = planOne(ctx, s, o, po)
	}
	if err != nil {
		return f, fmt.Errorf("plan rotation: %w", err)
	}
	return f, nil
}

func planOne(ctx context.Context, s *store.Store, o Options, po PlanOptions) (Forecast, error) {
	spec := o.spec()
	f := Forecast{Mode: o.Mode, From: spec.From, To: spec.To, Prefix: spec.Prefix}
	var err error
	f.RotationPlan, err = s.PlanRotation(ctx, spec, &store.PlanOptions{Deep: po.Deep, OlderThan: o.OlderThan})
	if err != nil {
		return f, err
	}
	f.MadeBefore = f.Spec.MadeBefore
	f.expect(&o)
	return f, f.warn(ctx, s, &o)
}

// planOlder plans for every key that Run would look at. What would be refused,
// because another process is at work on it, Run leaves to that.
func planOlder(ctx context.Context, s *store.Store, o Options, po PlanOptions) (Forecast, error) {
	total := Forecast{Mode: o.Mode, Prefix: o.Prefix, MadeBefore: o.MadeBefore}
	total.Check.All, total.Check.Failures, total.Disk.Free = true, []store.Failure{}, -1
	keys, err := s.Keys(ctx)
	if err != nil {
		return total, err
	}
	found := o.Key == ""
	for _, k := range keys {
		if o.Key != "" && k.Name != o.Key || o.Key == "" && k.State != store.Enabled {
			continue
		}
		found = true
		one := o
		one.Key = k.Name
		f, err := planOne(ctx, s, one, po)
		if errors.Is(err, store.ErrJobRunning) {
			left, jerr := abandonedFrom(ctx, s, k.Name)
			if !left && jerr == nil {
				continue
			}
			err = errors.Join(err, jerr)
		}
		if err != nil {
			return total, err
		}
		if f.NewVersion || f.Versions > 0 {
			total.add(f)
		}
	}
	if !found {
		return total, fmt.Errorf("key %q: %w", o.Key, store.ErrNotFound)
	}
	if len(total.Keys) == 1 {
		return total.Keys[0], nil
	}
	return total, nil
}

// add adds the forecast of one key.
func (f *Forecast) add(one Forecast) {
	f.Keys = append(f.Keys, one)
	f.Versions += one.Versions
	f.Labelled += one.Labelled
	f.Pending += one.Pending
	f.Unlabelled += one.Unlabelled
	f.OfDeleted += one.OfDeleted
	f.Replaced += one.Replaced
	f.ValueBytes += one.ValueBytes
	f.Secrets += one.Secrets
	f.DeletedSecrets += one.DeletedSecrets
	f.AllVersions, f.FileBytes = one.AllVersions, one.FileBytes
	f.Check.All = f.Check.All && one.Check.All
	f.Check.Opened += one.Check.Opened
	f.Check.Failing += one.Check.Failing
	f.Check.Failures = append(f.Check.Failures, one.Check.Failures...)
	f.Seconds += one.Seconds
	f.Moving += one.Moving
	f.Reading += one.Reading
	f.Ending += one.Ending
	f.Batches += one.Batches
	f.Cost.Sampled += one.Cost.Sampled
	f.Disk.Pages += one.Disk.Pages
	f.Disk.Grows += one.Disk.Grows
	f.Disk.Log = max(f.Disk.Log, one.Disk.Log)
	f.Disk.LogMost += one.Disk.LogMost
	f.Disk.Free = one.Disk.Free
	f.DiskNeed += one.DiskNeed
	f.Warnings = append(f.Warnings, one.Warnings...)
}

// expect makes times of costs.
func (f *Forecast) expect(o *Options) {
	c, moving := f.Cost, f.Versions+f.Configured
	f.DiskNeed = f.Disk.LogMost + f.Disk.Grows
	if o.Scrub {
		f.DiskNeed += f.FileBytes
	}
	reading := float64(f.Concerned)*c.Open.Seconds() + float64(f.AllVersions)*c.Look.Seconds()
	f.Reading = reading
	if moving == 0 {
		f.Seconds = reading
		return
	}
	f.moves(o, moving)
	commits := 6 * c.Sync.Seconds() // start, end, and emptying the log
	files := float64(f.FileBytes) / (1 << 20) * c.Scan.Seconds()
	f.Ending = commits + files + 3*c.Count.Seconds() + float64(min(f.Disk.Log, f.Disk.LogMost))/4096*c.Page.Seconds()
	if o.Scrub { // the pages are written to the log and from there to the file
		f.Ending += 3 * float64(f.FileBytes) / 4096 * c.Page.Seconds()
	}
	f.Seconds = f.Moving + f.Reading + f.Ending
}

// moves makes the time of batches and pauses: of the cost of a row, and of the
// commit with the pages that it makes durable. SQLite empties the log by itself
// now and then, in a commit.
func (f *Forecast) moves(o *Options, moving int64) {
	c := f.Cost
	weight := float64(c.Weight(moving, f.ValueBytes)) / float64(moving)
	prepare := c.Prepare.Seconds() * weight
	each := c.Write.Seconds()*weight + 2*c.Page.Seconds()*float64(f.Disk.Pages)/float64(moving)
	commit := c.Sync.Seconds() + 6*c.Page.Seconds()
	rows := float64(o.Batch)
	if each > 0 {
		rows = math.Min(rows, math.Max(leastRows, (o.BatchTime.Seconds()-commit)/each))
	}
	if bytes := float64(f.ValueBytes) / float64(moving); bytes > 0 {
		rows = math.Min(rows, math.Max(1, float64(store.MaxBatchBytes)/bytes))
	}
	if o.Rate > 0 {
		rows = math.Min(rows, math.Max(1, float64(o.Rate)/10))
	}
	held := rows*each + commit
	pause := o.Pause.Seconds()
	if o.Pause == 0 && !o.Fast {
		pause = math.Max(DefaultPause.Seconds(), held/4)
	}
	pause = math.Max(pause, 0)
	if o.Rate > 0 { // a batch is paid for from its beginning
		pause = math.Max(pause, rows/float64(o.Rate)-held)
	}
	f.BatchRows = int64(rows)
	for left, next := float64(moving), math.Min(rows, firstRows); left > 0; left, next = left-next, math.Min(rows, 2*next) {
		n := math.Min(left, next)
		held, prepared := n*each+commit, n*prepare
		switch {
		case o.Fast: // by two cores
			f.Moving += math.Max(held+pause, (held+prepared)/2)
		default: // one after the other
			f.Moving += held + math.Max(pause, prepared)
		}
		f.Batches++
	}
	f.Moving += float64(f.Disk.Pages) / 1000 * 2 * c.Sync.Seconds()
	f.Rate = float64(moving) / f.Moving
}

// warn tells what the operator should know before.
func (f *Forecast) warn(ctx context.Context, s *store.Store, o *Options) error {
	add := func(format string, args ...any) { f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...)) }
	if fits, known := f.DiskFits(); known && !fits {
		add("up to %d bytes of disk are needed, and %d are free", f.DiskNeed, f.Disk.Free)
	}
	if o.Mode == Reencrypt && !f.NewVersion {
		kept, err := s.DataKeysMadeBefore(ctx, f.To, f.Prefix, f.MadeBefore)
		if err != nil {
			return err
		}
		if f.From == f.To {
			kept -= f.Replaced
		}
		if kept > 0 {
			add("%s under key %q already and would not be replaced: reseal key rotate %[2]s, then --key %[2]s", dataKeys(kept), f.To)
		}
	}
	if f.From == f.To {
		return nil
	}
	k, err := s.Key(ctx, f.From)
	if err == nil && k.Default {
		add("new secrets still go under %q: reseal key set-default %s", f.From, f.To)
	}
	if errors.Is(err, store.ErrDamaged) {
		err = nil // its record was altered: leaving it is the way out
	}
	return err
}
