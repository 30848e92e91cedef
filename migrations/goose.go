package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// goose applies or undoes migrations on the one connection that db has, inside
// the transaction that is open there. It is called only after the version was
// compared: goose takes a newer one without a word, and creates its table in
// any file.
func (h *history) goose(ctx context.Context, db *sql.DB, c course, logger *slog.Logger) ([]Migration, error) {
	if err := createTable(ctx, db); err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, h.fsys,
		goose.WithTableName(Table),
		goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(logger),
	)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	run := provider.DownTo
	if c.up {
		run = provider.UpTo
	}
	results, err := run(ctx, c.to)
	if err != nil {
		return nil, fmt.Errorf("migrate to schema version %d: %w", c.to, err)
	}
	var ran []Migration
	for _, r := range results {
		ran = append(ran, h.migrations[r.Source.Version-1])
		logger.InfoContext(ctx, "schema migrated", "file", path.Base(r.Source.Path), "direction", r.Direction, "duration", r.Duration)
	}
	return ran, nil
}

// createTable makes goose's table if there is none. goose would do it too, but
// would try for three seconds when the disk is full.
func createTable(ctx context.Context, db *sql.DB) error {
	exists, err := hasVersionTable(ctx, db)
	if err != nil || exists {
		return err
	}
	store, err := database.NewStore(database.DialectSQLite3, Table)
	if err != nil {
		return err
	}
	if err := store.CreateVersionTable(ctx, db); err != nil {
		return err
	}
	return store.Insert(ctx, db, database.InsertRequest{Version: 0})
}
