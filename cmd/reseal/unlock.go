package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/reseal/reseal/crypto"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/store"
)

// A credential comes from the first of these that is there: the flags
// --key-file and --passphrase-file, the variables RESEAL_KEY_FILE,
// RESEAL_PASSPHRASE_FILE and RESEAL_PASSPHRASE, systemd's credential reseal.key,
// and the terminal.

// source is where a credential comes from.
type source struct {
	keyFile        string
	passphraseFile string
	passphrase     []byte
}

func (s *source) none() bool {
	return s.keyFile == "" && s.passphraseFile == "" && s.passphrase == nil
}

// configured returns the source that flags and environment name, if any.
func (a *app) configured() (source, error) {
	if a.keyFile != "" && a.passphraseFile != "" {
		return source{}, usagef("", "--key-file and --passphrase-file: give one of them")
	}
	if a.keyFile != "" || a.passphraseFile != "" {
		return source{keyFile: a.keyFile, passphraseFile: a.passphraseFile}, nil
	}
	if f := os.Getenv("RESEAL_KEY_FILE"); f != "" {
		return source{keyFile: f}, nil
	}
	if f := os.Getenv("RESEAL_PASSPHRASE_FILE"); f != "" {
		return source{passphraseFile: f}, nil
	}
	if p := os.Getenv("RESEAL_PASSPHRASE"); p != "" {
		return source{passphrase: []byte(p)}, nil
	}
	if f := systemdKey(); f != "" {
		return source{keyFile: f}, nil
	}
	return source{}, nil
}

// systemdKey returns the path of the credential that a systemd unit passes with
// LoadCredential=reseal.key:…
func systemdKey() string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, "reseal.key")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// credential returns the credential of a source.
func (s *source) credential() (store.Credential, error) {
	if s.keyFile != "" {
		return store.KeyFile(s.keyFile), nil
	}
	if s.passphraseFile != "" {
		p, err := readPassphrase(s.passphraseFile)
		if err != nil {
			return store.Credential{}, err
		}
		s.passphrase = p
	}
	defer clear(s.passphrase)
	if len(s.passphrase) == 0 {
		e := &cliError{exit: exitSealed, code: "unseal_failed", msg: "the passphrase is empty"}
		if s.passphraseFile != "" {
			e.msg = fmt.Sprintf("passphrase file %q: the passphrase is empty", s.passphraseFile)
		}
		return store.Credential{}, e
	}
	return store.Passphrase(s.passphrase), nil
}

// readPassphrase reads a file that only its owner can read; one line end at its
// end is not part of the passphrase.
func readPassphrase(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, credentialError(fmt.Errorf("passphrase file: %w", err))
	}
	if !info.Mode().IsRegular() || info.Size() > 4096 {
		return nil, credentialError(fmt.Errorf("passphrase file %q: %w: not a small regular file", path, store.ErrInvalid))
	}
	if mode := info.Mode(); runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
		return nil, credentialError(fmt.Errorf("passphrase file %q has mode %04o: %w: run chmod 600 on it", path, mode.Perm(), store.ErrPermissions))
	}
	p, err := os.ReadFile(path)
	if err != nil {
		return nil, credentialError(fmt.Errorf("passphrase file: %w", err))
	}
	p, _ = bytes.CutSuffix(p, []byte("\n"))
	p, _ = bytes.CutSuffix(p, []byte("\r"))
	return p, nil
}

// giveCredential is what to do where nobody can be asked for a passphrase.
const giveCredential = "give --key-file or --passphrase-file, or set RESEAL_KEY_FILE, RESEAL_PASSPHRASE_FILE or RESEAL_PASSPHRASE"

// ask returns the store's passphrase from the terminal.
func (a *app) ask(ctx context.Context) (source, error) {
	t, err := openTerminal()
	if err != nil {
		return source{}, &cliError{exit: exitSealed, code: "sealed", msg: "the store is sealed and there is no terminal to ask for the passphrase on", remedy: giveCredential}
	}
	defer t.close()
	p, err := t.secret(ctx, "Passphrase for "+a.db+": ")
	return typed(p), err
}

// askNew returns a new passphrase from the terminal, asked for twice. Remedy
// names the flags that give it where there is none.
func (a *app) askNew(ctx context.Context, remedy string) (source, error) {
	t, err := openTerminal()
	if err != nil {
		return source{}, &cliError{exit: exitSealed, code: "sealed", msg: "there is no terminal to ask for a new passphrase on", remedy: remedy}
	}
	defer t.close()
	p, err := t.secretTwice(ctx, "New passphrase for "+a.db)
	return typed(p), err
}

// typed is the source of what was typed, be it empty.
func typed(p []byte) source {
	if p == nil {
		p = []byte{}
	}
	return source{passphrase: p}
}

// credentialError gives an error in reading a credential the exit code of a
// store that does not open.
func credentialError(err error) error {
	e := &cliError{exit: exitSealed, code: "credential", msg: err.Error(), err: err}
	switch {
	case errors.Is(err, store.ErrPermissions):
		e.code = "permissions"
	case errors.Is(err, fs.ErrNotExist):
		e.remedy = "name the key file with --key-file, or the file of the passphrase with --passphrase-file"
	}
	return e
}

// isCredentialError reports whether a key file could not be used at all.
func isCredentialError(err error) bool {
	var path *fs.PathError
	return errors.Is(err, crypto.ErrKeyFile) || errors.Is(err, store.ErrPermissions) ||
		errors.As(err, &path) && strings.Contains(err.Error(), "key file")
}

// open opens the store with a credential.
func (a *app) open(ctx context.Context) (*store.Store, error) {
	src, err := a.configured()
	if err != nil {
		return nil, err
	}
	if src.none() {
		// Whether it is a store is known before anybody is asked for a passphrase.
		s, err := store.OpenSealed(ctx, a.db, a.options())
		if err != nil {
			return nil, err
		}
		s.Close()
		if src, err = a.ask(ctx); err != nil {
			return nil, err
		}
	}
	return a.openWith(ctx, src)
}

func (a *app) openWith(ctx context.Context, src source) (*store.Store, error) {
	cred, err := src.credential()
	if err != nil {
		return nil, err
	}
	a.cred = cred
	opts := a.options()
	if opts.Anchor, err = a.anchor(); err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, a.db, cred, opts)
	if err != nil && isCredentialError(err) {
		err = credentialError(err)
	}
	return s, err
}

func (a *app) options() *store.Options {
	return &store.Options{MaxValue: a.maxValue, Now: a.now, Migrated: a.migrated}
}

// migrated says that opening the store changed its schema.
func (a *app) migrated(res migrations.Result) {
	if !a.json {
		fmt.Fprintf(a.stderr, "reseal: schema version %d to %d; the store as it was: %s\n", res.From, res.To, res.Backup)
	}
}

// unsealed runs fn with the open store.
func (a *app) unsealed(ctx context.Context, fn func(*store.Store) error) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

// readable runs fn with the store, opened with a credential only if flags or
// environment give one: nobody is asked.
func (a *app) readable(ctx context.Context, fn func(*store.Store) error) error {
	src, err := a.configured()
	if err != nil {
		return err
	}
	var s *store.Store
	if src.none() && a.anchorFile != "" {
		return &cliError{exit: exitSealed, code: "sealed", msg: "an anchor is compared with an unsealed store", remedy: "give --key-file or --passphrase-file"}
	}
	if src.none() {
		s, err = store.OpenSealed(ctx, a.db, a.options())
	} else {
		s, err = a.openWith(ctx, src)
	}
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}
