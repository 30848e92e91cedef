package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/reseal/reseal/migrations"
)

// Init makes a store in a host's database, beside the host's own tables, with
// one unseal slot for cred and the master key DefaultKeyName, and returns it
// open. The database must be modernc.org/sqlite's. See New for what a store
// does and does not do there.
func Init(ctx context.Context, db *sql.DB, cred Credential, opts *Options) (*Store, error) {
	s, err := newHosted(ctx, db, opts)
	if err != nil {
		return nil, fmt.Errorf("init store: %w", err)
	}
	if _, err := migrations.Up(ctx, db, migrations.Options{Create: true, Logger: s.opts.Logger}); err != nil {
		return nil, fmt.Errorf("init store: %w", sqlError(schemaError(err)))
	}
	if err := s.initialise(ctx, cred); err != nil {
		return nil, fmt.Errorf("init store: %w", sqlError(err))
	}
	return New(ctx, db, cred, opts)
}

// New opens the store in a host's database; ErrNotAStore says that there is
// none and Init makes it. A schema that is behind this release is brought up to
// it, after a backup, unless Options.Migrate says otherwise.
//
// The store changes no setting of the host's connections or file. It refuses
// settings that can lose acknowledged writes (journal OFF or MEMORY,
// synchronous OFF or NORMAL) with ErrWeakDurability, unless
// Options.AllowWeakDurability. Its writes take the database's write lock for
// the time of a put; a host that has SetMaxOpenConns(1) and a transaction open
// must use the verbs that join it. Close leaves the database open.
func New(ctx context.Context, db *sql.DB, cred Credential, opts *Options) (*Store, error) {
	s, err := newHosted(ctx, db, opts)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.openHosted(ctx, cred); err != nil {
		return nil, fmt.Errorf("open store: %w", sqlError(err))
	}
	if err := s.settleIn(ctx, &cred); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if s.prepared, err = prepareIn(ctx, db); err != nil {
		return nil, fmt.Errorf("open store: %w", sqlError(err))
	}
	return s, nil
}

func newHosted(ctx context.Context, db *sql.DB, opts *Options) (*Store, error) {
	o, err := opts.filled()
	if err != nil {
		return nil, err
	}
	if !o.AllowWeakDurability {
		if err := checkDurability(ctx, db); err != nil {
			return nil, err
		}
	}
	return &Store{opts: o, db: db, writeLock: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

func (s *Store) openHosted(ctx context.Context, cred Credential) error {
	if err := recogniseSchema(ctx, s.db); err != nil {
		return err
	}
	if err := s.migrate(ctx, &cred); err != nil {
		return err
	}
	c, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return s.prepare(ctx, c, &cred)
}

func checkDurability(ctx context.Context, db *sql.DB) error {
	journal, err := pragma(ctx, db, "journal_mode")
	if err != nil {
		return sqlError(err)
	}
	sync, err := pragma(ctx, db, "synchronous")
	if err != nil {
		return sqlError(err)
	}
	if j := strings.ToLower(journal); j == "off" || j == "memory" {
		return fmt.Errorf("%w: journal_mode is %s; use WAL or DELETE", ErrWeakDurability, j)
	}
	if sync == "0" || sync == "1" {
		return fmt.Errorf("%w: synchronous is %s; use FULL (2) or EXTRA (3)", ErrWeakDurability, sync)
	}
	return nil
}
