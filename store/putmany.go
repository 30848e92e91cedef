package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
)

// Item is one value for PutMany. Like a Value it cannot be printed.
type Item struct{ put func() put }

// NewItem returns what Put takes, for PutMany. It does not copy value, which must
// stay as it is until PutMany returns.
func NewItem(name string, value []byte, opts *PutOptions) Item {
	p := put{name: name, value: value}
	if opts != nil {
		p.PutOptions = *opts
	}
	return Item{put: func() put { return p }}
}

// PutMany is Put for many values in one transaction: all of them are written, or
// none. It holds the write lock meanwhile, and takes memory for what it wrote, so
// that a few thousand values at a time are enough. The results are in the order
// of the items. Items with the same name make several versions, in order.
//
// Errors: those of Put, of the first item that has one.
func (s *Store) PutMany(ctx context.Context, items []Item) ([]PutResult, error) {
	puts, err := s.newPuts(items)
	if err != nil || len(puts) == 0 {
		return nil, err
	}
	var out []PutResult
	err = s.write(ctx, func(t *tx) (err error) { out, err = t.putMany(puts); return err })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// PutManyTx is PutMany in the caller's transaction.
func (s *Store) PutManyTx(ctx context.Context, caller *sql.Tx, items []Item) ([]PutResult, error) {
	puts, err := s.newPuts(items)
	if err != nil || len(puts) == 0 {
		return nil, err
	}
	var out []PutResult
	err = s.join(ctx, caller, func(t *tx) (err error) { out, err = t.putMany(puts); return err })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// newPuts checks the items before the write lock is taken.
func (s *Store) newPuts(items []Item) ([]put, error) {
	puts := make([]put, 0, len(items))
	for _, it := range items {
		if it.put == nil {
			return nil, invalid("an item that NewItem did not make")
		}
		p := it.put()
		p, err := s.newPut(p.name, p.value, &p.PutOptions)
		if err != nil {
			return nil, err
		}
		puts = append(puts, p)
	}
	return puts, nil
}

// readAheadOf is how many names are looked up in one statement.
const readAheadOf = 256

func (t *tx) putMany(puts []put) ([]PutResult, error) {
	out := make([]PutResult, 0, len(puts))
	if len(puts) >= readAheadOf && t.q == querier(t.s.writer) {
		// A thousand values with their indexes are more than 2 MB, and what has no
		// room is written to the log more than once.
		defer roomForPages(t.q, 8<<10)()
	}
	for some := range slices.Chunk(puts, readAheadOf) {
		if err := t.readAhead(some); err != nil {
			return nil, err
		}
		for len(some) > 0 {
			plans, err := t.putRun(some)
			if err != nil {
				return nil, err
			}
			for _, plan := range plans {
				out = append(out, plan.res)
			}
			some = some[len(plans):]
		}
	}
	t.memo.holds = true
	return out, nil
}

// putRun writes the first of puts, with as many others as may be written
// together, and returns their plans, at least one.
func (t *tx) putRun(puts []put) ([]*putPlan, error) {
	bulk, err := t.planBulk(puts)
	if err != nil {
		return nil, err
	}
	whole := len(bulk) - len(bulk)%bulkRows
	if err := t.writeBulk(bulk[:whole]); err != nil {
		return nil, err
	}
	plans := make([]*putPlan, 0, len(bulk)+1)
	for i, p := range bulk {
		if i >= whole {
			if err := t.putPlanned(p.putPlan); err != nil {
				return nil, err
			}
		}
		plans = append(plans, p.putPlan)
	}
	if len(plans) > 0 {
		return plans, nil
	}
	plan, err := t.planPut(puts[0])
	if err == nil && !plan.res.Replayed {
		err = t.putPlanned(plan)
		t.memo.secrets[plan.name] = plan.sec
	}
	return append(plans, plan), err
}

func (t *tx) putPlanned(plan *putPlan) (err error) {
	if err := t.live.Err(); err != nil {
		return err
	}
	plan.res, err = t.writePut(plan)
	return err
}

// readAhead reads and checks the secrets that the next puts name.
func (t *tx) readAhead(puts []put) error {
	names := make([]string, len(puts))
	t.memo.secrets = make(map[string]*secret, len(puts))
	for i, p := range puts {
		names[i] = p.name
		t.memo.secrets[p.name] = nil
	}
	return loadSecrets(t.ctx, t.q, names, func(sec *secret) error {
		t.memo.secrets[sec.name] = sec
		return t.s.keys.checkSecret(sec)
	})
}

// loadSecrets reads the secrets of those names that there are, unchecked, in one
// statement.
func loadSecrets(ctx context.Context, q querier, names []string, each func(*secret) error) error {
	list, err := json.Marshal(names)
	if err != nil {
		return err
	}
	rows, err := q.QueryContext(ctx, selectSecret+`
		WHERE s.name IN (SELECT CAST(value AS TEXT) FROM json_each(?))
		ORDER BY s.id, l.label`, string(list))
	if err != nil {
		return err
	}
	return scanSecrets(rows, each)
}
