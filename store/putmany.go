package store

import (
	"context"
	"database/sql"
	"encoding/json"
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
	for at, p := range puts {
		if err := t.live.Err(); err != nil {
			return nil, err
		}
		if at%readAheadOf == 0 {
			if err := t.readAhead(puts[at:min(at+readAheadOf, len(puts))]); err != nil {
				return nil, err
			}
		}
		plan, err := t.planPut(p)
		if err == nil && !plan.res.Replayed {
			plan.res, err = t.writePut(plan)
			t.memo.secrets[p.name] = plan.sec
		}
		if err != nil {
			return nil, err
		}
		out = append(out, plan.res)
	}
	t.memo.holds = true
	return out, nil
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
