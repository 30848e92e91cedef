// Package store keeps secrets in one SQLite file, each version sealed under a
// data key of its own, each data key wrapped by a named master key.
//
//	unseal slot ──unwraps──▶ root key ──unwraps──▶ master key version ──unwraps──▶ data key ──opens──▶ value
//	(outside the file)       (memory only)         (row)                           (row)              (row)
//
// The key that a secret is configured with is the key that wraps every version
// of it. [Store.SetKey] rewraps all of them in one transaction or changes
// nothing; a master key that anything still needs cannot be destroyed.
//
// Use [Create] once and [Open] from then on, for a store in its own file. Use
// [Init] once and [New] from then on, for a store beside a host's own tables
// in the host's database; there the verbs whose names end in Tx join the
// host's transaction, so that a row and its secret commit or roll back
// together.
//
// Every error is one of this package's sentinels or wraps one; where there are
// facts to tell it is an [*Error], with the command that fixes it.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"sync/atomic"
	"time"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/migrations"
)

// Store is an open store. It is safe for concurrent use, by goroutines and,
// through the file, by processes.
type Store struct {
	opts Options
	path string
	keys *keyring // nil while sealed

	own       bool                      // the store has its own file and connections
	db        *sql.DB                   // the writer's pool, or the host's
	prepared  prepared                  // in the host's
	joined    atomic.Pointer[preparing] // the caller's transaction that was joined last
	writer    *pinned                   // only when own
	updating  atomic.Pointer[sql.Tx]    // the transaction of Update, on the writer's connection
	readers   *readers                  // only when own
	writeLock chan struct{}             // held by the one writer of this process
	last      *lastWrite                // what the writer knows since then; writeLock guards it
	puts      putQueue                  // that wait for it
	done      chan struct{}             // closed by Close
	handles   handles                   // that Watch returned
	closed    atomic.Bool
	schema    atomic.Int64 // SQLite's count of schema changes when the schema was last checked

	file   os.FileInfo  // what was opened; nil unless own
	opened time.Time    // when
	looked atomic.Int64 // how long after that it was last compared
}

func (o *Options) filled() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	if f.MaxValue == 0 {
		f.MaxValue = DefaultMaxValue
	}
	if f.MaxValue < 1 || f.MaxValue > MaxValueLimit {
		return f, invalid("MaxValue of %d: between 1 and %d bytes", f.MaxValue, MaxValueLimit)
	}
	if f.Now == nil {
		f.Now = time.Now
	}
	if f.BusyTimeout == 0 {
		f.BusyTimeout = DefaultBusy
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if f.KDF == nil {
		f.KDF = crypto.DefaultKDF
	}
	if f.Migrate < MigrateUp || f.Migrate > MigrateCheck {
		return f, invalid("Migrate: %d is no MigrateMode", f.Migrate)
	}
	if f.Actor == "" {
		f.Actor = loginName()
	}
	if !plainText(f.Actor) || len(f.Actor) > 256 {
		return f, invalid("actor: at most 256 bytes without control characters")
	}
	return f, nil
}

func loginName() string {
	if u, err := user.Current(); err == nil && u.Username != "" && plainText(u.Username) && len(u.Username) <= 256 {
		return u.Username
	}
	return "unknown"
}

// Open opens the store in the file at path and unseals it with cred. A schema
// that is behind this release is brought up to it, after a backup, unless
// Options.Migrate says otherwise.
//
// Errors: ErrNotAStore, ErrUnseal, ErrSchemaNewer, ErrSchemaBehind,
// ErrSchemaAltered, ErrReadOnly, ErrDiskFull, ErrDamaged, ErrBusy.
func Open(ctx context.Context, path string, cred Credential, opts *Options) (*Store, error) {
	s, err := openFile(ctx, path, opts, &cred)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", path, err)
	}
	return s, nil
}

// OpenSealed opens the store in the file at path without a credential: for
// List, Show, Keys, Key, Jobs and Events, which then give what is recorded and
// say that it is not authenticated. Everything else is ErrSealed.
func OpenSealed(ctx context.Context, path string, opts *Options) (*Store, error) {
	s, err := openFile(ctx, path, opts, nil)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", path, err)
	}
	return s, nil
}

func openFile(ctx context.Context, path string, opts *Options, cred *Credential) (*Store, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	useOFDLocks()
	if err := recognise(ctx, path, o); err != nil {
		return nil, pathError(sqlError(err))
	}
	s := &Store{opts: o, path: path, own: true, writeLock: make(chan struct{}, 1), done: make(chan struct{})}
	if err := s.connect(ctx, cred); err != nil {
		s.Close()
		return nil, pathError(sqlError(err))
	}
	err = s.prepare(ctx, s.writer, cred)
	if err == nil {
		_, err = pragma(ctx, s.writer, "busy_timeout = 0") // from now on untilFree waits
	}
	if err != nil {
		s.Close()
		return nil, sqlError(err)
	}
	if err := errors.Join(s.rememberFile(), s.settleIn(ctx, cred)); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// settleIn checks an unsealed store against its anchor, and counts the rows of
// one that was made before they were counted.
func (s *Store) settleIn(ctx context.Context, cred *Credential) error {
	if cred == nil {
		return nil
	}
	if a := s.opts.Anchor; a != nil {
		if err := s.CheckAnchor(ctx, *a); err != nil {
			return err
		}
	}
	return s.countAtFirst(ctx)
}

func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no such file", ErrNotAStore)
	case err != nil:
		return pathError(err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is not a regular file", ErrNotAStore)
	case info.Size() == 0:
		return fmt.Errorf("%w: the file is empty", ErrNotAStore)
	}
	return nil
}

// recognise looks at the file without changing it, or the log beside it: it
// must be a store, as some version up to this release's made it. The connection
// sets nothing in the file, not even the journal mode.
func recognise(ctx context.Context, path string, o Options) error {
	db, err := migrations.OpenFile(path, true)
	if err != nil {
		return schemaError(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout = %d`, o.BusyTimeout.Milliseconds())); err != nil { // its one connection
		return err
	}
	return recogniseSchema(ctx, db)
}

func recogniseSchema(ctx context.Context, q querier) error {
	version, err := migrations.Current(ctx, q)
	switch {
	case err != nil:
		return schemaError(err)
	case version == 0:
		return fmt.Errorf("%w: there are no reseal tables in it", ErrNotAStore)
	case version > migrations.Latest():
		return fmt.Errorf("%w: %w", ErrSchemaNewer, &migrations.NewerError{Version: version, Latest: migrations.Latest()})
	}
	return schemaError(migrations.CheckSchema(ctx, q))
}

// connect opens the writer and makes room for one reader a core.
func (s *Store) connect(ctx context.Context, cred *Credential) error {
	settings := connProfile(s.opts.BusyTimeout, false, false)
	var err error
	if s.db, err = openPool(s.path, 1, settings); err != nil {
		return err
	}
	if err = s.migrate(ctx, cred); err != nil {
		return err
	}
	if s.writer, err = pin(ctx, s.db); err != nil {
		return err
	}
	if err := checkProfile(ctx, s.writer, settings); err != nil {
		return err
	}
	s.readers, err = openReaders(s.path, s.opts.BusyTimeout)
	return err
}

// prepare checks the schema and unseals.
func (s *Store) prepare(ctx context.Context, q querier, cred *Credential) error {
	count, err := schemaCount(ctx, q)
	if err != nil {
		return err
	}
	if err := migrations.CheckSchema(ctx, q); err != nil {
		return schemaError(err)
	}
	s.schema.Store(count)
	if cred == nil {
		_, err := loadState(ctx, q)
		return err
	}
	ring, err := unseal(ctx, q, *cred)
	if err != nil {
		return err
	}
	s.keys = ring
	return nil
}

// migrate does about a schema that is behind what the options say.
func (s *Store) migrate(ctx context.Context, cred *Credential) error {
	version, err := migrations.Current(ctx, s.db)
	if err != nil {
		return schemaError(err)
	}
	o := migrations.Options{Logger: s.opts.Logger}
	if s.opts.Migrate == MigrateUp {
		if cred != nil && version < migrations.Latest() {
			if err := checkCredential(ctx, s.db, *cred); err != nil {
				return err
			}
		}
		res, err := migrations.Up(ctx, s.db, o)
		if err == nil && res.From != res.To && s.opts.Migrated != nil {
			s.opts.Migrated(res)
		}
		return schemaError(err)
	}
	if version == migrations.Latest() {
		return nil
	}
	behind := fmt.Errorf("%w: version %d, and this release has %d: run reseal migrate up", ErrSchemaBehind, version, migrations.Latest())
	if s.opts.Migrate == MigrateRefuse {
		return behind
	}
	o.DryRun = true
	if _, err := migrations.Up(ctx, s.db, o); err != nil {
		return fmt.Errorf("%w, which would fail: %w", behind, schemaError(err))
	}
	return fmt.Errorf("%w, which would work", behind)
}

// schemaError gives an error of package migrations this package's sentinel.
func schemaError(err error) error {
	switch {
	case errors.Is(err, migrations.ErrNewer):
		return fmt.Errorf("%w: %w", ErrSchemaNewer, err)
	case errors.Is(err, migrations.ErrNotAStore):
		return fmt.Errorf("%w: %w", ErrNotAStore, err)
	case errors.Is(err, migrations.ErrAltered):
		return fmt.Errorf("%w: %w", ErrSchemaAltered, err)
	case errors.Is(err, migrations.ErrBusy):
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case errors.Is(err, migrations.ErrReadOnly):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, migrations.ErrDiskFull):
		return fmt.Errorf("%w: nothing was changed: %w", ErrDiskFull, err)
	}
	return err
}

// Close closes the store's handles, clears the keys from memory and closes the
// store's own connections; a host's database stays open. Operations under way finish first.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.done)
	s.handles.close()
	s.writeLock <- struct{}{}
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.close())
	}
	if s.writer != nil {
		s.writer.close()
	}
	s.prepared.close()
	s.joined.Store(nil)
	if s.own && s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.keys != nil {
		s.keys.clear()
	}
	<-s.writeLock
	return errors.Join(errs...)
}

// Path returns the path of the store's own file, or "" inside a host's
// database.
func (s *Store) Path() string { return s.path }

// Sealed reports whether the store was opened without a credential.
func (s *Store) Sealed() bool { return s.keys == nil }

func (s *Store) needUnsealed() error {
	if s.keys == nil {
		return ErrSealed
	}
	return nil
}

func (s *Store) now() int64 { return s.opts.Now().UnixMilli() }
