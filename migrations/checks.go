package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// checkForeignKeys refuses rows of reseal's tables that refer to nothing. Their
// enforcement is off while migrations run.
func checkForeignKeys(ctx context.Context, one *sql.DB) error {
	tables, err := tableNames(ctx, one)
	if err != nil {
		return err
	}
	for _, table := range tables {
		var row sql.NullInt64
		var child, parent string
		var fk int64
		err := one.QueryRowContext(ctx, "PRAGMA main.foreign_key_check("+table+")").Scan(&child, &row, &parent, &fk)
		if err == nil {
			return fmt.Errorf("table %q row %d refers to a row of %q that does not exist: nothing was changed", child, row.Int64, parent)
		}
		if err != sql.ErrNoRows {
			return fmt.Errorf("check foreign keys of %q: %w", table, err)
		}
	}
	return nil
}

// tableNames returns the names of reseal's tables. They are safe to put into
// a statement: letters, digits and underscores, as the schema's check has seen.
func tableNames(ctx context.Context, db Queryer) ([]string, error) {
	all, err := readObjects(ctx, db)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range all.own() {
		if o.typ == "table" {
			names = append(names, o.name)
		}
	}
	return names, nil
}

// checkLoss refuses to go down a version when rows would be lost, unless the
// caller has said how many.
func (h *history) checkLoss(ctx context.Context, one *sql.DB, from, to, agreed int64) error {
	tables, err := h.losing(ctx, from, to)
	if err != nil {
		return err
	}
	var rows int64
	for _, table := range tables {
		var n int64
		if err := one.QueryRowContext(ctx, "SELECT count(*) FROM main."+table).Scan(&n); err != nil {
			return fmt.Errorf("count the rows of %q: %w", table, err)
		}
		rows += n
	}
	if rows != agreed {
		return &DataLossError{From: from, To: to, Rows: rows, Agreed: agreed}
	}
	return nil
}

// losing returns the tables that the older version does not have, or has with
// fewer columns.
func (h *history) losing(ctx context.Context, from, to int64) ([]string, error) {
	newer, err := h.columns(ctx, from)
	if err != nil {
		return nil, err
	}
	older, err := h.columns(ctx, to)
	if err != nil {
		return nil, err
	}
	var tables []string
	for table, columns := range newer {
		missing := func(column string) bool { return !slices.Contains(older[table], column) }
		if slices.ContainsFunc(columns, missing) {
			tables = append(tables, table)
		}
	}
	slices.Sort(tables)
	return tables, nil
}

// columns returns the names of the columns by table at a version.
func (h *history) columns(ctx context.Context, version int64) (map[string][]string, error) {
	columns := map[string][]string{}
	err := h.inMemory(ctx, version, func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `
			SELECT s.name, c.name
			FROM sqlite_schema AS s, pragma_table_info(s.name) AS c
			WHERE s.type = 'table' AND s.name LIKE 'reseal%' AND s.name <> '`+Table+`'`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var table, column string
			if err := rows.Scan(&table, &column); err != nil {
				return err
			}
			columns[table] = append(columns[table], column)
		}
		return rows.Err()
	})
	return columns, err
}
