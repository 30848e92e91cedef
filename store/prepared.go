package store

import (
	"context"
	"database/sql"
)

// prepared is statements of a store in a host's database, by their text. Each
// connection of the host's compiles one when it first runs it, and keeps it: to
// compile the statements of a put, with the CHECKs and triggers of their tables,
// takes longer than to run them.
type prepared map[string]*sql.Stmt

// oftenJoined is what PutTx runs, and GetTx of a label. What is not in it is
// compiled each time: PRAGMA secure_delete must be, because SQLite takes its
// answer when it compiles it.
var oftenJoined = []string{
	beginTx,
	schemaVersion,
	selectState,
	selectSecretByName,
	selectKeys + keyByRow + keyOrder,
	selectOpenJobs,
	selectWraps,
	packedByName,
	insertSecret,
	insertVersion,
	insertDataKey,
	insertLabel,
	upsertLabel,
	updateSecret,
	insertEvent,
	updateState,
}

// prepareIn prepares them in a host's pool, of which a connection must be free: in
// a caller's transaction it may be the only one.
func prepareIn(ctx context.Context, db *sql.DB) (prepared, error) {
	p := prepared{}
	for _, query := range oftenJoined {
		st, err := db.PrepareContext(ctx, query)
		if err != nil {
			p.close()
			return nil, err
		}
		p[query] = st
	}
	return p, nil
}

func (p prepared) close() {
	for _, st := range p {
		st.Close()
	}
}

// callersTx is a caller's transaction with the prepared statements of its
// connection.
type callersTx struct {
	*sql.Tx
	prepared prepared
	stmts    map[string]*sql.Stmt
}

func (p prepared) in(caller *sql.Tx) querier {
	return &callersTx{Tx: caller, prepared: p, stmts: map[string]*sql.Stmt{}}
}

// stmt returns the statement for query, or nil.
func (c *callersTx) stmt(ctx context.Context, query string) *sql.Stmt {
	if st := c.stmts[query]; st != nil {
		return st
	}
	st := c.prepared[query]
	if st != nil {
		st = c.StmtContext(ctx, st)
		c.stmts[query] = st
	}
	return st
}

func (c *callersTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if st := c.stmt(ctx, query); st != nil {
		return st.ExecContext(ctx, args...)
	}
	return c.Tx.ExecContext(ctx, query, args...)
}

func (c *callersTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if st := c.stmt(ctx, query); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return c.Tx.QueryContext(ctx, query, args...)
}

func (c *callersTx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if st := c.stmt(ctx, query); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return c.Tx.QueryRowContext(ctx, query, args...)
}
