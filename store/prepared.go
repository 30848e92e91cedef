package store

import (
	"context"
	"database/sql"
	"sync"
)

// prepared is statements of a store in a host's database, by their text. Each
// connection of the host's compiles one when it first runs it, and keeps it: to
// compile the statements of a put, with the CHECKs and triggers of their tables,
// takes longer than to run them.
type prepared map[string]*sql.Stmt

// often is what a put runs, and a get of a label. What is not in it is compiled
// each time: PRAGMA secure_delete must be, because SQLite takes its answer when it
// compiles it.
var often = []string{
	beginTx,
	takeLock,
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
	for _, query := range often {
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

// preparing runs the statements that are prepared as such, and others as they are.
type preparing struct {
	querier
	stmt func(ctx context.Context, query string) *sql.Stmt // nil for one that is not prepared
}

// in is a transaction in the host's pool, or a caller's which may be in another.
func (p prepared) in(sqlTx *sql.Tx) *preparing {
	var mu sync.Mutex               // goroutines may share a caller's
	stmts := map[string]*sql.Stmt{} // of the transaction's connection
	return &preparing{sqlTx, func(ctx context.Context, query string) *sql.Stmt {
		mu.Lock()
		defer mu.Unlock()
		st := stmts[query]
		if st == nil && p[query] != nil {
			st = sqlTx.StmtContext(ctx, p[query])
			stmts[query] = st
		}
		return st
	}}
}

// inCaller is a caller's transaction. Its statements are those of the verb before,
// if that was in it too: database/sql keeps them all until the transaction ends,
// which are 3 KB for each verb.
func (s *Store) inCaller(caller *sql.Tx) querier {
	q := s.joined.Load()
	if q == nil || q.querier != querier(caller) {
		q = s.prepared.in(caller)
		s.joined.Store(q)
	}
	return q
}

// pool is the host's pool.
func (p prepared) pool(db *sql.DB) querier {
	return &preparing{db, func(_ context.Context, query string) *sql.Stmt { return p[query] }}
}

func (p *preparing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if st := p.stmt(ctx, query); st != nil {
		return st.ExecContext(ctx, args...)
	}
	return p.querier.ExecContext(ctx, query, args...)
}

func (p *preparing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if st := p.stmt(ctx, query); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return p.querier.QueryContext(ctx, query, args...)
}

func (p *preparing) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if st := p.stmt(ctx, query); st != nil {
		return st.QueryRowContext(ctx, args...)
	}
	return p.querier.QueryRowContext(ctx, query, args...)
}
