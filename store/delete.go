package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// DeleteResult says what a Delete did.
type DeleteResult struct {
	Name    string
	PurgeAt time.Time // from then on Purge and Sweep may remove it for good
	// Warnings says, a sentence each, which of the secret's master keys could
	// stand in the way of reading it after a restore.
	Warnings []string
}

// RestoreResult says what a Restore did.
type RestoreResult struct {
	Name     string
	Restored bool     // false if it was not deleted: nothing was changed
	Warnings []string // which master keys stand in the way of reading it
}

// Delete starts a secret's recovery window of 7 to 30 days (0 is 30). Until it
// is purged its versions, labels and name stay; Show and SetKey work, Get and
// Put fail with ErrDeleted, and Restore takes the deletion back. The date alone
// removes nothing: Purge and Sweep do.
func (s *Store) Delete(ctx context.Context, name string, window time.Duration) (DeleteResult, error) {
	var res DeleteResult
	err := s.write(ctx, func(t *tx) (err error) { res, err = t.deleteSecret(name, window); return err })
	return res, err
}

// DeleteTx is Delete in the caller's transaction.
func (s *Store) DeleteTx(ctx context.Context, caller *sql.Tx, name string, window time.Duration) (DeleteResult, error) {
	var res DeleteResult
	err := s.join(ctx, caller, func(t *tx) (err error) { res, err = t.deleteSecret(name, window); return err })
	return res, err
}

// Restore takes the deletion of a secret back, also past its date as long as it
// was not purged. It changes nothing for a secret that is not deleted, and is
// ErrNotFound after the purge.
func (s *Store) Restore(ctx context.Context, name string) (RestoreResult, error) {
	var res RestoreResult
	err := s.write(ctx, func(t *tx) (err error) { res, err = t.restore(name); return err })
	return res, err
}

// RestoreTx is Restore in the caller's transaction.
func (s *Store) RestoreTx(ctx context.Context, caller *sql.Tx, name string) (RestoreResult, error) {
	var res RestoreResult
	err := s.join(ctx, caller, func(t *tx) (err error) { res, err = t.restore(name); return err })
	return res, err
}

func (t *tx) deleteSecret(name string, d time.Duration) (DeleteResult, error) {
	res := DeleteResult{Name: name}
	if err := CheckName(name); err != nil {
		return res, err
	}
	ms, err := window(d)
	if err != nil {
		return res, err
	}
	sec, err := t.liveSecret("delete", name)
	if err != nil {
		return res, err
	}
	sec.deletedAt, sec.purgeAt = t.now, t.now+ms
	res.PurgeAt = fromMillis(sec.purgeAt)
	if res.Warnings, err = t.keyWarnings(sec); err != nil {
		return res, err
	}
	t.audit(event{action: "delete", secret: name, key: sec.keyName, detail: map[string]any{
		"purge_at": res.PurgeAt.Format(time.RFC3339),
	}})
	return res, t.saveSecret(sec)
}

func (t *tx) restore(name string) (RestoreResult, error) {
	res := RestoreResult{Name: name}
	if err := CheckName(name); err != nil {
		return res, err
	}
	sec, err := t.existing(name)
	if err != nil {
		return res, err
	}
	if res.Warnings, err = t.keyWarnings(sec); err != nil || sec.deletedAt == 0 {
		return res, err
	}
	t.audit(event{action: "restore", secret: name, key: sec.keyName, detail: map[string]any{
		"purge_at": fromMillis(sec.purgeAt).Format(time.RFC3339),
	}})
	sec.deletedAt, sec.purgeAt, res.Restored = 0, 0, true
	return res, t.saveSecret(sec)
}

// keyWarnings says which of a secret's master keys, the configured one and
// those that really wrap its versions, do not let it be read.
func (t *tx) keyWarnings(sec *secret) ([]string, error) {
	keys, err := loadKeys(t.ctx, t.q, `
		WHERE k.id IN (
			SELECT kv.master_key
			FROM reseal_secret_versions AS v
			JOIN reseal_data_keys AS d ON d.id = v.id
			JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
			WHERE v.secret = ?
			UNION
			SELECT ?)`, sec.row, sec.keyRow)
	var out []string
	for _, k := range keys {
		if w := t.keyWarning(sec, k); w != "" {
			out = append(out, w)
		}
	}
	return out, err
}

func (t *tx) keyWarning(sec *secret, k *masterKey) string {
	switch {
	case t.s.keys.checkKey(k) != nil:
		return fmt.Sprintf("the record of master key %q was altered: reseal explain %s", k.name, sec.name)
	case k.state == Disabled:
		return fmt.Sprintf("master key %q is disabled, the secret cannot be read until: %s", k.name, enableRemedy(k, k.state))
	case k.state == PendingDeletion:
		return fmt.Sprintf("master key %q may be destroyed from %s on%s: %s", k.name,
			fromMillis(k.deletionAt).Format(time.RFC3339), beforePurge(sec, k), enableRemedy(k, k.state))
	case k.state == Destroyed:
		return fmt.Sprintf("master key %q is destroyed: reseal explain %s", k.name, sec.name)
	}
	return ""
}

func beforePurge(sec *secret, k *masterKey) string {
	if sec.purgeAt == 0 || k.deletionAt >= sec.purgeAt {
		return ""
	}
	return ", before the secret's recovery window ends"
}
