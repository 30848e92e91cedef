package migrations

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// CheckSchema compares the reseal tables, indexes and triggers in db with what
// the migrations up to its version make. It only reads, takes about half a
// millisecond, and is meant for every opening of a store.
//
// It refuses, with an [*AlteredError] that names them: objects that are missing
// or have another definition; other objects with a name that begins with
// reseal_; triggers and UNIQUE indexes of others on reseal's tables; views that
// read them; and objects in the TEMP schema of db's connection that hide them
// or act on them. An index of others that is not UNIQUE is allowed.
//
// A file without a store is [ErrNotAStore], a newer one [ErrNewer].
func CheckSchema(ctx context.Context, db Queryer) error {
	return builtin.checkSchema(ctx, db)
}

// checkSchema looks again when another process has changed the version while it
// looked: what it read was of two moments.
func (h *history) checkSchema(ctx context.Context, db Queryer) error {
	for attempt := 1; ; attempt++ {
		version, err := Current(ctx, db)
		if err != nil {
			return err
		}
		if version == 0 {
			return fmt.Errorf("%w: it has no table %q", ErrNotAStore, Table)
		}
		if version > h.latest() {
			return &NewerError{Version: version, Latest: h.latest()}
		}
		err = h.checkVersion(ctx, db, version)
		if now, nerr := Current(ctx, db); err == nil || nerr != nil || now == version || attempt == 5 {
			return err
		}
	}
}

// checkVersion compares the schema of db with that of a version.
func (h *history) checkVersion(ctx context.Context, db Queryer, version int64) error {
	found, err := readObjects(ctx, db)
	if err != nil {
		return err
	}
	altered := &AlteredError{Version: version, Foreign: found.foreign()}
	if altered.Recorded, err = checkRecorded(ctx, db, version); err != nil {
		return err
	}
	want, pinned := h.schemas[version]
	if altered.whole() && pinned && found.fingerprint() == want {
		return nil
	}
	reference, err := h.reference(ctx, version)
	if err != nil {
		return err
	}
	altered.compare(reference.own(), found.own())
	switch {
	case !altered.whole():
		return altered
	case pinned:
		return fmt.Errorf("%w: this build's fingerprint of version %d does not match its own migrations", ErrEdited, version)
	}
	return nil
}

// compare fills in what differs between the schema wanted and the one found.
func (e *AlteredError) compare(want, found objects) {
	for _, w := range want {
		i := slices.IndexFunc(found, func(f object) bool { return f.name == w.name })
		switch {
		case i < 0:
			e.Missing = append(e.Missing, w.String())
		case found[i].typ != w.typ || found[i].table != w.table || canonical(found[i].sql) != canonical(w.sql):
			e.Altered = append(e.Altered, w.String())
		}
	}
	for _, f := range found {
		if !slices.ContainsFunc(want, func(w object) bool { return f.name == w.name }) {
			e.Foreign = append(e.Foreign, f.String())
		}
	}
}

// object is a row of sqlite_schema, with names in lower case.
type object struct {
	temp  bool
	typ   string // table, index, trigger, view
	name  string
	table string
	sql   string // "" for an index that a constraint made
}

// String returns the type and name, such as "table reseal_state".
func (o object) String() string {
	if o.temp {
		return "temporary " + o.typ + " " + o.name
	}
	return o.typ + " " + o.name
}

type objects []object

// readObjects reads what is named reseal_, what is on a table so named, and
// the views that may read one, from the main and the TEMP schema.
func readObjects(ctx context.Context, db Queryer) (objects, error) {
	const columns = `type, lower(name) AS name, lower(tbl_name), coalesce(sql, '')`
	const about = `
		WHERE lower(substr(name, 1, 7)) = 'reseal_'
			OR lower(substr(tbl_name, 1, 7)) = 'reseal_'
			OR (type = 'view' AND instr(lower(sql), 'reseal_') > 0)`
	rows, err := db.QueryContext(ctx, `
		SELECT 0, `+columns+` FROM main.sqlite_schema`+about+`
		UNION ALL
		SELECT 1, `+columns+` FROM temp.sqlite_schema`+about+`
		ORDER BY 1, 2, 3`)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", explain(err))
	}
	defer rows.Close()
	return scanObjects(rows)
}

func scanObjects(rows *sql.Rows) (objects, error) {
	var all objects
	for rows.Next() {
		var o object
		if err := rows.Scan(&o.temp, &o.typ, &o.name, &o.table, &o.sql); err != nil {
			return nil, fmt.Errorf("read schema: %w", explain(err))
		}
		all = append(all, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read schema: %w", explain(err))
	}
	return all, nil
}

// own returns the objects that the migrations account for: those named reseal_
// in the main schema, without the table of versions, which is goose's.
func (all objects) own() objects {
	var own objects
	for _, o := range all {
		if !o.temp && isOurs(o.name) && o.name != Table && o.sql != "" {
			own = append(own, o)
		}
	}
	return own
}

// foreign describes the objects of others that are not allowed. Those named
// reseal_ in the main schema are left to the comparison.
func (all objects) foreign() []string {
	var names []string
	for _, o := range all {
		if why := o.refused(); why != "" {
			names = append(names, o.String()+" ("+why+")")
		}
	}
	return names
}

// refused says why an object of others is not allowed, "" if it is, or if it
// is not of others.
func (o object) refused() string {
	switch {
	case o.temp && isOurs(o.name) && o.typ != "trigger":
		return "hides reseal's"
	case o.typ == "trigger" && isOurs(o.table) && (o.temp || !isOurs(o.name) || o.table == Table):
		return "acts on " + o.table
	case o.typ == "view" && !isOurs(o.name) && o.readsOurs():
		return "reads reseal's tables"
	case o.typ == "index" && !isOurs(o.name) && isUniqueIndex(o.sql):
		return "is UNIQUE on " + o.table
	}
	return ""
}

// readsOurs reports whether a view's text has a name that begins with reseal_.
func (o object) readsOurs() bool {
	return slices.ContainsFunc(tokens(o.sql), func(t token) bool { return isOurs(t.word()) })
}

func isUniqueIndex(sql string) bool {
	t := tokens(sql)
	return len(t) > 1 && t[1].word() == "unique"
}

func isOurs(name string) bool { return strings.HasPrefix(name, "reseal_") }

// fingerprint is the SHA-256 of the type, name, table and text of each own
// object, without comments and layout: these may change with the tool that
// runs the migrations.
func (all objects) fingerprint() string {
	text := make([]byte, 0, 32<<10)
	for _, o := range all.own() {
		text = append(text, o.typ+"|"+o.name+"|"+o.table+"|"...)
		text = append(appendCanonical(text, o.sql), '\n')
	}
	return hexSum(text)
}

// reference returns the objects of a version, made in a database in memory.
func (h *history) reference(ctx context.Context, version int64) (all objects, err error) {
	err = h.inMemory(ctx, version, func(db *sql.DB) error {
		all, err = readObjects(ctx, db)
		return err
	})
	return all, err
}

// inMemory calls f with a database in memory that has a version's schema.
func (h *history) inMemory(ctx context.Context, version int64, f func(db *sql.DB) error) error {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if version > 0 {
		if err := h.build(ctx, db, version); err != nil {
			return fmt.Errorf("make schema version %d in memory: %w", version, err)
		}
	}
	return f(db)
}
