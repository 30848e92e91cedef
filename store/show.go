package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/reseal/reseal/crypto"
)

// Show returns everything about a secret but its values: the key it is
// configured with, and the key version that really wraps each version, read
// from the wraps. An unsealed store checks the record tags of the secret and its
// master keys and opens every wrap; one that does not open is ErrDamaged,
// whatever the row says, and ErrKeyUnavailable when its master key version was
// destroyed.
func (s *Store) Show(ctx context.Context, name string) (*SecretInfo, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	var info *SecretInfo
	err := s.snapshot(ctx, func(q querier) error {
		sec, err := view{s: s, ctx: ctx, q: q, remember: true}.secret(name)
		if err != nil {
			return err
		}
		l, err := s.newLister(ctx, q)
		if err != nil {
			return err
		}
		found, err := l.read(`(SELECT ? AS id)`, sec.row)
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return misled("names", name)
		}
		info, err = l.info(found[0])
		return err
	})
	return info, err
}

// ListOptions chooses secrets. The zero value chooses all that are not deleted.
type ListOptions struct {
	Prefix   string // names that begin with it
	Key      string // configured with, or wrapped by, this master key
	TagKey   string // with this tag
	TagValue string // of this value; only with TagKey, "" is any
	Deleted  bool   // the deleted ones, instead of the live ones
	After    string // names after this one, to go on from a page
	Limit    int    // at most so many; 0 is all
}

// List returns secrets by name, each as Show does. A damaged one does not hide
// the others: it is in the list with its Damage. Without a Limit an unsealed
// store also checks that no secret is missing: if one is, the error is
// ErrDamaged, beside the list of those that are there.
func (s *Store) List(ctx context.Context, o ListOptions) ([]SecretInfo, error) {
	var out []SecretInfo
	err := s.snapshot(ctx, func(q querier) error {
		l, err := s.newLister(ctx, q)
		if err != nil {
			return err
		}
		if o.Key != "" {
			if _, err := loadKeyByName(ctx, q, o.Key); err != nil {
				return err
			}
		}
		if err := l.each(o, func(sec *listed) error {
			info, err := l.info(sec)
			if errors.Is(err, ErrDamaged) || errors.Is(err, ErrKeyUnavailable) {
				info.Damage, info.Authenticated, err = err.Error(), false, nil
			}
			out = append(out, *info)
			return err
		}); err != nil || o.Limit > 0 {
			return err
		}
		return s.checkNames(ctx, q)
	})
	return out, err
}

// chosen are the ids of a page of secrets. A date of 0 is none, as it is in a
// secret's record: of an altered row nothing else would tell.
const chosen = `(
	SELECT s.id
	FROM reseal_secrets AS s INDEXED BY ` + byName + `
	WHERE s.name > CAST(?1 AS TEXT) AND s.name >= CAST(?2 AS TEXT) AND substr(s.name, 1, length(?2)) = ?2
	AND s.master_key IS NOT NULL AND (COALESCE(s.deleted_at, 0) <> 0) = ?3
	AND (?4 = '' OR EXISTS (SELECT 1 FROM reseal_tags AS t WHERE t.secret = s.id AND t.key = ?4 AND ?5 IN ('', t.value)))
	AND (?6 = '' OR s.master_key = (SELECT id FROM reseal_master_keys WHERE name = ?6) OR EXISTS (
		SELECT 1
		FROM reseal_secret_versions AS v
		JOIN reseal_data_keys AS d ON d.id = v.id
		JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
		WHERE v.secret = s.id AND kv.master_key = (SELECT id FROM reseal_master_keys WHERE name = ?6)))
	ORDER BY s.name
	LIMIT ?7)`

// each calls fn for the chosen secrets by name. It reads them a page at a time, so
// that no statement is open while fn runs its own.
func (l *lister) each(o ListOptions, fn func(*listed) error) error {
	const page = 256
	after, left := o.After, o.Limit
	for {
		n := page
		if o.Limit > 0 {
			n = min(page, left)
		}
		batch, err := l.read(chosen, after, o.Prefix, o.Deleted, o.TagKey, o.TagValue, o.Key, n)
		if err != nil {
			return err
		}
		for _, sec := range batch {
			if err := errors.Join(l.ctx.Err(), fn(sec)); err != nil {
				return err
			}
		}
		left -= len(batch)
		if len(batch) < n || o.Limit > 0 && left == 0 {
			return nil
		}
		after = batch[len(batch)-1].name
	}
}

// keyTable is every master key version by its row, with its key.
type keyTable map[int64]*masterKey

// keyTable reads all master keys. The records of those whose keys are used are
// checked where they are used.
func (s *Store) keyTable(ctx context.Context, q querier) (keyTable, error) {
	keys, err := loadAllKeys(ctx, q)
	return versionsOf(keys), err
}

func versionsOf(keys []*masterKey) keyTable {
	table := keyTable{}
	for _, k := range keys {
		for _, v := range k.versions {
			table[v.row] = k
		}
	}
	return table
}

// lister gathers what there is to tell of secrets, in one snapshot.
type lister struct {
	s          *Store
	ctx        context.Context
	q          querier
	keys       keyTable
	configured map[int64]*masterKey // by row of the master key
	checked    map[*masterKey]bool  // whose records are as they should be
	wrappers   map[int64]*crypto.Key
}

// listed is a secret with what the tables have of it besides its record.
type listed struct {
	secret
	description string
	updatedAt   int64
	tags        map[string]string
	versions    []dataKey
}

func (s *Store) newLister(ctx context.Context, q querier) (*lister, error) {
	keys, err := loadAllKeys(ctx, q)
	l := &lister{s: s, ctx: ctx, q: q, keys: versionsOf(keys), configured: map[int64]*masterKey{}, checked: map[*masterKey]bool{}, wrappers: map[int64]*crypto.Key{}}
	for _, k := range keys {
		l.configured[k.row] = k
	}
	return l, err
}

// What is a number, and what has a fixed length, comes in one column each, as in
// packedVersion. Of a row that was altered something may be 0 or missing, which
// the secret's record tag or the wrap then does not fit.
const (
	selectListed = `
	SELECT
		s.name,
		format('%d,%d,%d,%d,%d,%d,%d,%d,%d,%d',
			s.id, s.master_key, s.next_number, s.version_count, s.deleted_at, s.purge_at, s.created_at, s.updated_at, l.secret_version, v.number),
		CAST(s.secret_id || s.tag || COALESCE(v.version_id, '') AS BLOB),
		l.label,
		s.description
	FROM `

	ofListed = ` AS i
	CROSS JOIN reseal_secrets AS s ON s.id = i.id
	LEFT JOIN reseal_labels AS l ON l.secret = s.id
	LEFT JOIN reseal_secret_versions AS v ON v.id = l.secret_version`

	selectListedVersions = `
	SELECT
		format('%d,%d,%d,%d,%d', v.secret, v.id, v.number, v.created_at, d.master_key_version),
		CAST(v.version_id || d.wrapped AS BLOB),
		v.token
	FROM reseal_secret_versions AS v
	LEFT JOIN reseal_data_keys AS d ON d.id = v.id
	WHERE v.secret IN (SELECT value FROM json_each(?))
	ORDER BY v.secret, v.number`

	selectListedTags = `
	SELECT secret, key, value
	FROM reseal_tags
	WHERE secret IN (SELECT value FROM json_each(?))`
)

// read reads the secrets of some ids, by name and unchecked, in one statement for
// each table.
func (l *lister) read(ids string, args ...any) ([]*listed, error) {
	var batch []*listed
	byRow := map[int64]*listed{}
	if err := rowsOf(l.ctx, l.q, func(row []driver.Value) error {
		var sec listed
		var of label
		numbers, _ := row[1].(string)
		splitNumbers(numbers, &sec.row, &sec.keyRow.Int64, &sec.nextNumber, &sec.versionCount, &sec.deletedAt, &sec.purgeAt, &sec.createdAt, &sec.updatedAt,
			&of.version, &of.number)
		fixed, _ := row[2].([]byte)
		fixed = fixed[copy(sec.id[:], fixed):]
		sec.tag = fixed[:min(tagSize, len(fixed))]
		copy(of.versionID[:], fixed[len(sec.tag):])
		if byRow[sec.row] == nil {
			sec.name, sec.description = textOf(row[0]), textOf(row[4])
			sec.keyRow.Valid, sec.tags = true, map[string]string{}
			if k := l.configured[sec.keyRow.Int64]; k != nil {
				sec.keyID, sec.keyName = k.id[:], k.name
			}
			byRow[sec.row] = &sec
			batch = append(batch, &sec)
		}
		if row[3] != nil {
			of.label = textOf(row[3])
			byRow[sec.row].labels = append(byRow[sec.row].labels, of)
		}
		return nil
	}, selectListed+ids+ofListed, args...); err != nil {
		return nil, err
	}
	for _, sec := range batch {
		sortLabels(sec.labels)
	}
	slices.SortFunc(batch, func(a, b *listed) int { return strings.Compare(a.name, b.name) })
	rows, err := json.Marshal(slices.Collect(maps.Keys(byRow)))
	if err != nil {
		return nil, err
	}
	if err := rowsOf(l.ctx, l.q, func(row []driver.Value) error {
		of, _ := row[0].(int64)
		if sec := byRow[of]; sec != nil {
			sec.tags[textOf(row[1])] = textOf(row[2])
		}
		return nil
	}, selectListedTags, string(rows)); err != nil {
		return nil, err
	}
	return batch, rowsOf(l.ctx, l.q, func(row []driver.Value) error {
		var of int64
		var d dataKey
		numbers, _ := row[0].(string)
		splitNumbers(numbers, &of, &d.row, &d.number, &d.createdAt, &d.keyVersion)
		fixed, _ := row[1].([]byte)
		d.wrapped = fixed[copy(d.versionID[:], fixed):]
		d.token = textOf(row[2])
		if sec := byRow[of]; sec != nil {
			sec.versions = append(sec.versions, d)
		}
		return nil
	}, selectListedVersions, string(rows))
}

// info tells of a secret that was read.
func (l *lister) info(sec *listed) (*SecretInfo, error) {
	info := &SecretInfo{
		Name:          sec.name,
		ConfiguredKey: sec.keyName,
		CreatedAt:     fromMillis(sec.createdAt),
		DeletedAt:     fromMillis(sec.deletedAt),
		PurgeAt:       fromMillis(sec.purgeAt),
		Authenticated: l.s.keys != nil,
	}
	if l.s.keys != nil {
		if err := l.s.keys.checkSecret(&sec.secret); err != nil {
			return info, err
		}
	}
	info.Description, info.UpdatedAt, info.Tags = sec.description, fromMillis(sec.updatedAt), sec.tags
	if l, ok := sec.label(LabelCurrent); ok {
		info.CurrentVersion = l.number
	}
	return info, l.addVersions(info, &sec.secret, sec.versions)
}

func (l *lister) addVersions(info *SecretInfo, sec *secret, versions []dataKey) error {
	s := l.s
	if s.keys != nil && int64(len(versions)) != sec.versionCount {
		return &Error{Op: "show", Secret: sec.name, ConfiguredKey: sec.keyName, Err: ErrDamaged,
			Detail: plural(sec.versionCount, "version") + " expected, " + plural(int64(len(versions)), "version") + " found", Remedy: "reseal explain " + sec.name}
	}
	for _, d := range versions {
		v := VersionInfo{Version: d.number, Labels: sec.labelsOf(d.row), CreatedAt: fromMillis(d.createdAt), Token: d.token}
		if k := l.keys[d.keyVersion]; k != nil {
			kv, _ := k.byRow(d.keyVersion)
			v.EffectiveKey, v.EffectiveKeyVersion, v.Behind = k.name, kv.number, kv.number != k.primary
			if err := l.proveWrap(sec, d, k, kv); err != nil {
				return err
			}
		} else if s.keys != nil {
			return &Error{Op: "show", Secret: sec.name, Version: d.number, Labels: v.Labels, ConfiguredKey: sec.keyName, Err: ErrDamaged,
				Detail: "its data key, or the master key version that wraps it, is missing", Remedy: "reseal explain " + sec.name}
		}
		if v.EffectiveKey != sec.keyName {
			info.Drift, v.Behind = true, false
		}
		info.Behind = info.Behind || v.Behind
		if !slices.Contains(info.EffectiveKeys, v.EffectiveKey) {
			info.EffectiveKeys = append(info.EffectiveKeys, v.EffectiveKey)
		}
		info.Versions = append(info.Versions, v)
	}
	slices.Sort(info.EffectiveKeys)
	if s.keys == nil || slices.Contains(info.EffectiveKeys, sec.keyName) {
		return nil
	}
	k, err := loadKey(l.ctx, l.q, sec.keyRow.Int64) // nothing is under it
	if err != nil {
		return err
	}
	return s.keys.checkKey(k)
}

// proveWrap checks the master key's record and opens the wrap of a data key, so
// that what Show says of both is what they are. A sealed store cannot.
func (l *lister) proveWrap(sec *secret, d dataKey, k *masterKey, kv keyVersion) error {
	if l.s.keys == nil {
		return nil
	}
	var small [192]byte
	place := crypto.AppendDataKeyContext(small[:0], l.s.keys.storeID, d.versionID, k.id, kv.number)
	wrapper, err := l.wrapper(k, kv)
	if err == nil {
		err = wrapper.CheckWrap(d.wrapped, place)
	}
	if errors.Is(err, crypto.ErrCleared) { // destroyed meanwhile, and still there in this snapshot
		delete(l.wrappers, kv.row)
		if wrapper, err = l.wrapper(k, kv); err == nil {
			err = wrapper.CheckWrap(d.wrapped, place)
		}
	}
	if err != nil {
		return l.s.versionError("show", sec, &d, k, kv, err)
	}
	return nil
}

// wrapper returns what opens the wraps under a master key version, whose record
// and wrap were checked in this snapshot.
func (l *lister) wrapper(k *masterKey, kv keyVersion) (*crypto.Key, error) {
	if !l.checked[k] {
		if err := l.s.keys.checkKey(k); err != nil {
			return nil, err
		}
		l.checked[k] = true
	}
	if w := l.wrappers[kv.row]; w != nil {
		return w, nil
	}
	w, err := l.s.keys.unwrap(l.ctx, l.q, k, kv, true)
	if err == nil {
		l.wrappers[kv.row] = w
	}
	return w, err
}

func loadTags(ctx context.Context, q querier, secretRow int64) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT key, value FROM reseal_tags WHERE secret = ? ORDER BY key`, secretRow)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	tags := map[string]string{}
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return nil, err
		}
		tags[k] = v
	}
	return tags, rows.Err()
}

// SetTags adds tags to a secret, and removes those whose value is "".
func (s *Store) SetTags(ctx context.Context, name string, tags map[string]string) error {
	return s.write(ctx, func(t *tx) error { return t.changeTags(name, tags) })
}

// SetTagsTx is SetTags in the caller's transaction.
func (s *Store) SetTagsTx(ctx context.Context, caller *sql.Tx, name string, tags map[string]string) error {
	return s.join(ctx, caller, func(t *tx) error { return t.changeTags(name, tags) })
}

func (t *tx) changeTags(name string, tags map[string]string) error {
	if err := firstError(CheckName(name), checkTags(tags)); err != nil {
		return err
	}
	sec, err := t.liveSecret("tag", name)
	if err != nil {
		return err
	}
	set := map[string]string{}
	var removed []string
	for k, v := range tags {
		if v != "" {
			set[k] = v
			continue
		}
		removed = append(removed, k)
		if err := t.dropTag(sec, k); err != nil {
			return err
		}
	}
	if err := t.setTags(sec, set); err != nil {
		return err
	}
	slices.Sort(removed)
	t.audit(event{action: "tag", secret: name, detail: map[string]any{"set": set, "removed": removed}})
	return nil
}
