package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Options of a change of the schema. The zero value upgrades a store that
// exists, with a backup, and loses nothing.
type Options struct {
	// Create allows a store to be made in a database that has none. Without it
	// such a database is refused with [ErrNotAStore].
	Create bool

	// DryRun does everything in the transaction and then rolls it back. No
	// backup is made.
	DryRun bool

	// NoBackup leaves out the copy that is made before a store is changed.
	NoBackup bool

	// DestroyRows is the number of rows that [Down] may lose, exactly.
	DestroyRows int64

	// Wait is how long to wait for other processes. Defaults to 30 seconds.
	Wait time.Duration

	// Logger hears of each migration that was applied, and of the backup.
	// Defaults to none.
	Logger *slog.Logger

	// Now gives the time in a backup's name. Defaults to time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.Wait <= 0 {
		o.Wait = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Result says what a change of the schema did. From and To are equal if there
// was nothing to do.
type Result struct {
	From, To int64
	Backup   string      // path of the copy made before, "" if there is none
	Ran      []Migration // in the order in which they were applied or undone
}

// Up brings the schema in db to the newest version, in one transaction. If it
// is there already, Up only reads.
//
// A store that exists is copied before it is changed, unless it is in memory or
// [Options].NoBackup is set: [Result].Backup is the copy's path. In a host's
// database the copy holds the host's tables too.
//
// The errors are [ErrNotAStore], [ErrNewer], [ErrAltered], [ErrEdited],
// [ErrReadOnly], [ErrDiskFull], [ErrBusy], or the driver's own. After an error the file is as it was.
func Up(ctx context.Context, db *sql.DB, opts Options) (Result, error) {
	return builtin.move(ctx, db, course{to: Latest(), up: true}, opts)
}

// UpTo is [Up] as far as a version. A version that this build does not have,
// or that is below the file's, is [ErrVersion].
func UpTo(ctx context.Context, db *sql.DB, version int64, opts Options) (Result, error) {
	return builtin.move(ctx, db, course{to: version, up: true}, opts)
}

// Down undoes migrations until the schema has the version given; 0 removes the
// store. Rows in tables and columns that this drops are lost for good: Down
// refuses with a [*DataLossError] that says how many, unless
// [Options].DestroyRows is that number. Prefer [Restore] with the backup that
// was made before the upgrade.
func Down(ctx context.Context, db *sql.DB, version int64, opts Options) (Result, error) {
	return builtin.move(ctx, db, course{to: version}, opts)
}

// course is where a change goes.
type course struct {
	to int64
	up bool
}

// errMoved is returned when the file changed between its backup and the start
// of the transaction.
var errMoved = errors.New("the database kept changing while it was copied: stop its writers and try again")

// move runs a change if there is one to run.
func (h *history) move(ctx context.Context, db *sql.DB, c course, opts Options) (Result, error) {
	opts = opts.withDefaults()
	if err := h.checkFiles(); err != nil {
		return Result{}, err
	}
	from, err := Current(ctx, db)
	if err == nil {
		if todo, err := h.check(from, c, opts); err != nil || !todo {
			return Result{From: from, To: from}, err
		}
	} else if !errors.Is(err, ErrBusy) { // busy: wait for the lock
		return Result{}, err
	}
	result := Result{From: from, To: from}
	err = borrow(ctx, db, func(one *sql.DB) error {
		path, err := mainFile(ctx, one)
		if err != nil {
			return err
		}
		unlock, err := lock(ctx, path, opts.Wait)
		if err != nil {
			return err
		}
		defer unlock()
		return withSettings(ctx, one, opts.Wait, func() error {
			result, err = h.moveLocked(ctx, one, path, c, opts)
			return err
		})
	})
	return result, explain(err)
}

// check reports whether there is something to do, or why it may not be done.
func (h *history) check(from int64, c course, opts Options) (todo bool, err error) {
	switch {
	case from > h.latest():
		return false, &NewerError{Version: from, Latest: h.latest()}
	case c.to < 0 || c.to > h.latest() || c.up && c.to == 0:
		return false, fmt.Errorf("%w: %d; this build has 1 to %d", ErrVersion, c.to, h.latest())
	case c.up && c.to < from:
		return false, fmt.Errorf("%w: %d is below the file's version %d", ErrVersion, c.to, from)
	case !c.up && c.to > from:
		return false, fmt.Errorf("%w: %d is above the file's version %d", ErrVersion, c.to, from)
	case c.up && from == 0 && !opts.Create:
		return false, fmt.Errorf("%w: it has no table %q", ErrNotAStore, Table)
	}
	return c.to != from, nil
}

// moveLocked backs up and changes the schema, and begins again if somebody
// wrote in between.
func (h *history) moveLocked(ctx context.Context, one *sql.DB, path string, c course, opts Options) (Result, error) {
	for attempt := 1; ; attempt++ {
		result, err := h.attempt(ctx, one, path, c, opts)
		if !errors.Is(err, errMoved) || attempt == 5 {
			return result, err
		}
	}
}

func (h *history) attempt(ctx context.Context, one *sql.DB, path string, c course, opts Options) (Result, error) {
	from, err := Current(ctx, one)
	if err != nil {
		return Result{}, err
	}
	result := Result{From: from, To: from}
	if todo, err := h.check(from, c, opts); err != nil || !todo {
		return result, err
	}
	if err := h.checkStart(ctx, one, from); err != nil {
		return result, err
	}
	seen, err := dataVersion(ctx, one)
	if err != nil {
		return result, err
	}
	if from > 0 && path != "" && !opts.NoBackup && !opts.DryRun {
		if result.Backup, err = backup(ctx, one, path, from, opts.Now()); err != nil {
			return result, err
		}
		opts.Logger.InfoContext(ctx, "store copied before its schema changes", "backup", result.Backup)
	}
	err = inTransaction(ctx, one, opts.DryRun, func() error {
		if now, err := dataVersion(ctx, one); err != nil || now != seen {
			return cmp.Or(err, errMoved)
		}
		result.Ran, err = h.run(ctx, one, from, c, opts)
		return err
	})
	if err != nil {
		result.Ran = nil
		switch {
		case !errors.Is(err, errCommit):
			result.Backup = discard(result.Backup)
		case result.Backup != "":
			err = fmt.Errorf("%w; the store as it was is in %q", err, result.Backup)
		}
		return result, err
	}
	result.To = c.to
	return result, nil
}

// checkStart refuses to build on a schema that is not what it should be.
func (h *history) checkStart(ctx context.Context, one *sql.DB, from int64) error {
	if from > 0 {
		return h.checkVersion(ctx, one, from)
	}
	found, err := readObjects(ctx, one)
	if err != nil {
		return err
	}
	altered := &AlteredError{Foreign: found.foreign()}
	altered.compare(nil, found.own())
	if len(altered.Foreign) > 0 {
		return altered
	}
	return nil
}

// run is what happens inside the transaction.
func (h *history) run(ctx context.Context, one *sql.DB, from int64, c course, opts Options) ([]Migration, error) {
	if !c.up {
		if err := h.checkLoss(ctx, one, from, c.to, opts.DestroyRows); err != nil {
			return nil, err
		}
	}
	ran, err := h.goose(ctx, one, c, opts.Logger)
	if err != nil {
		return nil, err
	}
	if c.to == 0 {
		_, err := one.ExecContext(ctx, `DROP TABLE main.`+Table)
		return ran, err
	}
	if err := checkForeignKeys(ctx, one); err != nil {
		return nil, err
	}
	return ran, h.checkVersion(ctx, one, c.to)
}

// build makes a version's schema in an empty database, without checks.
func (h *history) build(ctx context.Context, db *sql.DB, version int64) error {
	return borrow(ctx, db, func(one *sql.DB) error {
		return inTransaction(ctx, one, false, func() error {
			_, err := h.goose(ctx, one, course{to: version, up: true}, Options{}.withDefaults().Logger)
			return err
		})
	})
}
