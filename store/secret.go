package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reseal/reseal/crypto"
)

// secret is a secret's row with its labels: what its record tag covers.
type secret struct {
	row          int64
	id           crypto.ID
	name         string
	keyRow       sql.NullInt64 // configured key; null in a tombstone
	keyID        []byte
	keyName      string
	nextNumber   uint64
	versionCount int64
	deletedAt    int64
	purgeAt      int64
	createdAt    int64
	tag          []byte
	labels       []label // by name
}

type label struct {
	label     string
	version   int64 // row of the secret version
	versionID crypto.ID
	number    uint64
}

func (sec *secret) tombstone() bool { return !sec.keyRow.Valid }

func (sec *secret) label(name string) (label, bool) {
	i := slices.IndexFunc(sec.labels, func(l label) bool { return l.label == name })
	if i < 0 {
		return label{}, false
	}
	return sec.labels[i], true
}

// labelsOf returns the labels of one version, sorted.
func (sec *secret) labelsOf(version int64) []string {
	var out []string
	for _, l := range sec.labels {
		if l.version == version {
			out = append(out, l.label)
		}
	}
	return out
}

// byName is the index of secrets by name. Statistics of a store that was small
// when ANALYZE ran would have SQLite look through all secrets instead.
const byName = `sqlite_autoindex_reseal_secrets_2`

const (
	selectSecret       = secretColumns + secretTables
	selectSecretByName = secretColumns + ` INDEXED BY ` + byName + secretTables + `
	WHERE s.name = CAST(? AS TEXT)
	ORDER BY l.label`

	secretColumns = `
	SELECT
		s.id,
		s.secret_id,
		s.name,
		s.master_key,
		k.key_id,
		COALESCE(k.name, ''),
		s.next_number,
		s.version_count,
		COALESCE(s.deleted_at, 0),
		COALESCE(s.purge_at, 0),
		s.created_at,
		s.tag,
		l.label,
		l.secret_version,
		v.version_id,
		v.number
	FROM reseal_secrets AS s`

	secretTables = `
	LEFT JOIN reseal_master_keys AS k ON k.id = s.master_key
	LEFT JOIN reseal_labels AS l ON l.secret = s.id
	LEFT JOIN reseal_secret_versions AS v ON v.id = l.secret_version`
)

// scanSecrets gathers the rows of selectSecret, one a label, into secrets. The
// rows of one secret must come together, its labels in order.
func scanSecrets(rows *sql.Rows, each func(*secret) error) error {
	defer rows.Close()
	var cur *secret
	for rows.Next() {
		var s secret
		var id, versionID []byte
		var name sql.NullString
		var version, number sql.NullInt64
		if err := rows.Scan(
			&s.row,
			&id,
			&s.name,
			&s.keyRow,
			&s.keyID,
			&s.keyName,
			&s.nextNumber,
			&s.versionCount,
			&s.deletedAt,
			&s.purgeAt,
			&s.createdAt,
			&s.tag,
			&name,
			&version,
			&versionID,
			&number,
		); err != nil {
			return err
		}
		copy(s.id[:], id)
		if cur == nil || cur.row != s.row {
			if cur != nil {
				if err := each(cur); err != nil {
					return err
				}
			}
			cur = &s
		}
		if name.Valid {
			l := label{label: name.String, version: version.Int64, number: uint64(number.Int64)}
			copy(l.versionID[:], versionID)
			cur.labels = append(cur.labels, l)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if cur == nil {
		return nil
	}
	return each(cur)
}

// loadSecret reads the secret of that name, unchecked; nil if there is none. A
// tombstone is returned as such.
func loadSecret(ctx context.Context, q querier, name string) (*secret, error) {
	rows, err := q.QueryContext(ctx, selectSecretByName, name)
	if err != nil {
		return nil, err
	}
	var found *secret
	err = scanSecrets(rows, func(s *secret) error { found = s; return nil })
	if err == nil && found != nil && found.name != name {
		return nil, misled("names", name)
	}
	return found, err
}

// misled is the error of a row that an index gave and that is not the one which
// was asked for.
func misled(index, asked string) error {
	return &Error{Op: "find", Err: ErrDamaged, Detail: fmt.Sprintf("the index of %s leads to another row for %q", index, asked), Remedy: "reseal verify --deep"}
}

// checkSecret refuses a secret whose record tag is wrong: its name, configured
// key, dates, counts or labels were changed by other means than reseal.
func (r *keyring) checkSecret(sec *secret) error {
	var buf [512]byte
	err := r.checkTag(sec.tag, r.secretRecord(buf[:0], sec), "the secret's record was altered")
	if err == nil {
		return nil
	}
	return &Error{Op: "check", Secret: sec.name, ConfiguredKey: sec.keyName, Err: err, Remedy: "reseal explain " + sec.name}
}

// existing reads and checks a secret that is there; a deleted one too.
func (t *tx) existing(name string) (*secret, error) {
	sec, err := existing(t.ctx, t.q, name)
	if err != nil {
		return nil, err
	}
	return sec, t.s.keys.checkSecret(sec)
}

// live reads and checks a secret that is there and not deleted.
func (t *tx) liveSecret(op, name string) (*secret, error) {
	sec, err := t.existing(name)
	if err != nil {
		return nil, err
	}
	return sec, refuseDeleted(op, sec)
}

func existing(ctx context.Context, q querier, name string) (*secret, error) {
	sec, err := loadSecret(ctx, q, name)
	if err != nil {
		return nil, err
	}
	if sec == nil || sec.tombstone() {
		return nil, noSecret(name)
	}
	return sec, nil
}

func noSecret(name string) error {
	return &Error{Op: "find", Secret: name, Err: ErrNotFound, Remedy: "reseal list"}
}

func refuseDeleted(op string, sec *secret) error {
	if sec.deletedAt == 0 {
		return nil
	}
	return &Error{
		Op:            op,
		Secret:        sec.name,
		ConfiguredKey: sec.keyName,
		DeletionAt:    fromMillis(sec.purgeAt),
		Err:           ErrDeleted,
		Remedy:        "reseal restore " + sec.name,
	}
}

func sortLabels(l []label) {
	slices.SortFunc(l, func(a, b label) int { return strings.Compare(a.label, b.label) })
}

const updateSecret = `
	UPDATE reseal_secrets
	SET master_key = ?, next_number = ?, version_count = ?, deleted_at = ?, purge_at = ?, updated_at = ?, tag = ?
	WHERE id = ?`

// saveSecret writes a secret's row with its tag, from the row and labels as
// they now are.
func (t *tx) saveSecret(sec *secret) error {
	sortLabels(sec.labels)
	tag, err := t.s.keys.tag(t.s.keys.secretRecord(nil, sec))
	if err != nil {
		return err
	}
	sec.tag = tag
	return t.execOne(updateSecret,
		sec.keyRow, sec.nextNumber, sec.versionCount, orNull(sec.deletedAt), orNull(sec.purgeAt), t.now, tag, sec.row)
}

// dataKey is a secret version with its data key's wrap, without the sealed
// value. keyVersion is 0 if the data key is missing.
type dataKey struct {
	row        int64
	versionID  crypto.ID
	number     uint64
	createdAt  int64
	token      string
	keyVersion int64 // row of the master key version
	wrapped    []byte
	madeAt     int64 // when the data key was made, in Unix milliseconds; 0 if unknown
}

// loadDataKeys reads all versions of a secret, by number.
func loadDataKeys(ctx context.Context, q querier, secretRow int64) ([]dataKey, error) {
	return loadDataKeysAfter(ctx, q, secretRow, 0, -1)
}

// loadDataKeysAfter reads at most limit versions of a secret whose numbers are
// above after; all of them when limit is -1.
func loadDataKeysAfter(ctx context.Context, q querier, secretRow int64, after uint64, limit int) ([]dataKey, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT
			v.id,
			v.version_id,
			v.number,
			v.created_at,
			COALESCE(v.token, ''),
			COALESCE(d.master_key_version, 0),
			d.wrapped,
			COALESCE(d.made_at, 0)
		FROM reseal_secret_versions AS v
		LEFT JOIN reseal_data_keys AS d ON d.id = v.id
		WHERE v.secret = CAST(? AS INTEGER) AND v.number > CAST(? AS INTEGER)
		ORDER BY v.number
		LIMIT ?`, secretRow, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []dataKey
	for rows.Next() {
		var d dataKey
		if err := d.scan(rows); err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// scan reads a row of loadDataKeysAfter.
func (d *dataKey) scan(rows *sql.Rows) error {
	var id []byte
	err := rows.Scan(&d.row, &id, &d.number, &d.createdAt, &d.token, &d.keyVersion, &d.wrapped, &d.madeAt)
	copy(d.versionID[:], id)
	return err
}

// version returns a secret's version of that number: its row and id.
func (t *tx) version(sec *secret, number uint64) (row int64, id crypto.ID, err error) {
	var raw []byte
	var has uint64
	err = t.queryRow(`
		SELECT id, version_id, number
		FROM reseal_secret_versions
		WHERE secret = ? AND number = ?`, sec.row, number).Scan(&row, &raw, &has)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = t.view().noVersion("find", sec, number)
		if errors.Is(err, errMoved) { // which it cannot in this transaction
			err = damaged("versions of the secret are missing")
		}
	case err == nil && has != number:
		err = misled("version numbers", formatNumber(number))
	}
	copy(id[:], raw)
	return row, id, err
}

func noVersion(op string, sec *secret, number uint64) error {
	return &Error{Op: op, Secret: sec.name, Version: number, ConfiguredKey: sec.keyName, Err: ErrNotFound,
		Detail: "no such version", Remedy: "reseal show " + sec.name}
}

func noLabel(op string, sec *secret, name string) error {
	return &Error{Op: op, Secret: sec.name, Labels: []string{name}, ConfiguredKey: sec.keyName, Err: ErrNotFound,
		Detail: "no such label", Remedy: "reseal show " + sec.name}
}
