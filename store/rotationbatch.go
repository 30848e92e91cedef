package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Batch says what one short transaction of a rotation did.
type Batch struct {
	Moved    int           // data keys under the target now
	Replaced int           // of them, those that were replaced by new ones, with their values
	Secrets  int           // whole secrets, when going from key to key
	Failures []Failure     // what was left where it is, and why
	Last     int64         // where the next batch of this pass begins
	End      bool          // nothing is left behind Last
	Held     time.Duration // how long the write lock was held
}

// Step moves the next data keys, or whole secrets, behind after in one
// transaction: reading, cryptography and writing. Begin a pass with after 0; go
// on with Batch.Last until Batch.End. It takes about rows data keys, and from
// key to key stops after box, but always takes one whole secret. What does not
// open is left as it is and told. Cancelling ctx does not tear a batch.
//
// Errors: ErrJobPaused, ErrJobCancelled, ErrJobRunning when another process
// took the job over; ErrKeyUnavailable when the target was disabled.
func (r *Rotation) Step(ctx context.Context, after int64, rows int, box time.Duration) (Batch, error) {
	if !r.ByVersion() {
		return r.transact(ctx, func(m *mover) (Batch, error) { return r.moveSecrets(m, after, rows, box) })
	}
	out, err := r.stepDataKeys(ctx, after, rows, asOneRow)
	if errors.Is(err, errChanged) { // a wrap opened that its row says is under another version
		out, err = r.stepDataKeys(ctx, after, rows, rowByRow)
	}
	if errors.Is(err, errChanged) {
		return out, damaged("a range of data keys behind %d changed fewer rows than were read in the same transaction", after)
	}
	return out, err
}

func (r *Rotation) stepDataKeys(ctx context.Context, after int64, rows int, how reading) (Batch, error) {
	return r.transact(ctx, func(m *mover) (Batch, error) {
		b, err := r.read(m, after, rows, how)
		if err == nil && !b.rewrap(m) {
			b, err = r.read(m, after, rows, rowByRow)
		}
		if err != nil {
			return Batch{}, err
		}
		return b.write(m)
	})
}

// transact runs one batch in a write transaction that re-reads the job and the
// target, and accounts for it.
func (r *Rotation) transact(ctx context.Context, fn func(*mover) (Batch, error)) (Batch, error) {
	var out Batch
	var job *jobRow
	var began time.Time
	var retired []byte
	err := r.s.write(ctx, func(t *tx) error {
		began = time.Now()
		t.live = t.ctx // what has begun is finished
		j, err := r.hold(t)
		if err != nil {
			return err
		}
		m, err := r.mover(t)
		if err != nil {
			return err
		}
		if out, err = fn(m); err != nil {
			return err
		}
		retired = m.retired
		j.Done += int64(out.Moved)
		j.ToVersion = m.kv.number
		if out.Moved+out.Secrets > 0 {
			r.audit(t, "rotate-batch", map[string]any{
				"to_version": m.kv.number, "data_keys": out.Moved, "secrets": out.Secrets, "failures": len(out.Failures),
			})
		}
		job = j
		return r.save(t, j)
	})
	if err != nil {
		return Batch{}, err
	}
	out.Held = time.Since(began)
	r.committed(job)
	r.sample.merge(retired)
	return out, nil
}

// mover returns what wraps under the target's primary version, read in this
// transaction.
func (r *Rotation) mover(t *tx) (*mover, error) {
	to, err := t.key(r.scope.to)
	if err != nil {
		return nil, err
	}
	m, err := t.mover(to)
	if err == nil {
		m.replaced = r.scope.replaced
	}
	return m, err
}

// Prepared is a batch of data keys that were read and, after Rewrap, their new
// wraps, not yet written.
type Prepared struct {
	batch *batch
	limit int
	m     *mover // of the snapshot that was read from: it reads no more
}

// Last returns where the next batch begins.
func (p *Prepared) Last() int64 { return p.batch.last }

// End reports that nothing is left behind Last.
func (p *Prepared) End() bool { return p.batch.end }

// Read reads the next data keys on a reader's connection, so that the write lock
// is held by Apply only. A batch is read, then rewrapped, then applied; the next
// one may be read and rewrapped meanwhile. It is for rotations that are ByVersion.
func (r *Rotation) Read(ctx context.Context, after int64, rows int) (*Prepared, error) {
	p := &Prepared{limit: rows}
	return p, r.readInto(ctx, p, after, asOneRow)
}

func (r *Rotation) readInto(ctx context.Context, p *Prepared, after int64, how reading) error {
	return r.log.reading(func() error {
		return r.s.snapshot(ctx, func(q querier) error {
			m, err := r.mover(r.s.newTx(ctx, q))
			if err != nil {
				return err
			}
			p.m = m
			p.batch, err = r.read(m, after, p.limit, how)
			return err
		})
	})
}

// Rewrap makes the new wraps of a batch, in memory: no transaction is open
// meanwhile. It lets others have the core now and then.
func (r *Rotation) Rewrap(ctx context.Context, p *Prepared) error {
	if p.batch.rewrap(p.m) {
		return nil
	}
	return r.readInto(ctx, p, p.batch.after, rowByRow)
}

// Apply writes a prepared batch, each new wrap only over the bytes that were
// read. If one of them changed meanwhile, or the target did, it writes nothing
// of it and takes a Step instead.
func (r *Rotation) Apply(ctx context.Context, p *Prepared) (Batch, error) {
	var out Batch
	err := r.log.writing(len(p.batch.new)+len(p.batch.values), func() (err error) {
		out, err = r.transact(ctx, func(m *mover) (Batch, error) {
			if m.kv.row != p.m.kv.row {
				return Batch{}, errChanged
			}
			return p.batch.write(m)
		})
		return err
	})
	if errors.Is(err, errChanged) {
		return r.Step(ctx, p.batch.after, p.limit, 0)
	}
	if err == nil {
		r.reuse(p.batch)
	}
	return out, err
}

var errChanged = errors.New("data keys changed while they were being rewrapped")

// newBatch returns an empty batch, in the room of one that was written.
func (r *Rotation) newBatch(after int64) *batch {
	b := new(batch)
	select {
	case b = <-r.spare:
	default:
	}
	b.after, b.last = after, after
	return b
}

// reuse keeps the room of a batch that was written for another: for values it is
// much.
func (r *Rotation) reuse(b *batch) {
	if len(b.values) == 0 {
		return
	}
	f := found{rows: b.found.rows[:0], bytes: b.found.bytes[:0]}
	select {
	case r.spare <- &batch{rows: b.rows[:0], old: b.old[:0], new: b.new[:0], values: b.values[:0], found: f}:
	default:
	}
}

// batch is data keys that were read together, with their new wraps.
type batch struct {
	after, last int64
	end         bool
	rows        []batchRow
	old, new    []byte // crypto.WrappedSize bytes a row
	values      []byte // new sealed values, one after the other
	failures    []Failure
	read        int // rows, with those that failed

	ids   []byte // of the secret versions of rows that were read packed, to make new
	found found  // what is to make new of other rows
}

type batchRow struct {
	id     int64
	source int64  // row of the master key version that wraps it now
	value  []byte // its new sealed value; nil if it keeps the old one
}

const (
	// oldVersions selects the versions of a master key that are not its
	// primary: progress is what is still under them, not a saved place.
	oldVersions = `
		SELECT kv.id
		FROM reseal_master_key_versions AS kv
		JOIN reseal_master_keys AS k ON k.id = kv.master_key
		WHERE k.id = ?1 AND kv.number <> k.primary_version`

	selectBatch = `
		SELECT d.id, d.master_key_version, d.wrapped, v.version_id
		FROM reseal_data_keys AS d
		LEFT JOIN reseal_secret_versions AS v ON v.id = d.id
		WHERE d.id > ?2 AND d.master_key_version IN (` + oldVersions + `)
		ORDER BY d.id
		LIMIT ?3`

	selectBatchOfPrefix = `
		SELECT d.id, d.master_key_version, d.wrapped, v.version_id
		FROM reseal_data_keys AS d
		JOIN reseal_secret_versions AS v ON v.id = d.id
		JOIN reseal_secrets AS s ON s.id = v.secret
		WHERE d.id > ?2 AND d.master_key_version IN (` + oldVersions + `) AND substr(s.name, 1, length(?4)) = ?4
		ORDER BY d.id
		LIMIT ?3`
)

// reading is how a batch is read.
type reading int

const (
	asOneRow reading = iota // if it is smooth, or has values: the new envelopes are still to be made
	rowByRow                // each with its new envelopes
)

// read reads the next rows of a version rotation. Those that it reads row by row
// it moves, in memory.
func (r *Rotation) read(m *mover, after int64, limit int, how reading) (*batch, error) {
	b := r.newBatch(after)
	query, args, scan := selectBatch, []any{r.scope.from, after, limit}, b.scan
	switch {
	case r.scope.replaced.reencrypt:
		query, args, scan = selectReencrypt, append(args, r.scope.prefix, r.scope.replaced.limit()), b.scanValues
	case r.scope.prefix != "":
		query, args = selectBatchOfPrefix, append(args, r.scope.prefix)
	}
	if !r.scope.replaced.reencrypt && how == asOneRow {
		done, err := r.readRange(m, b, limit)
		if !done && err == nil {
			done, err = b.readPacked(m, query, args)
			r.remember(b)
		}
		if b.end = b.read < limit; done || err != nil {
			return b, err
		}
	}
	if err := b.find(m, query, args, scan); err != nil {
		return nil, err
	}
	b.end = b.read < limit && len(b.found.bytes) < MaxBatchBytes
	if r.scope.replaced.reencrypt && how == asOneRow {
		return b, nil
	}
	for _, f := range b.make(m) {
		failure, err := m.t.describeFailure(f.batchRow, f.from, f.err)
		if err != nil {
			return nil, err
		}
		b.failures = append(b.failures, failure)
	}
	return b, nil
}

// find reads rows, until there are enough bytes of them.
func (b *batch) find(m *mover, query string, args []any, scan func(*mover, *sql.Rows) error) error {
	rows, err := m.t.q.QueryContext(m.t.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for len(b.found.bytes) < MaxBatchBytes && rows.Next() {
		if err := scan(m, rows); err != nil {
			return err
		}
		b.read, b.last = len(b.found.rows), b.found.rows[len(b.found.rows)-1].id
	}
	return rows.Err()
}

// scan takes a row of selectBatch.
func (b *batch) scan(m *mover, rows *sql.Rows) error {
	var row foundRow
	var wrapped, versionID sql.RawBytes
	err := rows.Scan(&row.id, &row.source, &wrapped, &versionID)
	if err != nil {
		return err
	}
	if len(versionID) != len(row.versionID) {
		err = damaged("its secret version is missing")
	}
	copy(row.versionID[:], versionID)
	return b.found.add(m, row, wrapped, nil, err)
}

// describeFailure finds the names for a data key that cannot be moved.
func (t *tx) describeFailure(row batchRow, from *source, cause error) (Failure, error) {
	f := Failure{Error: cause.Error(), Remedy: "reseal verify --deep"}
	if from.key != nil {
		f.Key = from.key.name
	}
	err := t.queryRow(`
		SELECT s.name, v.number
		FROM reseal_secret_versions AS v
		JOIN reseal_secrets AS s ON s.id = v.secret
		WHERE v.id = ?`, row.id).Scan(&f.Secret, &f.Version)
	if errors.Is(err, sql.ErrNoRows) {
		return f, nil
	}
	var e *Error
	if errors.As(cause, &e) && e.Detail != "" {
		f.Error = e.Detail
	}
	f.Remedy = from.remedy(f.Secret, f.Version)
	return f, err
}
