package store

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrInvalid is returned for input that breaks a rule of the store: a bad
	// name, an empty or too large value, an unknown combination of options.
	ErrInvalid = errors.New("invalid input")

	// ErrNotFound is returned when there is no such secret, version, label,
	// master key, unseal slot or job.
	ErrNotFound = errors.New("not found")

	// ErrExists is returned when a master key of that name exists or existed.
	ErrExists = errors.New("already exists")

	// ErrDeleted is returned when the secret is deleted and can be restored.
	ErrDeleted = errors.New("secret is deleted")

	// ErrKeyUnavailable is returned when the master key that a secret needs is
	// disabled, pending deletion or destroyed.
	ErrKeyUnavailable = errors.New("master key is unavailable")

	// ErrKeyState is returned when a master key's state does not allow the
	// change: enabling a destroyed key, cancelling a deletion that is not
	// pending.
	ErrKeyState = errors.New("master key state does not allow this")

	// ErrDependents is returned when a master key, or a version of it, is still
	// needed.
	ErrDependents = errors.New("master key has dependents")

	// ErrDamaged is returned when stored data was damaged or altered.
	ErrDamaged = errors.New("stored data is damaged or altered")

	// ErrUnseal is returned when no unseal slot opens with the credential.
	ErrUnseal = errors.New("no unseal slot opens with this credential")

	// ErrSealed is returned when the operation needs the root key and the store
	// was opened without a credential.
	ErrSealed = errors.New("store is sealed")

	// ErrRootRotated is returned when the root key was rotated by somebody
	// else since this store was opened: open it again.
	ErrRootRotated = errors.New("root rotated, unseal again")

	// ErrRootRotating is returned for changes to master keys and slots while a
	// root rotation is unfinished.
	ErrRootRotating = errors.New("a root rotation is unfinished")

	// ErrTokenConflict is returned when a version token was used before for
	// another value.
	ErrTokenConflict = errors.New("version token was used for another value")

	// ErrConfiguredKey is returned by a put that names a master key other than
	// the one an existing secret is configured with.
	ErrConfiguredKey = errors.New("secret is configured with another master key")

	// ErrNotDue is returned by a purge before its date.
	ErrNotDue = errors.New("recovery window has not ended")

	// ErrOpens is returned by Discard for a version that can be opened, or that
	// could be if its master key were enabled.
	ErrOpens = errors.New("secret version can be opened")

	// ErrJobRunning is returned when a rotation job is open that the change
	// would cross, or whose lease another process holds.
	ErrJobRunning = errors.New("a rotation job is open")

	// ErrJobPaused is returned by a batch of a rotation job that was paused.
	ErrJobPaused = errors.New("the rotation job is paused")

	// ErrJobCancelled is returned by a batch of a rotation job that was
	// cancelled.
	ErrJobCancelled = errors.New("the rotation job was cancelled")

	// ErrBusy is returned when another writer held the file for longer than the
	// busy timeout, or when a caller's transaction began deferred and lost its
	// snapshot: begin immediate and retry the whole transaction.
	ErrBusy = errors.New("database is busy")

	// ErrNotAStore is returned when the file is not a reseal store.
	ErrNotAStore = errors.New("not a reseal store")

	// ErrSchemaNewer is returned when the store was written by a newer release.
	ErrSchemaNewer = errors.New("store has a newer schema than this release")

	// ErrSchemaBehind is returned when the store has an older schema than this
	// release and Options.Migrate says not to change it, or when it went down
	// while it was open.
	ErrSchemaBehind = errors.New("store has an older schema than this release")

	// ErrSchemaAltered is returned when reseal's tables or triggers are not as
	// its migrations made them, or when somebody else's triggers act on them.
	ErrSchemaAltered = errors.New("store's schema was altered")

	// ErrReadOnly is returned when the file or its folder cannot be written.
	ErrReadOnly = errors.New("store is read-only")

	// ErrDiskFull is returned when the disk is full. Nothing was changed.
	ErrDiskFull = errors.New("disk is full")

	// ErrIO is returned when the disk, or the file system, failed. Whether a
	// change was made that ended so can be seen when the store is opened again.
	ErrIO = errors.New("the disk failed")

	// ErrWeakDurability is returned by New when the host's connection settings
	// can lose acknowledged writes.
	ErrWeakDurability = errors.New("connection settings can lose acknowledged writes")

	// ErrRolledBack is returned when a store is not what an anchor says that it
	// was, or what came after: the file is an older copy, or another store.
	ErrRolledBack = errors.New("store is older than its anchor, or another")

	// ErrReplaced is returned when another file is at the store's path than the
	// one that was opened, or none. Open the store again.
	ErrReplaced = errors.New("the store's file was replaced or removed while it was open")

	// ErrPermissions is returned for a key file or store that others can read.
	ErrPermissions = errors.New("file can be read by others")

	// ErrClosed is returned by every operation after Close.
	ErrClosed = errors.New("store is closed")
)

// Error is the error of an operation on a secret or master key: which one,
// what state it is in, and the command that fixes it. Fields that do not apply
// are zero. It never holds a value or key.
type Error struct {
	Op                  string // "get", "put", "set-key", …
	Secret              string
	Version             uint64
	Labels              []string
	Key                 string // the master key the operation is about, if it is about one
	ConfiguredKey       string
	EffectiveKey        string
	EffectiveKeyVersion uint64
	KeyState            KeyState
	DeletionAt          time.Time   // when the key, or the secret, may be destroyed
	Dependents          *Dependents // what still needs the key, with ErrDependents
	Remedy              string      // a command line, "reseal …"
	Detail              string      // one clause, what exactly is wrong
	Err                 error       // a sentinel of this package, or wraps one
}

// Error returns one line with every fact and no remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Secret != "" {
		fmt.Fprintf(&b, " secret %q", e.Secret)
	}
	if e.Version != 0 {
		fmt.Fprintf(&b, " version %d", e.Version)
	}
	if len(e.Labels) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(e.Labels, ", "))
	}
	if e.Key != "" {
		fmt.Fprintf(&b, " key %q", e.Key)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	e.writeKeys(&b)
	return b.String()
}

func (e *Error) writeKeys(b *strings.Builder) {
	if e.ConfiguredKey != "" {
		fmt.Fprintf(b, "; configured key %q", e.ConfiguredKey)
	}
	if e.EffectiveKey != "" {
		fmt.Fprintf(b, "; effective key %q version %d", e.EffectiveKey, e.EffectiveKeyVersion)
	}
	if e.KeyState != "" {
		fmt.Fprintf(b, "; key is %s", e.KeyState)
	}
	if !e.DeletionAt.IsZero() {
		fmt.Fprintf(b, "; deletion at %s", e.DeletionAt.UTC().Format(time.RFC3339))
	}
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}
