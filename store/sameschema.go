package store

import (
	"context"
	"fmt"

	"github.com/reseal/reseal/migrations"
)

// sameSchema refuses to write when the schema has become another since the store
// was opened. A process of an older release may have the store open while a
// newer one migrates it, and would leave out what the newer schema needs; and
// somebody may have dropped a trigger. SQLite counts the changes of a file's
// schema, a host's own tables included: only a new count makes it look again.
func (t *tx) sameSchema() error {
	count, err := schemaCount(t.ctx, t.q)
	if err != nil || count == t.s.schema.Load() {
		return err
	}
	version, err := migrations.Current(t.ctx, t.q)
	switch {
	case err != nil:
		return schemaError(err)
	case version < migrations.Latest():
		return fmt.Errorf("%w: it has gone down to version %d while the store was open: open it again", ErrSchemaBehind, version)
	}
	if err := migrations.CheckSchema(t.ctx, t.q); err != nil {
		return schemaError(err)
	}
	if !t.joined { // a caller's transaction may hold changes that are rolled back
		t.s.schema.Store(count)
	}
	return nil
}

const schemaVersion = `PRAGMA main.schema_version`

// schemaCount is SQLite's count of the changes of the file's schema.
func schemaCount(ctx context.Context, q querier) (n int64, err error) {
	err = q.QueryRowContext(ctx, schemaVersion).Scan(&n)
	return n, err
}
