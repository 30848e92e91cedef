package store

import (
	"context"
	"database/sql"
)

// PurgeResult says what a Purge did.
type PurgeResult struct {
	Name     string
	Versions int // how many secret versions were removed
	// Residue says that what was removed is still in the database's log,
	// because a reader kept it from being emptied or the file is a host's. That
	// it is false proves nothing about unused parts of pages, where SQLite may
	// have left copies of rows that it moved: Settle with scrub clears those.
	Residue bool
}

// Purge removes a deleted secret for good once its recovery window has ended,
// and before that ErrNotDue. With now it removes any secret at once, a live one
// and one whose record was altered too: that is what is left when there is no
// backup to go back to. What remains is the name, so that version numbers go on
// when it is used again, and the audit events.
func (s *Store) Purge(ctx context.Context, name string, now bool) (PurgeResult, error) {
	var res PurgeResult
	err := s.write(ctx, func(t *tx) (err error) { res, err = t.purge(name, now); return err })
	if err == nil {
		res.Residue = !s.retired(ctx, "a purged secret")
	}
	return res, err
}

// PurgeTx is Purge in the caller's transaction. Residue is true: what was
// removed leaves the log after the commit, with the next checkpoint.
func (s *Store) PurgeTx(ctx context.Context, caller *sql.Tx, name string, now bool) (PurgeResult, error) {
	var res PurgeResult
	err := s.join(ctx, caller, func(t *tx) (err error) { res, err = t.purge(name, now); return err })
	res.Residue = err == nil
	return res, err
}

func (t *tx) purge(name string, now bool) (PurgeResult, error) {
	res := PurgeResult{Name: name}
	if err := CheckName(name); err != nil {
		return res, err
	}
	sec, err := loadSecret(t.ctx, t.q, name)
	if err != nil {
		return res, err
	}
	if sec == nil {
		return res, noSecret(name)
	}
	altered := t.s.keys.checkSecret(sec)
	if err := t.mayPurge(sec, now, altered); err != nil {
		return res, err
	}
	detail := map[string]any{"versions": 0}
	if altered != nil {
		detail["altered"] = true
	}
	key := sec.keyName
	if res.Versions, err = t.entomb(sec); err != nil {
		return res, err
	}
	detail["versions"] = res.Versions
	t.audit(event{action: "purge", secret: name, key: key, detail: detail})
	return res, nil
}

// mayPurge refuses a purge before its date, and without now that of a secret
// whose record was altered. A tombstone is purged only to mend it: when it was
// altered, or versions were put under it by other means.
func (t *tx) mayPurge(sec *secret, now bool, altered error) error {
	if sec.tombstone() && altered == nil {
		left, err := t.hasVersions(sec)
		if err == nil && !(left && now) {
			err = noSecret(sec.name)
		}
		return err
	}
	switch {
	case now:
		return nil
	case altered != nil:
		return altered
	case sec.deletedAt == 0:
		return notDue(sec, "it is not deleted", "reseal delete "+sec.name)
	case t.now < sec.purgeAt:
		return notDue(sec, "", "reseal purge "+sec.name+" --now")
	}
	return nil
}

func notDue(sec *secret, detail, remedy string) error {
	return &Error{Op: "purge", Secret: sec.name, ConfiguredKey: sec.keyName, DeletionAt: fromMillis(sec.purgeAt),
		Err: ErrNotDue, Detail: detail, Remedy: remedy}
}

func (t *tx) hasVersions(sec *secret) (left bool, err error) {
	err = t.queryRow(`SELECT EXISTS (SELECT 1 FROM reseal_secret_versions WHERE secret = ?)`, sec.row).Scan(&left)
	return left, err
}

// entomb removes everything of a secret but its row, in the order that the
// schema demands, and returns how many versions it had.
func (t *tx) entomb(sec *secret) (int, error) {
	versions, err := loadDataKeys(t.ctx, t.q, sec.row)
	if err != nil {
		return 0, err
	}
	if err := t.forgetRows(sec, versions); err != nil {
		return 0, err
	}
	// A label of another secret that points here was put there by other means.
	const ownVersions = `(SELECT id FROM reseal_secret_versions WHERE secret = ?1)`
	for _, statement := range []string{
		`DELETE FROM reseal_labels WHERE secret = ?1 OR secret_version IN ` + ownVersions,
		`DELETE FROM reseal_data_keys WHERE id IN ` + ownVersions,
		`DELETE FROM reseal_secret_versions WHERE secret = ?1`,
	} {
		if _, err := t.exec(statement, sec.row); err != nil {
			return 0, err
		}
	}
	for _, d := range versions {
		sec.nextNumber = max(sec.nextNumber, d.number+1)
	}
	sec.keyRow, sec.keyID, sec.keyName = sql.NullInt64{}, nil, ""
	sec.versionCount, sec.deletedAt, sec.purgeAt = 0, 0, 0
	sec.labels = nil
	return len(versions), t.saveSecret(sec)
}

// forgetRows takes a secret's versions, tags and description out of the set of
// rows, and removes its tags and description. When there are more or fewer
// versions than there should be, it cannot be told which of them were in the set:
// it stays, and Verify tells what is missing.
func (t *tx) forgetRows(sec *secret, versions []dataKey) error {
	if int64(len(versions)) != sec.versionCount {
		versions = nil
	}
	for _, d := range versions {
		if err := t.rows.change(t.s.keys, versionRows, -1, d.versionID[:]); err != nil {
			return err
		}
	}
	tags, err := loadTags(t.ctx, t.q, sec.row)
	if err != nil {
		return err
	}
	for key := range tags {
		if err := t.dropTag(sec, key); err != nil {
			return err
		}
	}
	return t.setDescription(sec, "")
}
