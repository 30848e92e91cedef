package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Queryer reads. *sql.DB, *sql.Conn and *sql.Tx are Queryers.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Applied is a migration that a file has had.
type Applied struct {
	Version int64
	At      time.Time // UTC, to the second
	Name    string    // of the file, "" if this build does not have it
	SHA256  string    // of the file as this build has it
}

// State is the state of a file's schema.
type State struct {
	Created bool  // the file has a store
	Version int64 // 0 if it has none
	Latest  int64 // that this build knows
	Applied []Applied
	Pending []Migration
}

// Current returns the version of the reseal schema in db, 0 if it has none. It
// only reads, so that any SQLite file can be asked. A file that is not an
// SQLite database is [ErrNotAStore].
func Current(ctx context.Context, db Queryer) (int64, error) {
	exists, err := hasVersionTable(ctx, db)
	if err != nil || !exists {
		return 0, err
	}
	var version int64
	err = db.QueryRowContext(ctx, `
		SELECT coalesce(max(version_id), 0)
		FROM main.`+Table+`
		WHERE is_applied`).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", explain(err))
	}
	return version, nil
}

func hasVersionTable(ctx context.Context, db Queryer) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, `
		SELECT count(*)
		FROM main.sqlite_schema
		WHERE type = 'table' AND lower(name) = '`+Table+`'`).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read schema: %w", explain(err))
	}
	return n > 0, nil
}

// Status returns which migrations a file has had and which it still lacks. It
// only reads. A newer schema is no error here: its Version is over Latest.
func Status(ctx context.Context, db Queryer) (State, error) {
	return builtin.status(ctx, db)
}

func (h *history) status(ctx context.Context, db Queryer) (State, error) {
	version, err := Current(ctx, db)
	if err != nil {
		return State{}, err
	}
	s := State{Created: version > 0, Version: version, Latest: h.latest()}
	if s.Created {
		if s.Applied, err = h.applied(ctx, db); err != nil {
			return State{}, err
		}
	}
	for _, m := range h.migrations {
		if m.Version > version {
			s.Pending = append(s.Pending, m)
		}
	}
	return s, nil
}

func (h *history) applied(ctx context.Context, db Queryer) ([]Applied, error) {
	rows, err := db.QueryContext(ctx, `
		SELECT
			version_id,
			coalesce(CAST(strftime('%s', tstamp) AS INTEGER), 0)
		FROM main.`+Table+`
		WHERE is_applied AND version_id > 0
		ORDER BY version_id, id`)
	if err != nil {
		return nil, fmt.Errorf("read applied migrations: %w", explain(err))
	}
	defer rows.Close()
	var all []Applied
	for rows.Next() {
		var version, at int64
		if err := rows.Scan(&version, &at); err != nil {
			return nil, fmt.Errorf("read applied migrations: %w", explain(err))
		}
		all = append(all, h.appliedAt(version, time.Unix(at, 0).UTC()))
	}
	return all, explain(rows.Err())
}

func (h *history) appliedAt(version int64, at time.Time) Applied {
	a := Applied{Version: version, At: at}
	if version >= 1 && version <= h.latest() {
		m := h.migrations[version-1]
		a.Name, a.SHA256 = m.Name, m.SHA256
	}
	return a
}
