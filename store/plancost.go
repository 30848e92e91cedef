package store

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/reseal/reseal/crypto"
)

// PlanCost is what the parts of a rotation cost on this machine now, each
// measured. A row's cost is that of a data key with a small value; every KiB of
// a value that is sealed anew counts as a row more.
type PlanCost struct {
	Sampled int64         // data keys that were moved in transactions that were rolled back
	Prepare time.Duration // a row: reading it, and its cryptography
	Write   time.Duration // a row: writing it, or all of it from key to key, without the commit
	Open    time.Duration // a version: opening it where it is, for the read-back
	Look    time.Duration // a version that a read-back only looks at
	Sync    time.Duration // making one page durable: the least that a commit takes
	Page    time.Duration // each page more of a commit
	Scan    time.Duration // a MiB of the files: looking for what was retired
	Count   time.Duration // counting what is left
}

// PlanDisk is what a rotation needs of the disk, and what there is.
type PlanDisk struct {
	Pages   int64 // that all batches write, one counted for each batch that writes it
	Log     int64 // bytes by which the write-ahead log grows if nobody keeps it from being emptied
	LogMost int64 // and if a reader does so for all of the time
	Grows   int64 // bytes by which the file grows: the audit events
	Free    int64 // bytes that are free; -1 if that cannot be told
}

// Weight is the number of rows that so many data keys and bytes of values count as.
func (PlanCost) Weight(dataKeys, valueBytes int64) int64 { return dataKeys + valueBytes/1024 }

const (
	framePage     = 4096 + 24 // a page of the log with its header
	checkpointAt  = 1000      // pages in the log at which SQLite empties it by itself
	auditBytes    = 550       // of an audit event, with its place in the page
	batchOverhead = 6         // pages that a batch writes besides: the state, the job, the event
)

// measure times samples of what a run does.
func (p *planner) measure(ctx context.Context) error {
	if p.plan.Check.Opened > 0 {
		p.plan.Cost.Open = p.opening / time.Duration(p.plan.Check.Opened)
	}
	folder, err := p.s.folder(ctx)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{p.timeMoving, p.timeReading} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.plan.Disk.Free = -1
	p.weigh()
	if folder == "" {
		return nil
	}
	if free, ok := diskFree(folder); ok {
		p.plan.Disk.Free = free
	}
	return p.timeDisk(folder)
}

// sampleRows is how many data keys one sample moves, samples how many there are
// besides the first, which is not timed: it reads what the others find read. From
// key to key a batch has fewer, and all that were read for it are moved: a batch
// cut short by its time would say that they are dear.
const (
	sampleRows    = 500
	sampleSecrets = 100
	samples       = 5
	sampleBox     = 250 * time.Millisecond
)

var errSampled = errors.New("the sample is rolled back")

// timeMoving moves some data keys in transactions that are rolled back.
func (p *planner) timeMoving(ctx context.Context) error {
	if p.plan.Versions+p.plan.Configured == 0 {
		return nil
	}
	var last int64
	err := p.s.read(ctx, func(q querier) error {
		return q.QueryRowContext(ctx, `SELECT max(COALESCE((SELECT max(id) FROM reseal_data_keys), 0), COALESCE((SELECT max(id) FROM reseal_secrets), 0))`).Scan(&last)
	})
	if err != nil {
		return err
	}
	var all []sampled
	for i := range samples + 1 {
		after := int64(0)
		if i > 0 && p.plan.Versions > samples*sampleRows {
			after = mathrand.Int64N(max(1, last-sampleRows))
		}
		one, err := p.sampleBehind(ctx, after)
		if err == nil && one.rows == 0 {
			one, err = p.sampleBehind(ctx, 0)
		}
		if err != nil {
			return err
		}
		if i > 0 && one.rows > 0 {
			all = append(all, one)
			p.plan.Cost.Sampled += one.rows
		}
	}
	p.plan.Cost.Prepare = medianCost(all, func(s sampled) time.Duration { return s.prepare })
	p.plan.Cost.Write = medianCost(all, func(s sampled) time.Duration { return s.write })
	return nil
}

// medianCost is a row's cost in the middle one of the samples: one that the
// system held up says nothing.
func medianCost(all []sampled, of func(sampled) time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	var costs []time.Duration
	for _, s := range all {
		costs = append(costs, of(s)/time.Duration(PlanCost{}.Weight(s.rows, s.bytes)))
	}
	slices.Sort(costs)
	return costs[len(costs)/2]
}

// sampleBehind takes one sample, in a transaction that it rolls back.
func (p *planner) sampleBehind(ctx context.Context, after int64) (one sampled, err error) {
	for _, how := range []reading{asOneRow, rowByRow} {
		err = p.s.write(ctx, func(t *tx) error {
			t.joined = true // nothing is remembered of what is rolled back
			t.live = t.ctx
			if err := p.sample(t, after, how, &one); err != nil {
				return err
			}
			return errSampled
		})
		if !errors.Is(err, errChanged) { // see Step
			break
		}
	}
	if errors.Is(err, errSampled) {
		err = nil
	}
	return one, err
}

type sampled struct {
	rows, bytes    int64
	prepare, write time.Duration
}

// sample moves the next data keys behind after as a batch does.
func (p *planner) sample(t *tx, after int64, how reading, out *sampled) error {
	if p.plan.NewVersion {
		if _, err := t.rotateKey(p.spec.To); err != nil {
			return err
		}
	}
	m, err := p.mover(t)
	if err != nil {
		return err
	}
	began := time.Now()
	if !p.ByVersion() {
		b, err := p.moveSecrets(m, after, sampleSecrets, sampleBox)
		if err == nil {
			err = t.finish()
		}
		out.rows, out.bytes, out.write = int64(b.Moved), int64(m.bytes), time.Since(began)
		return err
	}
	b, err := p.read(m, after, sampleRows, how)
	if err == nil && !b.rewrap(m) {
		b, err = p.read(m, after, sampleRows, rowByRow)
	}
	if err != nil {
		return err
	}
	out.prepare = time.Since(began)
	began = time.Now()
	_, err = b.write(m)
	out.rows, out.bytes, out.write = int64(len(b.rows)), int64(len(b.values)), time.Since(began)
	return err
}

// timeReading times pages of the read-back that nothing is opened of, a count,
// and a scan.
func (p *planner) timeReading(ctx context.Context) error {
	c := readBack{spec: RotationSpec{From: "\x00", To: "\x00"}} // no key has this name
	var err error
	p.plan.Cost.Look = middle(func() time.Duration {
		before, began := c.looked, time.Now()
		err = errors.Join(err, p.s.snapshot(ctx, func(q querier) error { return c.page(p.s.newTx(ctx, q)) }))
		if c.end {
			c.end, c.last = false, 0
		}
		return time.Since(began) / time.Duration(max(1, c.looked-before))
	})
	p.plan.Cost.Count = middle(func() time.Duration {
		began := time.Now()
		err = errors.Join(err, p.s.snapshot(ctx, func(q querier) error { _, err := p.scope.remaining(ctx, q); return err }))
		return time.Since(began)
	})
	p.plan.Cost.Scan = timeScan()
	return err
}

// timeScan times a scan of a MiB for what is not in it.
func timeScan() time.Duration {
	piece := make([]byte, 1<<16)
	rand.Read(piece)
	var sample retiredSample
	for i := range 8 {
		sample.add(piece[i*crypto.WrappedSize:][:crypto.WrappedSize])
	}
	sample.index()
	return 16 * middle(func() time.Duration {
		began := time.Now()
		sample.look(piece[1<<12:], func(crypto.Mark) {})
		return time.Since(began)
	})
}

// middle is what a measurement gives in the middle of five: the system holds
// some up.
func middle(measure func() time.Duration) time.Duration {
	var all [5]time.Duration
	for i := range all {
		all[i] = measure()
	}
	slices.Sort(all[:])
	return all[len(all)/2]
}

// timeDisk writes a file as the write-ahead log is written, and removes it.
func (p *planner) timeDisk(folder string) error {
	f, err := os.CreateTemp(folder, ".reseal-plan-*")
	if err != nil {
		return pathError(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, framePage)
	rand.Read(page)
	commit := func(pages int) func() time.Duration {
		return func() time.Duration {
			began := time.Now()
			for range pages {
				_, werr := f.Write(page[:24])
				_, perr := f.Write(page[24:])
				err = errors.Join(err, werr, perr)
			}
			err = errors.Join(err, f.Sync())
			return time.Since(began)
		}
	}
	const many = 64
	p.plan.Cost.Sync = middle(commit(1))
	p.plan.Cost.Page = max(0, middle(commit(many))-p.plan.Cost.Sync) / (many - 1)
	if err != nil {
		return pathError(err)
	}
	return nil
}

// weigh estimates what is written, from what the check saw.
func (p *planner) weigh() {
	out := &p.plan
	if out.Versions+out.Configured == 0 {
		return
	}
	pages := float64(out.Versions) * p.keyPages.perRow()
	if out.Replaced > 0 {
		each := float64(out.ValueBytes)/float64(out.Replaced) + 60
		if each > 4000 { // most of it on pages of its own
			pages += float64(out.Replaced) * (each/4092 + 0.5)
		} else {
			pages += float64(out.Replaced) * max(p.valuePages.perRow(), each/4000)
		}
	}
	events := out.Versions/1000 + 1
	if !p.scope.version() {
		events += out.Secrets + out.DeletedSecrets
		pages += float64(out.Secrets+out.DeletedSecrets) * 250 / 4000
	}
	pages += float64(events) * auditBytes / 4000
	out.Disk.Grows = events * auditBytes
	out.Disk.Pages = int64(pages) + 1
	out.Disk.LogMost = (out.Disk.Pages + batchOverhead*(out.Versions/1000+1)) * framePage
	out.Disk.Log = min(out.Disk.LogMost, (checkpointAt+MaxBatchBytes/4096)*framePage)
}
