package benchmarks

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/reseal/reseal/store"
)

// readFrom is how many secrets the stores have that are read from.
const readFrom = 10_000

// secretCases are single operations of a store.
func secretCases() []Case {
	return []Case{
		{ID: "store/get", Title: "get 1 KiB by name", Sides: []Side{rawGet(1), getSide(1)}},
		{ID: "store/get/2", Title: "get 1 KiB by name, two at once", Sides: []Side{rawGet(2), getSide(2)}},
		{ID: "store/get/many", Title: "get 256 secrets of 1 KiB at one moment", Per: "secret", Sides: []Side{rawGet(1), getManySide(256), getSide(1)}},
		{ID: "store/hot", Title: "the newest value, of a handle", Sides: []Side{hotSide(true), hotSide(false)}},
		{ID: "store/put", Title: "put 1 KiB, durable", Sides: []Side{rawPut(), putSide(1)}},
		{ID: "store/put/8", Title: "put 1 KiB, durable, eight at once", Sides: []Side{putSide(1), putSide(8)}},
		{ID: "store/put/caller", Title: "put 1 KiB in a durable transaction with a row of the caller's", Sides: []Side{rawPutCaller(), putCaller()}},
		{ID: "store/put/bulk", Title: "put 1,000 secrets of 1 KiB in one transaction", Per: "secret", Sides: []Side{rawBulk(), putManySide(), putTxSide()}},
		{ID: "store/list", Title: "list 1,000 secrets, wraps opened", Per: "list", Sides: []Side{rawList(), listSide()}},
		{ID: "store/set-key", Title: "set-key, one version", Sides: []Side{rawSetKey(), setKeySide()}},
	}
}

// reader is a walk over the names that are read, which does not follow the
// order in which they were put, and comes to all of them.
type reader struct{ i int }

func (r *reader) next() string {
	r.i = (r.i*21 + 17) % readFrom
	return secretName(r.i)
}

// each runs op n times, spread over some goroutines.
func each(ctx context.Context, workers, n int, op func(ctx context.Context, worker, i int) error) error {
	if workers == 1 {
		for i := range n {
			if err := op(ctx, 0, i); err != nil {
				return err
			}
		}
		return nil
	}
	var left, failed = atomic.Int64{}, make(chan error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for {
				i := int(left.Add(1)) - 1
				if i >= n {
					return
				}
				if err := op(ctx, w, i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

func named(name string, workers int) string {
	if workers == 1 {
		return name
	}
	return fmt.Sprintf("%s, %d at once", name, workers)
}

// rawGet reads with one prepared SELECT by name, on one connection a worker,
// and opens what it read.
func rawGet(workers int) Side {
	return Side{Name: named("SELECT and XChaCha20-Poly1305", workers), Open: func(ctx context.Context, dir string) (*Work, error) {
		first, err := openRaw(ctx, dir)
		if err != nil {
			return nil, err
		}
		if err := first.fill(ctx, 0, readFrom, make([]byte, valueSize)); err != nil {
			return nil, err
		}
		stores, readers := []*rawStore{first}, make([]reader, workers)
		for len(stores) < workers {
			another, err := openRaw(ctx, dir)
			if err != nil {
				return nil, err
			}
			another.kek = first.kek
			stores = append(stores, another)
		}
		return timed(func(ctx context.Context, n int) error {
			return each(ctx, workers, n, func(ctx context.Context, w, _ int) error {
				_, err := stores[w].read(ctx, readers[w].next())
				return err
			})
		}, func() error {
			for _, r := range stores {
				r.close()
			}
			return nil
		}), nil
	}}
}

func getSide(workers int) Side {
	return Side{Name: named("reseal", workers), Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := filledStore(ctx, dir, readFrom, valueSize)
		if err != nil {
			return nil, err
		}
		readers := make([]reader, workers)
		return timed(func(ctx context.Context, n int) error {
			return each(ctx, workers, n, func(ctx context.Context, w, _ int) error {
				_, err := s.Get(ctx, readers[w].next())
				return err
			})
		}, s.Close), nil
	}}
}

// getManySide reads so many at a time.
func getManySide(many int) Side {
	return Side{Name: "reseal, GetMany", Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := filledStore(ctx, dir, readFrom, valueSize)
		if err != nil {
			return nil, err
		}
		var r reader
		names := make([]string, many)
		return timed(func(ctx context.Context, n int) error {
			for done := 0; done < n; done += many {
				for i := range names {
					names[i] = r.next()
				}
				if _, err := s.GetMany(ctx, names[:min(many, n-done)]); err != nil {
					return err
				}
			}
			return nil
		}, s.Close), nil
	}}
}

// hotSide reads a value at hand, into a buffer that is kept or a new one.
func hotSide(kept bool) Side {
	name := map[bool]string{true: "Append, into a buffer that is kept", false: "Value, a copy each time"}[kept]
	return Side{Name: name, Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := filledStore(ctx, dir, 1, valueSize)
		if err != nil {
			return nil, err
		}
		h, err := s.Watch(ctx, secretName(0), nil)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, 0, valueSize)
		read := func(ctx context.Context) error { _, err := h.Value(ctx); return err }
		if kept {
			read = func(ctx context.Context) error { _, _, err := h.Append(ctx, buf); return err }
		}
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if err := read(ctx); err != nil {
					return err
				}
			}
			return nil
		}, s.Close), nil
	}}
}

// rawPut inserts sealed bytes, made before, in a transaction of its own.
func rawPut() Side {
	return Side{Name: "INSERT, no cipher", Open: func(ctx context.Context, dir string) (*Work, error) {
		r, err := openRaw(ctx, dir)
		if err != nil {
			return nil, err
		}
		sealed, wrapped, err := r.seal(make([]byte, valueSize))
		at := 0
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if _, err := r.insert.ExecContext(ctx, secretName(at), sealed, wrapped); err != nil {
					return err
				}
				at++
			}
			return nil
		}, r.close), err
	}}
}

func putSide(workers int) Side {
	return Side{Name: named("reseal", workers), Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := newStore(ctx, dir)
		if err != nil {
			return nil, err
		}
		value, at := make([]byte, valueSize), 0
		return timed(func(ctx context.Context, n int) error {
			first := at
			at += n
			return each(ctx, workers, n, func(ctx context.Context, _, i int) error {
				_, err := s.Put(ctx, secretName(first+i), value, nil)
				return err
			})
		}, s.Close), nil
	}}
}

// callersTable is a host application's own.
const callersTable = `CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT`

const callersInsert = `INSERT INTO account (name, created_at) VALUES (?, ?)`

// rawPutCaller inserts sealed bytes, made before, with the caller's row.
func rawPutCaller() Side {
	return Side{Name: "INSERT, no cipher", Open: func(ctx context.Context, dir string) (*Work, error) {
		r, err := openRaw(ctx, dir)
		if err != nil {
			return nil, err
		}
		if _, err := r.conn.ExecContext(ctx, callersTable); err != nil {
			return nil, err
		}
		sealed, wrapped, err := r.seal(make([]byte, valueSize))
		at := 0
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if err := r.putWith(ctx, secretName(at), sealed, wrapped); err != nil {
					return err
				}
				at++
			}
			return nil
		}, r.close), err
	}}
}

func (r *rawStore) putWith(ctx context.Context, name string, sealed, wrapped []byte) error {
	tx, err := r.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, callersInsert, name, len(sealed)); err != nil {
		return err
	}
	if _, err := tx.StmtContext(ctx, r.insert).ExecContext(ctx, name, sealed, wrapped); err != nil {
		return err
	}
	return tx.Commit()
}

func putCaller() Side {
	return Side{Name: "reseal, PutTx", Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := newStore(ctx, dir)
		if err != nil {
			return nil, err
		}
		err = s.Update(ctx, func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, callersTable); return err })
		value, at := make([]byte, valueSize), 0
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if err := s.Update(ctx, func(tx *sql.Tx) error {
					if _, err := tx.ExecContext(ctx, callersInsert, secretName(at), len(value)); err != nil {
						return err
					}
					_, err := s.PutTx(ctx, tx, secretName(at), value, nil)
					return err
				}); err != nil {
					return err
				}
				at++
			}
			return nil
		}, s.Close), err
	}}
}

// rawBulk inserts sealed bytes, made before, in one transaction a sample.
func rawBulk() Side {
	return Side{Name: "INSERT, no cipher", N: 1000, Open: func(ctx context.Context, dir string) (*Work, error) {
		r, err := openRaw(ctx, dir)
		if err != nil {
			return nil, err
		}
		sealed, wrapped, err := r.seal(make([]byte, valueSize))
		at := 0
		return timed(func(ctx context.Context, n int) error {
			first := at
			at += n
			return r.bulk(ctx, first, n, func() ([]byte, []byte, error) { return sealed, wrapped, nil })
		}, r.close), err
	}}
}

func putManySide() Side {
	return Side{Name: "reseal, PutMany", N: 1000, Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := newStore(ctx, dir)
		if err != nil {
			return nil, err
		}
		value, at := make([]byte, valueSize), 0
		return timed(func(ctx context.Context, n int) error {
			first := at
			at += n
			_, err := s.PutMany(ctx, items(first, n, value))
			return err
		}, s.Close), nil
	}}
}

func putTxSide() Side {
	return Side{Name: "reseal, PutTx", N: 1000, Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := newStore(ctx, dir)
		if err != nil {
			return nil, err
		}
		value, at := make([]byte, valueSize), 0
		return timed(func(ctx context.Context, n int) error {
			return s.Update(ctx, func(tx *sql.Tx) error {
				for range n {
					if _, err := s.PutTx(ctx, tx, secretName(at), value, nil); err != nil {
						return err
					}
					at++
				}
				return nil
			})
		}, s.Close), nil
	}}
}

// rawList reads the names and opens the wraps.
func rawList() Side {
	return Side{Name: "SELECT and XChaCha20-Poly1305", Open: func(ctx context.Context, dir string) (*Work, error) {
		r, err := openRaw(ctx, dir)
		if err != nil {
			return nil, err
		}
		if err := r.fill(ctx, 0, 1000, make([]byte, valueSize)); err != nil {
			return nil, err
		}
		list, err := r.conn.PrepareContext(ctx, `SELECT name, wrapped FROM secrets ORDER BY name`)
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if err := r.list(ctx, list); err != nil {
					return err
				}
			}
			return nil
		}, r.close), err
	}}
}

func (r *rawStore) list(ctx context.Context, list *sql.Stmt) error {
	rows, err := list.QueryContext(ctx)
	if err != nil {
		return err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		var wrapped []byte
		if err := rows.Scan(&name, &wrapped); err != nil {
			return err
		}
		if _, err := openWith(r.kek, wrapped); err != nil {
			return err
		}
		names = append(names, name)
	}
	return rows.Err()
}

func listSide() Side {
	return Side{Name: "reseal", Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := filledStore(ctx, dir, 1000, valueSize)
		if err != nil {
			return nil, err
		}
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if _, err := s.List(ctx, store.ListOptions{}); err != nil {
					return err
				}
			}
			return nil
		}, s.Close), nil
	}}
}

// rawSetKey wraps a data key under another key and writes that, durably.
func rawSetKey() Side {
	return Side{Name: "SELECT, XChaCha20-Poly1305 and UPDATE", Open: func(ctx context.Context, dir string) (*Work, error) {
		r, err := openRaw(ctx, dir)
		if err != nil {
			return nil, err
		}
		if err := r.fill(ctx, 0, 1, make([]byte, valueSize)); err != nil {
			return nil, err
		}
		update, err := r.conn.PrepareContext(ctx, `UPDATE secrets SET wrapped = ? WHERE name = ?`)
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if err := r.setKey(ctx, update, secretName(0)); err != nil {
					return err
				}
			}
			return nil
		}, r.close), err
	}}
}

func (r *rawStore) setKey(ctx context.Context, update *sql.Stmt, name string) error {
	var sealed, wrapped []byte
	if err := r.get.QueryRowContext(ctx, name).Scan(&sealed, &wrapped); err != nil {
		return err
	}
	dek, err := openWith(r.kek, wrapped)
	if err != nil {
		return err
	}
	next := make([]byte, chacha20poly1305.KeySize)
	rand.Read(next)
	if r.kek, err = chacha20poly1305.NewX(next); err != nil {
		return err
	}
	_, err = update.ExecContext(ctx, sealWith(r.kek, dek), name)
	return err
}

// setKeySide moves a secret to and fro between two keys.
func setKeySide() Side {
	return Side{Name: "reseal", Open: func(ctx context.Context, dir string) (*Work, error) {
		s, err := filledStore(ctx, dir, 1, valueSize)
		if err != nil {
			return nil, err
		}
		i, keys := 0, []string{store.DefaultKeyName, rotatedKey}
		return timed(func(ctx context.Context, n int) error {
			for range n {
				if _, err := s.SetKey(ctx, secretName(0), keys[i%2]); err != nil {
					return err
				}
				i++
			}
			return nil
		}, s.Close), nil
	}}
}
