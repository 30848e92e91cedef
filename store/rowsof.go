package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
)

// rowsOf calls fn with the columns of each row of a query, each an int64, a
// string, a []byte or nil. They are fn's to keep, the slice that they are in is
// not. On a connection of the store's own fn must use no statement: the driver is
// asked past database/sql, which takes a fifth of the time of a short read.
func rowsOf(ctx context.Context, q querier, fn func([]driver.Value) error, query string, args ...any) error {
	if p, ok := q.(*pinned); ok {
		return p.rowsOf(ctx, fn, query, args)
	}
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	row, columns, into := make([]any, len(names)), make([]driver.Value, len(names)), make([]any, len(names))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, v := range row {
			columns[i] = v
		}
		if err := fn(columns); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p *pinned) rowsOf(ctx context.Context, fn func([]driver.Value) error, query string, args []any) error {
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return err
		}
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return p.Conn.Raw(func(conn any) error {
		st, err := p.driverStmt(ctx, conn, query)
		if err != nil {
			return err
		}
		rows, err := st.QueryContext(ctx, named)
		if err != nil {
			return err
		}
		defer rows.Close()
		columns := make([]driver.Value, len(rows.Columns()))
		for {
			switch err := rows.Next(columns); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := fn(columns); err != nil {
				return err
			}
		}
	})
}

// textOf is a column of text, "" if it is null. One bit of a row makes text the
// same text as bytes.
func textOf(column driver.Value) string {
	if b, ok := column.([]byte); ok {
		return string(b)
	}
	text, _ := column.(string)
	return text
}

// driverStmt is a prepared statement of the driver's.
type driverStmt interface {
	driver.Stmt
	driver.StmtQueryContext
}

func (p *pinned) driverStmt(ctx context.Context, conn any, query string) (driverStmt, error) {
	if st, ok := p.driverStmts[query]; ok {
		return st, nil
	}
	st, err := conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	p.driverStmts[query] = st.(driverStmt)
	return p.driverStmts[query], nil
}
