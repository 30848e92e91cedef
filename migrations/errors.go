package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var (
	// ErrNewer is returned when the schema is newer than this build. The error
	// is a [*NewerError].
	ErrNewer = errors.New("schema is newer than this build of reseal")

	// ErrNotAStore is returned when the file is not an SQLite database, or has
	// no reseal store in it.
	ErrNotAStore = errors.New("not a reseal store")

	// ErrAltered is returned when reseal's tables, indexes and triggers are not
	// as its migrations made them, or when somebody else's objects act on them.
	// The error is an [*AlteredError].
	ErrAltered = errors.New("schema of the store was altered")

	// ErrDataLoss is returned by [Down] when rows would be lost that the caller
	// has not agreed to lose. The error is a [*DataLossError].
	ErrDataLoss = errors.New("rows would be lost")

	// ErrEdited is returned when a migration in this build is not the one that
	// was released under its number.
	ErrEdited = errors.New("migration was edited after its release")

	// ErrReadOnly is returned when the database or its folder cannot be written.
	ErrReadOnly = errors.New("database is read-only")

	// ErrDiskFull is returned when there is no room for the backup or for the
	// change. Nothing was changed.
	ErrDiskFull = errors.New("disk is full")

	// ErrBusy is returned when another process kept the database or the
	// migration lock for longer than [Options].Wait. Nothing was changed.
	ErrBusy = errors.New("database is busy")

	// ErrVersion is returned for a target version that this build does not
	// have, or that lies in the wrong direction.
	ErrVersion = errors.New("no such schema version")

	// ErrInUse is returned by [Restore] when something else has the store open.
	ErrInUse = errors.New("store is in use")
)

// NewerError says that a file's schema is newer than this build.
type NewerError struct {
	Version int64 // of the file
	Latest  int64 // that this build knows
}

// Error names both versions and says what to do.
func (e *NewerError) Error() string {
	return fmt.Sprintf("schema version %d is newer than version %d of this build: use a newer reseal", e.Version, e.Latest)
}

// Is reports whether target is [ErrNewer].
func (e *NewerError) Is(target error) bool { return target == ErrNewer }

// AlteredError lists how a schema differs from what its migrations made. Each
// entry is a type and a name, such as "trigger reseal_state_delete", with a
// reason where the name is not enough.
type AlteredError struct {
	Version int64
	Missing []string // objects that the migrations made and that are gone
	Altered []string // objects whose definition is another
	Foreign []string // objects of others that act on, or hide, reseal's tables

	// Recorded is what is wrong with the versions recorded in [Table], each a
	// clause: "version 3 where 2 comes next".
	Recorded []string
}

// whole reports whether nothing differs.
func (e *AlteredError) whole() bool {
	return len(e.Missing)+len(e.Altered)+len(e.Foreign)+len(e.Recorded) == 0
}

// Error names every object.
func (e *AlteredError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v (version %d)", ErrAltered, e.Version)
	for _, part := range []struct {
		what  string
		names []string
	}{{"missing", e.Missing}, {"altered", e.Altered}, {"not reseal's", e.Foreign}, {"recorded", e.Recorded}} {
		if len(part.names) > 0 {
			fmt.Fprintf(&b, "; %s: %s", part.what, strings.Join(part.names, ", "))
		}
	}
	b.WriteString("; undo the change or restore a backup")
	return b.String()
}

// Is reports whether target is [ErrAltered].
func (e *AlteredError) Is(target error) bool { return target == ErrAltered }

// DataLossError says how many rows a [Down] would lose.
type DataLossError struct {
	From, To int64
	Rows     int64
	Agreed   int64 // what the caller had said
}

// Error names the number of rows that has to be agreed to.
func (e *DataLossError) Error() string {
	rows := "rows"
	if e.Rows == 1 {
		rows = "row"
	}
	return fmt.Sprintf("going from schema version %d to %d loses %d %s for good, and the number agreed to is %d: restore a backup instead, or agree to exactly %d",
		e.From, e.To, e.Rows, rows, e.Agreed, e.Rows)
}

// Is reports whether target is [ErrDataLoss].
func (e *DataLossError) Is(target error) bool { return target == ErrDataLoss }

// explain wraps err in the sentinel that its cause calls for, and leaves the
// driver's error reachable.
func explain(err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrNotAStore, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN: // of a log that cannot be made
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}
