package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/reseal/reseal/store"
)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Create the store",
		Long: `Create the store, readable by you only, with one way to unseal it and the master
key "default".

With --key-file F (or RESEAL_KEY_FILE) a new random key is written to F, which
must not exist. Otherwise the passphrase comes from --passphrase-file,
RESEAL_PASSPHRASE_FILE, RESEAL_PASSPHRASE or the terminal. Whoever loses the key
file or passphrase has lost the store: keep a copy elsewhere, or add a second
way with reseal unseal add.`,
		Example: `  reseal init --db new.db --key-file new.key`,
		Args:    takes(),
		RunE:    a.runs(a.init),
	}
}

type jsonInit struct {
	DB         string `json:"db"`
	KeyFile    string `json:"key_file,omitempty"`
	DefaultKey string `json:"default_key"`
}

func (a *app) init(ctx context.Context, _ []string) error {
	if _, err := os.Lstat(a.db); err == nil {
		return existsf("create store %q", a.db)
	}
	if _, err := os.Stat(filepath.Dir(a.db)); errors.Is(err, fs.ErrNotExist) {
		return makeError(fmt.Sprintf("create store %q", a.db), err)
	}
	cred, written, err := a.newCredential(ctx)
	if err != nil {
		return err
	}
	s, err := store.Create(ctx, a.db, cred, a.options())
	if err != nil {
		removeNew(written)
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	res := jsonInit{DB: a.db, KeyFile: written, DefaultKey: store.DefaultKeyName}
	if written == "" {
		err = a.say(res, "created %s with the master key %q", a.db, res.DefaultKey)
	} else {
		err = a.say(res, "created %s with the master key %q, unsealed by the new key file %s", a.db, res.DefaultKey, written)
		a.hint("keep a copy of %s elsewhere: without it nothing in the store can be read", written)
	}
	a.hint("next: reseal random | %s", a.completed("reseal put app/db/password"))
	return err
}

// newCredential returns the credential of the first slot, and the path of the key
// file if it wrote one. The key that systemd passes is there already.
func (a *app) newCredential(ctx context.Context) (store.Credential, string, error) {
	src, err := a.configured()
	if err != nil {
		return store.Credential{}, "", err
	}
	if src.keyFile != "" && src.keyFile == systemdKey() {
		cred, err := src.credential()
		return cred, "", err
	}
	return a.credentialFor(ctx, src, giveCredential)
}

// removeNew removes a key file that was written for nothing.
func removeNew(path string) {
	if path != "" {
		os.Remove(path)
	}
}
