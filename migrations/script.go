package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"strings"
)

// Form is what [Script] makes of a migration.
type Form int

const (
	// UpScript is the plain SQL that goes up to the version from the one below.
	UpScript Form = iota

	// DownScript is the plain SQL that undoes it.
	DownScript

	// GooseScript is both, with the comment lines that goose reads.
	GooseScript

	// RecordScript only records the version, for tables that were made without
	// doing so.
	RecordScript
)

// Script returns the SQL of a migration for those who run it with a tool of
// their own: golang-migrate, atlas, goose with its own table, or the sqlite3
// shell. Besides the file's statements it has those that record the version in
// [Table], which is how a store is recognised; where the tool itself keeps
// account is its own affair. Run it in one transaction, with foreign keys off,
// and then ask [Validate].
//
// A version that this build does not have is [ErrVersion].
func Script(version int64, form Form) (string, error) { return builtin.script(version, form) }

func (h *history) script(version int64, form Form) (string, error) {
	if version < 1 || version > h.latest() {
		return "", fmt.Errorf("%w: %d; this build has 1 to %d", ErrVersion, version, h.latest())
	}
	m := h.migrations[version-1]
	text, err := fs.ReadFile(h.fsys, m.Name)
	if err != nil {
		return "", err
	}
	record, err := recording(version)
	if err != nil {
		return "", err
	}
	head := fmt.Sprintf("-- reseal schema version %d: %s, SHA-256 %s\n", version, m.Name, m.SHA256)
	up, down := parts(string(text))
	switch form {
	case UpScript:
		return head + plain(up) + record, nil
	case DownScript:
		return head + plain(down) + unrecording(version), nil
	case GooseScript:
		return head + up + record + "\n" + down + unrecording(version), nil
	default:
		return head + record, nil
	}
}

// parts cuts a migration in two.
func parts(text string) (up, down string) {
	var u, d strings.Builder
	sections := sectionsOf(text)
	for i, line := range strings.SplitAfter(text, "\n") {
		if sections[i].down {
			d.WriteString(line)
		} else {
			u.WriteString(line)
		}
	}
	return strings.TrimSpace(u.String()) + "\n\n", strings.TrimSpace(d.String()) + "\n\n"
}

// plain is a part without goose's comment lines.
func plain(part string) string {
	var b strings.Builder
	for line := range strings.Lines(part) {
		if _, is := annotation(line); !is {
			b.WriteString(line)
		}
	}
	return strings.TrimSpace(b.String()) + "\n\n"
}

// recording is the SQL that records a version as goose does.
func recording(version int64) (string, error) {
	record := fmt.Sprintf("INSERT INTO %s (version_id, is_applied) VALUES (%d, 1);\n", Table, version)
	if version > 1 {
		return record, nil
	}
	create, err := tableText()
	if err != nil {
		return "", err
	}
	return create + ";\n" + fmt.Sprintf("INSERT INTO %s (version_id, is_applied) VALUES (0, 1);\n", Table) + record, nil
}

func unrecording(version int64) string {
	if version == 1 {
		return "DROP TABLE " + Table + ";\n"
	}
	return fmt.Sprintf("DELETE FROM %s WHERE version_id = %d;\n", Table, version)
}

// tableText is the text with which goose makes its table.
func tableText() (text string, err error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return "", err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	ctx := context.Background()
	if err := createTable(ctx, db); err != nil {
		return "", err
	}
	err = db.QueryRowContext(ctx, `SELECT sql FROM sqlite_schema WHERE name = '`+Table+`'`).Scan(&text)
	return text, err
}
