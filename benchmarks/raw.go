package benchmarks

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"net/url"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"
	_ "modernc.org/sqlite" // the same driver as reseal's
)

// rawStore is what one would write without reseal: one table of sealed values
// with their wrapped keys, on a connection with the same settings and its
// statements prepared. The cipher binds nothing to its place and commits to
// nothing.
type rawStore struct {
	db   *sql.DB
	conn *sql.Conn
	kek  cipher.AEAD

	insert, get *sql.Stmt
}

const (
	rawSealed  = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
	rawWrapped = rawSealed + chacha20poly1305.KeySize
)

func rawDSN(dir string) string {
	q := url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "synchronous(FULL)", "journal_mode(WAL)", "secure_delete(1)", "foreign_keys(1)", "cell_size_check(1)", "temp_store(MEMORY)",
	}}
	return (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(dir, "raw.db"), RawQuery: q.Encode()}).String()
}

// openRaw makes the table in dir.
func openRaw(ctx context.Context, dir string) (_ *rawStore, err error) {
	r := new(rawStore)
	key := make([]byte, chacha20poly1305.KeySize)
	rand.Read(key)
	if r.kek, err = chacha20poly1305.NewX(key); err != nil {
		return nil, err
	}
	if r.db, err = sql.Open("sqlite", rawDSN(dir)); err != nil {
		return nil, err
	}
	if r.conn, err = r.db.Conn(ctx); err != nil {
		return nil, err
	}
	if _, err = r.conn.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS secrets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sealed BLOB NOT NULL, wrapped BLOB NOT NULL) STRICT`); err != nil {
		return nil, err
	}
	if r.insert, err = r.conn.PrepareContext(ctx, `INSERT INTO secrets (name, sealed, wrapped) VALUES (?, ?, ?)`); err != nil {
		return nil, err
	}
	r.get, err = r.conn.PrepareContext(ctx, `SELECT sealed, wrapped FROM secrets WHERE name = ?`)
	return r, err
}

func (r *rawStore) close() error {
	r.insert.Close()
	r.get.Close()
	r.conn.Close()
	return r.db.Close()
}

// seal seals a value under a fresh data key, and that under the one key.
func (r *rawStore) seal(value []byte) (sealed, wrapped []byte, err error) {
	var dek [chacha20poly1305.KeySize]byte
	rand.Read(dek[:])
	a, err := chacha20poly1305.NewX(dek[:])
	if err != nil {
		return nil, nil, err
	}
	return sealWith(a, value), sealWith(r.kek, dek[:]), nil
}

// sealWith returns a random nonce with what it seals.
func sealWith(a cipher.AEAD, plain []byte) []byte {
	out := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	rand.Read(out)
	return a.Seal(out, out, plain, nil)
}

func openWith(a cipher.AEAD, sealed []byte) ([]byte, error) {
	return a.Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], nil)
}

func (r *rawStore) open(sealed, wrapped []byte) ([]byte, error) {
	dek, err := openWith(r.kek, wrapped)
	if err != nil {
		return nil, err
	}
	a, err := chacha20poly1305.NewX(dek)
	if err != nil {
		return nil, err
	}
	return openWith(a, sealed)
}

func (r *rawStore) read(ctx context.Context, name string) ([]byte, error) {
	var sealed, wrapped []byte
	if err := r.get.QueryRowContext(ctx, name).Scan(&sealed, &wrapped); err != nil {
		return nil, err
	}
	return r.open(sealed, wrapped)
}

// fill inserts n secrets in transactions of a thousand.
func (r *rawStore) fill(ctx context.Context, from, n int, value []byte) error {
	for at := from; at < from+n; at += 1000 {
		err := r.bulk(ctx, at, min(1000, from+n-at), func() ([]byte, []byte, error) { return r.seal(value) })
		if err != nil {
			return err
		}
	}
	return nil
}

// bulk inserts n secrets in one transaction.
func (r *rawStore) bulk(ctx context.Context, from, n int, seal func() (sealed, wrapped []byte, err error)) error {
	if _, err := r.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for i := range n {
		sealed, wrapped, err := seal()
		if err != nil {
			return err
		}
		if _, err := r.insert.ExecContext(ctx, secretName(from+i), sealed, wrapped); err != nil {
			return err
		}
	}
	_, err := r.conn.ExecContext(ctx, "COMMIT")
	return err
}

// analyze runs ANALYZE on the store in dir, as a host or an operator may. The
// store's connections notice it with their next statement.
func analyze(ctx context.Context, dir string) error {
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(dir, "reseal.db"), RawQuery: "_pragma=busy_timeout(10000)"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, "ANALYZE")
	return err
}
