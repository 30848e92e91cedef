package migrations

import (
	"context"
	"errors"
	"fmt"
)

// Validate compares everything that can be compared in db with what this build
// expects, for those who run reseal's migrations with a tool of their own: the
// schema, as [CheckSchema] does; the versions recorded, which have to be 1, 2
// and so on, each once and in this order; and the checksums of this build's own
// migrations. It only reads. The version may be behind this build's.
//
// Tables that are all there while no version is recorded are an
// [*AlteredError] too, which says of which version they are.
func Validate(ctx context.Context, db Queryer) error { return builtin.validate(ctx, db) }

func (h *history) validate(ctx context.Context, db Queryer) error {
	if err := h.checkFiles(); err != nil {
		return err
	}
	err := h.checkSchema(ctx, db)
	if !errors.Is(err, ErrNotAStore) {
		return err
	}
	found, rerr := readObjects(ctx, db)
	if rerr != nil || len(found.own()) == 0 {
		return err
	}
	return h.unrecorded(found)
}

// unrecorded is the error of tables without a version.
func (h *history) unrecorded(found objects) error {
	for version := h.latest(); version > 0; version-- {
		if h.schemas[version] == found.fingerprint() {
			return &AlteredError{Version: version, Foreign: found.foreign(), Recorded: []string{
				fmt.Sprintf("the tables are those of version %d, and there is no table %s that says so", version, Table)}}
		}
	}
	return &AlteredError{Foreign: found.foreign(), Recorded: []string{
		fmt.Sprintf("there are tables named reseal_ that are not those of any version, and no table %s", Table)}}
}

// checkFiles refuses to work with a migration that was edited after its
// release.
func (h *history) checkFiles() error {
	for _, m := range h.migrations {
		if want, pinned := h.files[m.Version]; pinned && m.SHA256 != want {
			return fmt.Errorf("%w: %s has SHA-256 %s and was released with %s", ErrEdited, m.Name, m.SHA256, want)
		}
	}
	return nil
}

// checkRecorded refuses versions that were not recorded one after the other,
// each once.
func checkRecorded(ctx context.Context, db Queryer, version int64) ([]string, error) {
	rows, err := db.QueryContext(ctx, `
		SELECT version_id, is_applied
		FROM main.`+Table+`
		ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read applied migrations: %w", explain(err))
	}
	defer rows.Close()
	var found []string
	next := int64(1)
	for rows.Next() {
		var v, applied int64
		if err := rows.Scan(&v, &applied); err != nil {
			return nil, fmt.Errorf("read applied migrations: %w", explain(err))
		}
		switch {
		case v == 0 && next == 1:
		case applied == 0:
			found = append(found, fmt.Sprintf("version %d as not applied", v))
		case v != next:
			found = append(found, fmt.Sprintf("version %d where %d comes next", v, next))
			next = v + 1
		default:
			next++
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read applied migrations: %w", explain(err))
	}
	if next != version+1 && len(found) == 0 {
		found = append(found, fmt.Sprintf("version %d last, and not %d", next-1, version))
	}
	return found, nil
}
