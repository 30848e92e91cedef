package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/store"
)

// The exit codes. docs/cli.md has them too.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2   // usage or bad input
	exitFound       = 3   // a check found something
	exitSealed      = 4   // no unseal slot opens
	exitIncomplete  = 5   // a rotation is open; running it again can go on
	exitKey         = 6   // a master key is unavailable
	exitDependents  = 7   // a master key is still needed
	exitDamaged     = 8   // stored data is damaged or altered
	exitNotFound    = 9   // no such secret, version, label or key
	exitDeleted     = 10  // the secret is deleted and can be restored
	exitInterrupted = 130 // after a clean stop
)

// cliError is an error of the command line itself, or another error with the
// exit code that it shall have.
type cliError struct {
	exit   int
	code   string
	msg    string
	remedy string // a command line, "reseal …", or a hint in words
	err    error
}

func (e *cliError) Error() string { return e.msg }
func (e *cliError) Unwrap() error { return e.err }

// usagef is bad usage or input, with what to do.
func usagef(remedy, format string, args ...any) error {
	return &cliError{exit: exitUsage, code: "usage", msg: fmt.Sprintf(format, args...), remedy: remedy}
}

// existsf is a file in the way of one that is to be made.
func existsf(format string, args ...any) error {
	return &cliError{exit: exitFailed, code: "exists", msg: fmt.Sprintf(format, args...) + ": there is such a file already", remedy: "name another file", err: store.ErrExists}
}

// makeError is an error in making a new file.
func makeError(what string, err error) error {
	switch {
	case errors.Is(err, fs.ErrExist):
		return existsf("%s", what)
	case errors.Is(err, fs.ErrNotExist):
		return usagef("", "%s: there is no such folder", what)
	}
	return &cliError{exit: exitFailed, code: "output", msg: fmt.Sprintf("%s: %v", what, err), err: err}
}

// foundf is the end of a check that found something.
func foundf(format string, args ...any) error {
	return &cliError{exit: exitFound, code: "found", msg: fmt.Sprintf(format, args...)}
}

// kinds gives each sentinel its code and exit code. When several apply, the
// first does.
var kinds = []struct {
	err    error
	code   string
	exit   int
	remedy string
}{
	{store.ErrUnseal, "unseal_failed", exitSealed, "give the passphrase or key file of one of the store's unseal slots"},
	{store.ErrSealed, "sealed", exitSealed, "give --key-file or --passphrase-file"},
	{store.ErrPermissions, "permissions", exitSealed, ""},
	{store.ErrNotFound, "not_found", exitNotFound, ""},
	{store.ErrDeleted, "deleted", exitDeleted, ""},
	{store.ErrKeyUnavailable, "key_unavailable", exitKey, ""},
	{store.ErrDamaged, "damaged", exitDamaged, "reseal verify --deep"},
	{store.ErrSchemaAltered, "schema_altered", exitDamaged, ""},
	{migrations.ErrAltered, "schema_altered", exitDamaged, ""},
	{store.ErrRolledBack, "rolled_back", exitDamaged, "compare the file with your backups: it is not what the anchor was taken from"},
	{store.ErrDependents, "dependents", exitDependents, ""},
	{store.ErrInvalid, "invalid", exitUsage, ""},
	{migrations.ErrVersion, "invalid", exitUsage, "reseal migrate status"},
	{store.ErrSchemaNewer, "schema_newer", exitFailed, "use the newer release that wrote the store"},
	{store.ErrSchemaBehind, "schema_behind", exitFailed, "reseal migrate up"},
	{migrations.ErrEdited, "schema_edited", exitFailed, "use a release of reseal as it was published"},
	{migrations.ErrNewer, "schema_newer", exitFailed, "use the newer release that wrote the store"},
	{store.ErrNotAStore, "not_a_store", exitFailed, "name the store with --db or RESEAL_DB, or make one: reseal init"},
	{migrations.ErrNotAStore, "not_a_store", exitFailed, "name the store with --db or RESEAL_DB, or make one: reseal init"},
	{store.ErrTokenConflict, "token_conflict", exitFailed, "use a new token for a new value"},
	{store.ErrConfiguredKey, "configured_key", exitFailed, ""},
	{store.ErrKeyState, "key_state", exitFailed, ""},
	{store.ErrExists, "exists", exitFailed, ""},
	{store.ErrNotDue, "not_due", exitFailed, ""},
	{store.ErrOpens, "opens", exitFailed, ""},
	{store.ErrJobRunning, "job_running", exitFailed, "reseal rotate status"},
	{store.ErrJobPaused, "job_paused", exitIncomplete, "reseal rotate resume"},
	{store.ErrJobCancelled, "job_cancelled", exitFailed, "reseal rotate status"},
	{store.ErrRootRotating, "root_rotating", exitFailed, "reseal unseal rotate-root"},
	{store.ErrRootRotated, "root_rotated", exitFailed, "run the command again"},
	{store.ErrReplaced, "replaced", exitFailed, "run the command again"},
	{store.ErrBusy, "busy", exitFailed, "run the command again when that has ended"},
	{migrations.ErrBusy, "busy", exitFailed, "run the command again when that has ended"},
	{migrations.ErrInUse, "in_use", exitFailed, "stop what uses the store and run the command again"},
	{migrations.ErrDataLoss, "data_loss", exitFailed, "bring an older store back with reseal migrate restore, or agree to the loss with --destroy-data"},
	{store.ErrDiskFull, "disk_full", exitFailed, "make room on the disk and run the command again"},
	{migrations.ErrDiskFull, "disk_full", exitFailed, "make room on the disk and run the command again"},
	{store.ErrIO, "io_error", exitFailed, "look at the disk and its messages, then run: reseal verify --deep"},
	{store.ErrReadOnly, "read_only", exitFailed, "give this user the right to write the store's file and its folder: SQLite needs it to read, too"},
	{migrations.ErrReadOnly, "read_only", exitFailed, "give this user the right to write the store's file and its folder: SQLite needs it to read, too"},
	{store.ErrWeakDurability, "weak_durability", exitFailed, ""},
}

// report is an error as it is printed. Its JSON form is a contract.
type report struct {
	Error               string       `json:"error"`
	Code                string       `json:"code"`
	Secret              string       `json:"secret,omitempty"`
	Version             uint64       `json:"version,omitempty"`
	Labels              []string     `json:"labels,omitempty"`
	Key                 string       `json:"key,omitempty"`
	ConfiguredKey       string       `json:"configured_key,omitempty"`
	EffectiveKey        string       `json:"effective_key,omitempty"`
	EffectiveKeyVersion uint64       `json:"effective_key_version,omitempty"`
	KeyState            string       `json:"key_state,omitempty"`
	DeletionAt          *stamp       `json:"deletion_at,omitempty"`
	Dependents          *jsonHolders `json:"dependents,omitempty"`
	Remedy              string       `json:"remedy,omitempty"`
	exit                int
}

// fail prints err and returns the exit code.
func (a *app) fail(err error) int {
	r := a.describe(err)
	if a.json {
		enc := json.NewEncoder(a.stderr)
		enc.SetEscapeHTML(false)
		enc.Encode(r)
		return r.exit
	}
	fmt.Fprintf(a.stderr, "%s %s\n", a.paint(a.stderr, red, "reseal: error:"), strings.ReplaceAll(r.Error, "\n", "; "))
	if strings.HasPrefix(r.Remedy, "reseal ") {
		a.hint("run: %s", r.Remedy)
	} else if r.Remedy != "" {
		a.hint("%s", r.Remedy)
	}
	return r.exit
}

func (a *app) describe(err error) report {
	r := report{Error: err.Error(), Code: "failed", exit: exitFailed}
	var c *cliError
	var e *store.Error
	if errors.As(err, &e) {
		r.fill(e)
	}
	switch {
	case errors.As(err, &c):
		r.Code, r.exit, r.Remedy = c.code, c.exit, c.remedy
	case errors.Is(err, context.Canceled):
		r.Code, r.exit = "interrupted", exitInterrupted
		r.Error = "interrupted: what was not finished was not changed"
	default:
		r.classify(err)
	}
	r.Remedy = a.completed(r.Remedy)
	return r
}

func (r *report) classify(err error) {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			r.Code, r.exit = k.code, k.exit
			if k.code == "busy" {
				r.Error = "the store is busy: another process was writing for too long, nothing was changed"
			}
			if r.Remedy == "" {
				r.Remedy = k.remedy
			}
			return
		}
	}
}

func (r *report) fill(e *store.Error) {
	r.Secret, r.Version, r.Labels = e.Secret, e.Version, e.Labels
	r.Key, r.ConfiguredKey = e.Key, e.ConfiguredKey
	r.EffectiveKey, r.EffectiveKeyVersion = e.EffectiveKey, e.EffectiveKeyVersion
	r.KeyState, r.Remedy = string(e.KeyState), e.Remedy
	if !e.DeletionAt.IsZero() {
		r.DeletionAt = &stamp{e.DeletionAt}
	}
	if e.Dependents != nil {
		r.Dependents = holders(*e.Dependents)
	}
}

// completed adds to a command the flags with which this one found its store, so
// that it works as it is printed.
func (a *app) completed(remedy string) string {
	if !strings.HasPrefix(remedy, "reseal ") || strings.HasSuffix(remedy, "--help") {
		return remedy
	}
	flags := a.root.PersistentFlags()
	for _, name := range []string{"db", "key-file", "passphrase-file", "anchor"} {
		if f := flags.Lookup(name); f != nil && f.Changed {
			remedy += " --" + name + " " + shellQuote(f.Value.String())
		}
	}
	return remedy
}

// shellQuote quotes s for a POSIX shell if it has to be.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./=:@%+,", r))
	}
	if s != "" && strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
