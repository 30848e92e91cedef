package store

import (
	"log/slog"
	"time"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/migrations"
)

// KeyState is the state of a master key, after NIST SP 800-57 part 1.
type KeyState string

// What each state allows: enabled, everything; disabled and pending deletion,
// nothing but moving away from the key (SetKey, rotation), verification and
// backup; destroyed, nothing, the material is gone.
const (
	Enabled         KeyState = "enabled"
	Disabled        KeyState = "disabled"
	PendingDeletion KeyState = "pending deletion"
	Destroyed       KeyState = "destroyed"
)

// The labels that the store itself moves.
const (
	LabelCurrent  = "current"
	LabelPrevious = "previous"
	LabelPending  = "pending"
)

// Limits and defaults.
const (
	DefaultKeyName  = "default" // the master key that Create makes
	DefaultMaxValue = 64 << 10  // bytes
	MaxValueLimit   = 1 << 20   // bytes, the most that MaxValue may be
	MinWindow       = 7 * day   // shortest recovery window and key deletion window
	MaxWindow       = 30 * day  // longest
	DefaultWindow   = 30 * day  // and the default
	DefaultBusy     = 10 * time.Second
	day             = 24 * time.Hour
)

// MigrateMode is what opening a store does about a schema that is behind this
// release. A newer schema is refused in every mode.
type MigrateMode int

const (
	// MigrateUp brings the schema up to this release, in one transaction, after
	// a backup.
	MigrateUp MigrateMode = iota

	// MigrateRefuse refuses with ErrSchemaBehind, for hosts that migrate as a
	// step of their own: with migrations.Up, with reseal migrate up, or with a
	// tool of theirs.
	MigrateRefuse

	// MigrateCheck refuses with ErrSchemaBehind too, after it ran the migration
	// and rolled it back: the error says whether it would work. It takes the
	// write lock for that.
	MigrateCheck
)

// Options says how a store behaves. The zero value is ready to use.
type Options struct {
	// Actor is who audit events name. Defaults to the user's login name, or
	// "unknown".
	Actor string

	// Now tells the time. Defaults to time.Now. Deadlines and dates come from
	// it; the store keeps milliseconds.
	Now func() time.Time

	// MaxValue is the longest value that Put takes, in bytes. Defaults to
	// DefaultMaxValue; at most MaxValueLimit. Get returns longer ones.
	MaxValue int

	// AuditReads also writes an audit event for every value that is read,
	// which makes each Get a write. Defaults to false.
	AuditReads bool

	// Anchor, if not nil, was taken from this store earlier: opening an older
	// copy is then ErrRolledBack.
	Anchor *Anchor

	// AllowWeakDurability lets New use a database whose settings can lose
	// acknowledged writes. Defaults to false.
	AllowWeakDurability bool

	// BusyTimeout is how long to wait for another process's write, for a store
	// on its own file. Defaults to DefaultBusy.
	BusyTimeout time.Duration

	// Migrate says what to do about a schema that is behind this release.
	// Defaults to MigrateUp.
	Migrate MigrateMode

	// Migrated, if not nil, is called when opening the store changed its schema,
	// with the versions and the path of the copy that was made before.
	Migrated func(migrations.Result)

	// Logger gets progress and warnings, never a value or key. Defaults to
	// discarding them.
	Logger *slog.Logger

	// KDF replaces the Argon2id parameters of new passphrase slots, to make
	// tests fast. Defaults to crypto.DefaultKDF.
	KDF func() crypto.KDF
}

// Value is a secret's value with where it came from. It cannot be printed: the
// bytes sit behind a closure.
type Value struct {
	Name      string
	Version   uint64
	CreatedAt time.Time
	bytes     func() []byte
}

// Bytes returns the value. The slice is the caller's: it may be changed, and
// should be cleared when it is no longer needed. Every call returns the same
// slice.
func (v Value) Bytes() []byte {
	if v.bytes == nil {
		return nil
	}
	return v.bytes()
}

// Clear overwrites the value in memory.
func (v Value) Clear() { clear(v.Bytes()) }

// PutOptions says how to put a value. A nil *PutOptions is the zero value.
type PutOptions struct {
	// Key is the master key of a new secret. Defaults to the store's default
	// key. For an existing secret it may only repeat the configured key: SetKey
	// changes it.
	Key string

	// Label is the staging label that moves to the new version. Defaults to
	// LabelCurrent. The first version of a secret gets LabelCurrent too.
	Label string

	// Token makes a retry safe: 1 to 64 characters, unique per secret. A put
	// that repeats a token returns the version that it made, if the value is
	// the same, and ErrTokenConflict if not. Defaults to none.
	Token string

	// Description replaces the secret's description, if not nil: at most 1024
	// characters.
	Description *string

	// Tags are added to the secret's tags.
	Tags map[string]string
}

// PutResult says what a put did.
type PutResult struct {
	Name       string
	Version    uint64
	Key        string // the configured key
	KeyVersion uint64 // the version of it that wraps this secret version
	Created    bool   // the secret is new
	Replayed   bool   // the token was known: nothing was changed
	// Redirected is the key that the put named, if a rotation job away from it
	// is open and the new secret was therefore created under Key.
	Redirected string
}

// SecretInfo is everything about a secret but its values.
type SecretInfo struct {
	Name           string
	Description    string
	Tags           map[string]string
	ConfiguredKey  string
	CurrentVersion uint64   // 0 if no version is current
	EffectiveKeys  []string // names of the keys that really wrap its versions, sorted
	Drift          bool     // some effective key is not the configured key: damage
	Behind         bool     // some version is not under its key's primary version
	CreatedAt      time.Time
	UpdatedAt      time.Time
	DeletedAt      time.Time // zero unless deleted
	PurgeAt        time.Time // zero unless deleted
	Versions       []VersionInfo
	// Authenticated says that the record tags of the secret and its master keys
	// were checked and every wrap was opened. A sealed store gives what is
	// recorded.
	Authenticated bool
	// Damage says what List found wrong; the rest is then as recorded, as far as
	// it could be read. Show returns an error instead.
	Damage string
}

// VersionInfo is one secret version.
type VersionInfo struct {
	Version             uint64
	Labels              []string // sorted
	EffectiveKey        string
	EffectiveKeyVersion uint64
	Behind              bool
	CreatedAt           time.Time
	Token               string
}

// KeyInfo is everything about a master key but its material.
type KeyInfo struct {
	Name           string
	State          KeyState
	PrimaryVersion uint64
	Default        bool // new secrets are created under it
	CreatedAt      time.Time
	DeletionAt     time.Time // zero unless pending deletion
	Versions       []KeyVersionInfo
	Dependents     Dependents
	Authenticated  bool
}

// KeyVersionInfo is one master key version.
type KeyVersionInfo struct {
	Version   uint64
	State     KeyState // the key's, or Destroyed
	DataKeys  int64    // how many data keys it wraps
	CreatedAt time.Time
}

// Dependents is what still needs a master key, or a version of it.
type Dependents struct {
	Secrets        int64 // live secrets with a version that it wraps, or configured with it
	Versions       int64 // data keys that it wraps
	DeletedSecrets int64 // deleted, restorable secrets with the same need

	Labelled   int64 // of Versions: with a label other than pending
	Pending    int64 // of Versions: labelled pending and nothing else
	Unlabelled int64 // of Versions: without a label
	OfDeleted  int64 // of Versions: of deleted secrets, whatever their labels

	Configured int64    // secrets, deleted ones included, configured with it
	Default    bool     // it is the default key
	Jobs       []string // ids of unfinished rotation jobs from or to it

	Names   []string // the first secrets, at most 10, by name
	Backups []string // known backups that need it: listed, they do not hold the key
}

// Any reports whether something holds the key. Known backups do not.
func (d Dependents) Any() bool {
	return d.Secrets+d.Versions+d.DeletedSecrets+d.Configured > 0 || d.Default || len(d.Jobs) > 0
}
