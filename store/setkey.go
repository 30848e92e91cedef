package store

import (
	"context"
	"database/sql"
)

// SetKeyResult says what SetKey did.
type SetKeyResult struct {
	Name       string
	From       string // the configured key before
	To         string // and now
	KeyVersion uint64 // the version of it that wraps every secret version
	Versions   int    // how many secret versions the secret has
	Rewrapped  int    // how many of them were rewrapped; the others were there already
}

// SetKey changes the master key of a secret: the data key of every version,
// labelled or not, is rewrapped under the key's primary version and proved to
// open, in one transaction, or nothing changes. Values are not touched. With
// the key that the secret has, it moves the versions that are behind. A deleted
// secret can be moved too. The old key may be disabled, pending deletion, or
// have an altered record: this is the way out.
//
// It is for routine. When a master key may have leaked, whoever copied the file
// and the key can open the copy for ever: put new values.
func (s *Store) SetKey(ctx context.Context, name, key string) (SetKeyResult, error) {
	var res SetKeyResult
	err := s.write(ctx, func(t *tx) (err error) { res, err = t.setKeyByName(name, key); return err })
	return res, err
}

// SetKeyTx is SetKey in the caller's transaction.
func (s *Store) SetKeyTx(ctx context.Context, caller *sql.Tx, name, key string) (SetKeyResult, error) {
	var res SetKeyResult
	err := s.join(ctx, caller, func(t *tx) (err error) { res, err = t.setKeyByName(name, key); return err })
	return res, err
}

func (t *tx) setKeyByName(name, key string) (SetKeyResult, error) {
	if err := CheckName(name); err != nil {
		return SetKeyResult{}, err
	}
	sec, err := t.existing(name)
	if err != nil {
		return SetKeyResult{}, err
	}
	to, err := t.keyByName(key)
	if err != nil {
		return SetKeyResult{}, err
	}
	return t.setKey(sec, to, "set-key")
}

// setKey rewraps all versions of a checked secret under the primary version of
// to, and makes to the configured key.
func (t *tx) setKey(sec *secret, to *masterKey, action string) (SetKeyResult, error) {
	m, err := t.mover(to)
	if err != nil {
		return SetKeyResult{Name: sec.name, From: sec.keyName, To: to.name}, err
	}
	versions, err := m.prepare(sec)
	if err != nil {
		return SetKeyResult{Name: sec.name, From: sec.keyName, To: to.name}, err
	}
	return m.write(sec, versions, action)
}

func discardRemedy(sec *secret, d dataKey) string {
	return "reseal discard " + sec.name + " --version " + formatNumber(d.number)
}
