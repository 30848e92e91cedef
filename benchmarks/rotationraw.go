package benchmarks

import (
	"context"
	"crypto/rand"
	"database/sql"
	"time"

	"github.com/reseal/reseal/crypto"
)

// rawTable is rows of an id, a number and bytes of one length, as they are
// before and after a rotation.
type rawTable struct {
	*sql.Conn
	db     *sql.DB
	n      int
	length int
	number int64
}

// openTable makes n rows of random bytes in dir.
func openTable(ctx context.Context, dir string, n, length int) (*rawTable, error) {
	db, err := sql.Open("sqlite", rawDSN(dir))
	if err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	t := &rawTable{Conn: conn, db: db, n: n, length: length}
	if _, err := t.ExecContext(ctx, `
		CREATE TABLE data_keys (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, wrapped BLOB NOT NULL) STRICT`); err != nil {
		return nil, err
	}
	return t, t.inBatches(ctx, 10_000, func(first, last int) error {
		_, err := t.ExecContext(ctx, `
			WITH RECURSIVE ids (id) AS (SELECT ?1 UNION ALL SELECT id + 1 FROM ids WHERE id < ?2)
			INSERT INTO data_keys (id, version, wrapped)
			SELECT id, 0, randomblob(?3) FROM ids`, first, last, length)
		return err
	})
}

func (t *rawTable) close() error {
	t.Conn.Close()
	return t.db.Close()
}

// inBatches calls fn for the rows from first to last, so many in a transaction.
func (t *rawTable) inBatches(ctx context.Context, size int, fn func(first, last int) error) error {
	for first := 1; first <= t.n; first += size {
		if _, err := t.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
			return err
		}
		if err := fn(first, min(first+size-1, t.n)); err != nil {
			return err
		}
		if _, err := t.ExecContext(ctx, "COMMIT"); err != nil {
			return err
		}
	}
	return nil
}

const (
	rawBatch = 2000 // rows in a transaction, as reseal's
	rawSpan  = 1000 // rows in a statement, as reseal's
)

// work makes the table's work of a way to write all rows.
func (t *rawTable) work(all func(ctx context.Context) error) *Work {
	return &Work{Close: t.close, Do: func(ctx context.Context, _ int) (Sample, error) {
		t.number++
		began := time.Now()
		err := all(ctx)
		return Sample{Time: time.Since(began), N: t.n}, err
	}}
}

// rawRange overwrites ranges of rows with bytes that lie ready.
func rawRange(n int) Side {
	return Side{Name: "range UPDATE, no cipher", N: n, Rounds: rounds(n), Open: func(ctx context.Context, dir string) (*Work, error) {
		t, err := openTable(ctx, dir, n, crypto.WrappedSize)
		if err != nil {
			return nil, err
		}
		update, err := t.PrepareContext(ctx, `
			UPDATE data_keys
			SET wrapped = substr(?1, (id - ?2) * 108 + 1, 108), version = ?3
			WHERE id BETWEEN ?2 AND ?4`)
		bytes := make([]byte, rawSpan*crypto.WrappedSize)
		return t.work(func(ctx context.Context) error {
			rand.Read(bytes)
			return t.inBatches(ctx, rawBatch, func(first, last int) error {
				for at := first; at <= last; at += rawSpan {
					if _, err := update.ExecContext(ctx, bytes, at, t.number, min(at+rawSpan-1, last)); err != nil {
						return err
					}
				}
				return nil
			})
		}), err
	}}
}

// rawRewrite overwrites row by row with longer bytes that lie ready.
func rawRewrite(n, length int) Side {
	return Side{Name: "UPDATE, no cipher", N: n, Rounds: rounds(n), Open: func(ctx context.Context, dir string) (*Work, error) {
		t, err := openTable(ctx, dir, n, length+crypto.Overhead)
		if err != nil {
			return nil, err
		}
		update, err := t.PrepareContext(ctx, `UPDATE data_keys SET wrapped = ?, version = ? WHERE id = ?`)
		bytes := make([]byte, t.length)
		return t.work(func(ctx context.Context) error {
			rand.Read(bytes)
			return t.inBatches(ctx, rawBatch, func(first, last int) error {
				for id := first; id <= last; id++ {
					if _, err := update.ExecContext(ctx, bytes, t.number, id); err != nil {
						return err
					}
				}
				return nil
			})
		}), err
	}}
}

// rowByRow is the loop that one would write, with reseal's cipher: select a
// batch, rewrap each data key, update each row.
func rowByRow(n int) Side {
	return Side{Name: "row by row, same cipher", N: n, Rounds: rounds(n), Open: func(ctx context.Context, dir string) (*Work, error) {
		t, err := openTable(ctx, dir, n, crypto.WrappedSize)
		if err != nil {
			return nil, err
		}
		l := &rowLoop{t: t, key: crypto.NewKey()}
		_, l.place = contexts()
		if err := l.prepare(ctx); err != nil {
			return nil, err
		}
		return t.work(l.all), nil
	}}
}

type rowLoop struct {
	t           *rawTable
	key         *crypto.Key
	place       []byte
	read, write *sql.Stmt
	ids         []int64
	wraps       [][]byte
}

// prepare puts wraps that open in all rows.
func (l *rowLoop) prepare(ctx context.Context) (err error) {
	if l.read, err = l.t.PrepareContext(ctx, `SELECT id, wrapped FROM data_keys WHERE id BETWEEN ? AND ?`); err != nil {
		return err
	}
	if l.write, err = l.t.PrepareContext(ctx, `UPDATE data_keys SET wrapped = ?, version = ? WHERE id = ? AND wrapped = ?`); err != nil {
		return err
	}
	_, wrapped, err := l.key.SealValue(nil, nil, []byte("x"), nil, l.place)
	if err != nil {
		return err
	}
	_, err = l.t.ExecContext(ctx, `UPDATE data_keys SET wrapped = ?`, wrapped)
	return err
}

func (l *rowLoop) all(ctx context.Context) error {
	next := crypto.NewKey()
	err := l.t.inBatches(ctx, rawBatch, func(first, last int) error { return l.batch(ctx, next, first, last) })
	l.key = next
	return err
}

func (l *rowLoop) batch(ctx context.Context, next *crypto.Key, first, last int) error {
	rows, err := l.read.QueryContext(ctx, first, last)
	if err != nil {
		return err
	}
	defer rows.Close()
	l.ids, l.wraps = l.ids[:0], l.wraps[:0]
	for rows.Next() {
		var id int64
		var wrapped []byte
		if err := rows.Scan(&id, &wrapped); err != nil {
			return err
		}
		l.ids, l.wraps = append(l.ids, id), append(l.wraps, wrapped)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for i, id := range l.ids {
		wrapped, err := crypto.Rewrap(nil, l.key, next, l.wraps[i], l.place, l.place)
		if err != nil {
			return err
		}
		if _, err := l.write.ExecContext(ctx, wrapped, l.t.number, id, l.wraps[i]); err != nil {
			return err
		}
	}
	return nil
}
