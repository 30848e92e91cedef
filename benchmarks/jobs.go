package benchmarks

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"io"
	"path/filepath"
	"time"

	"github.com/tailscale/setec/acl"
	"github.com/tailscale/setec/audit"
	"github.com/tailscale/setec/db"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// jobCases are the whole job with other means: store secrets of 1 KiB, read
// them at random, move all to a new master key.
func jobCases() []Case {
	return []Case{
		{ID: "job/put", Title: "store 10,000 secrets of 1 KiB", Per: "secret", Sides: append([]Side{resealJob("put"), columnJob("put"), setecPut(500)}, sopsPut()...)},
		{ID: "job/get", Title: "read one of 10,000 at random", Per: "secret", Sides: append([]Side{getSide(1), columnJob("get"), setecGet(500)}, sopsGet()...)},
		{ID: "job/move", Title: "move 10,000 secrets to a new master key", Per: "secret", Sides: append([]Side{resealJob("move"), columnJob("move")}, sopsMove()...)},
	}
}

// resealJob stores all in one PutMany for each thousand, or moves them from one
// master key to another and reads every wrap back.
func resealJob(what string) Side {
	return Side{Name: "reseal", N: readFrom, Rounds: 3, Open: func(ctx context.Context, dir string) (*Work, error) {
		n, value := 0, make([]byte, valueSize)
		if what == "move" {
			n = readFrom
		}
		s, err := filledStore(ctx, dir, n, valueSize)
		if err != nil {
			return nil, err
		}
		at, from, to := 0, rotatedKey, store.DefaultKeyName
		return timed(func(ctx context.Context, n int) error {
			if what == "put" {
				at += n
				return fill(ctx, s, at-n, n, value)
			}
			_, err := rotate.Run(ctx, s, rotate.Options{From: from, To: to, Pause: -1})
			from, to = to, from
			return err
		}, s.Close), nil
	}}
}

// column is the forty lines that many write: a table with an encrypted column,
// all of it under one key, and a loop that encrypts it anew.
type column struct {
	db  *sql.DB
	key cipher.AEAD
	at  int
	reader
}

func columnJob(what string) Side {
	side := Side{Name: "a table with an encrypted column, AES-256-GCM", N: readFrom, Rounds: 3}
	if what == "get" {
		side.N, side.Rounds = 0, 0
	}
	side.Open = func(ctx context.Context, dir string) (*Work, error) {
		c, err := openColumn(ctx, dir)
		if err != nil {
			return nil, err
		}
		do := map[string]func(context.Context, int) error{"put": c.put, "get": c.get, "move": c.move}[what]
		if what != "put" {
			err = c.put(ctx, readFrom)
		}
		return timed(do, c.db.Close), err
	}
	return side
}

func openColumn(ctx context.Context, dir string) (*column, error) {
	key := make([]byte, 32)
	rand.Read(key)
	a, err := gcm(key)
	if err != nil {
		return nil, err
	}
	d, err := sql.Open("sqlite", rawDSN(dir))
	if err != nil {
		return nil, err
	}
	_, err = d.ExecContext(ctx, `CREATE TABLE secrets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value BLOB NOT NULL)`)
	return &column{db: d, key: a}, err
}

func (c *column) inTx(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (c *column) put(ctx context.Context, n int) error {
	value := make([]byte, valueSize)
	return c.inTx(ctx, func(tx *sql.Tx) error {
		for range n {
			if _, err := tx.ExecContext(ctx, `INSERT INTO secrets (name, value) VALUES (?, ?)`, secretName(c.at), gcmSeal(c.key, value)); err != nil {
				return err
			}
			c.at++
		}
		return nil
	})
}

func (c *column) get(ctx context.Context, n int) error {
	for range n {
		var b []byte
		if err := c.db.QueryRowContext(ctx, `SELECT value FROM secrets WHERE name = ?`, c.next()).Scan(&b); err != nil {
			return err
		}
		if _, err := c.key.Open(nil, b[:12], b[12:], nil); err != nil {
			return err
		}
	}
	return nil
}

// move encrypts every row anew, all in one transaction.
func (c *column) move(ctx context.Context, _ int) error {
	key := make([]byte, 32)
	rand.Read(key)
	next, err := gcm(key)
	if err != nil {
		return err
	}
	err = c.inTx(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT id, value FROM secrets`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			var b []byte
			if err := rows.Scan(&id, &b); err != nil {
				return err
			}
			plain, err := c.key.Open(nil, b[:12], b[12:], nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `UPDATE secrets SET value = ? WHERE id = ?`, gcmSeal(next, plain), id); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err == nil {
		c.key = next
	}
	return err
}

var setecCaller = db.Caller{Permissions: acl.Rules{{
	Action: []acl.Action{acl.ActionGet, acl.ActionPut, acl.ActionInfo, acl.ActionActivate},
	Secret: []acl.Secret{"*"},
}}}

// openSetec makes a database of n secrets. The audit log goes nowhere.
func openSetec(dir string, n int) (*db.DB, error) {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return nil, err
	}
	kek, err := aead.New(handle)
	if err != nil {
		return nil, err
	}
	d, err := db.Open(filepath.Join(dir, "setec.db"), kek, audit.New(nowhere{}))
	if err != nil {
		return nil, err
	}
	for i := range n {
		if _, err := d.Put(setecCaller, secretName(i), make([]byte, valueSize)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

type nowhere struct{ io.Writer }

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Sync() error                 { return nil }
func (nowhere) Close() error                { return nil }

// setecPut puts further secrets into a database of a few hundred: it writes the
// whole file each time, so that ten thousand would take an hour.
func setecPut(n int) Side {
	return Side{Name: "setec's db, from 500 secrets on", N: 20, Rounds: 3, Open: func(_ context.Context, dir string) (*Work, error) {
		d, err := openSetec(dir, n)
		at := n
		return &Work{Do: func(_ context.Context, n int) (Sample, error) {
			began := time.Now()
			for range n {
				if _, err := d.Put(setecCaller, secretName(at), make([]byte, valueSize)); err != nil {
					return Sample{}, err
				}
				at++
			}
			return Sample{Time: time.Since(began), N: n}, nil
		}}, err
	}}
}

// setecGet reads from memory, where setec has all values.
func setecGet(n int) Side {
	return Side{Name: "setec's db, of 500, from memory", Open: func(_ context.Context, dir string) (*Work, error) {
		d, err := openSetec(dir, n)
		i := 0
		return timed(func(_ context.Context, times int) error {
			for range times {
				i = (i*21 + 17) % n
				if _, err := d.Get(setecCaller, secretName(i)); err != nil {
					return err
				}
			}
			return nil
		}, nil), err
	}}
}
