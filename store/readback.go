package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"hash"
	"strings"

	"github.com/reseal/reseal/crypto"
)

// maxFailures is how many failures are told one by one; the rest are counted.
const maxFailures = 1000

// ReadBack is what was found when the versions that a rotation is about were
// opened under the key they should be under.
type ReadBack struct {
	Checked  int64     // versions that belong under the target, or are on the way there
	Left     int64     // of them, those not there: left behind, or put back meanwhile
	Failed   int64     // of them, those that do not open where they are
	Failures []Failure // the first of both
	Digest   string    // SHA-256 of the ids and wraps that were checked, in order
}

// ReadBackRotation opens the wrap of every secret version that belongs under
// the target of a rotation, and with ModeReencrypt the value too, and compares
// its secret's configured key. It shares
// no selection with the rotation: it goes through the secret versions
// themselves, a page at a time, and decides by the names of their keys. It
// calls progress, if not nil, with the number of versions looked at.
func (s *Store) ReadBackRotation(ctx context.Context, spec RotationSpec, progress func(looked int64)) (ReadBack, error) {
	if err := firstError(s.needUnsealed(), spec.check()); err != nil {
		return ReadBack{}, err
	}
	return s.readBack(ctx, newReadBack(spec), progress)
}

func newReadBack(spec RotationSpec) *readBack { return &readBack{spec: spec, digest: sha256.New()} }

func (s *Store) readBack(ctx context.Context, c *readBack, progress func(looked int64)) (ReadBack, error) {
	defer func() { clear(c.value[:cap(c.value)]) }()
	for !c.end {
		if err := ctx.Err(); err != nil {
			return c.ReadBack, err
		}
		err := s.snapshot(ctx, func(q querier) error { return c.page(s.newTx(ctx, q)) })
		if err != nil {
			return c.ReadBack, err
		}
		if progress != nil {
			progress(c.looked)
		}
	}
	c.Digest = hex.EncodeToString(c.digest.Sum(nil))
	return c.ReadBack, nil
}

type readBack struct {
	ReadBack
	spec   RotationSpec
	least  uint64 // the oldest version of the target that will do; 0 for its primary only
	digest hash.Hash
	last   int64 // row of the secret version that was looked at last
	looked int64
	end    bool
	value  []byte // the value that was opened last, cleared
}

// readBackPage is how many versions are looked at in one read transaction.
const readBackPage = 4096

// keyOfWrap is a master key version as the read-back sees it.
type keyOfWrap struct {
	key      *masterKey
	version  keyVersion
	material *crypto.Key // nil until it is needed
}

// page looks at the next versions.
func (c *readBack) page(t *tx) error {
	keys, err := loadAllKeys(t.ctx, t.q)
	if err != nil {
		return err
	}
	wraps := map[int64]*keyOfWrap{}
	names := map[int64]string{}
	for _, k := range keys {
		names[k.row] = k.name
		for _, v := range k.versions {
			wraps[v.row] = &keyOfWrap{key: k, version: v}
		}
	}
	rows, err := t.q.QueryContext(t.ctx, `
		SELECT v.id, v.version_id, v.number, s.name, s.secret_id, COALESCE(s.master_key, 0), COALESCE(d.master_key_version, 0), d.wrapped
		FROM reseal_secret_versions AS v
		LEFT JOIN reseal_secrets AS s ON s.id = v.secret
		LEFT JOIN reseal_data_keys AS d ON d.id = v.id
		WHERE v.id > ?
		ORDER BY v.id
		LIMIT ?`, c.last, readBackPage)
	if err != nil {
		return err
	}
	found, err := c.scan(rows, names, wraps)
	if err != nil {
		return err
	}
	for _, v := range found {
		if err := c.check(t, v); err != nil {
			return err
		}
	}
	return nil
}

// foundVersion is a secret version that may belong under the target.
type foundVersion struct {
	row        int64
	id         crypto.ID
	number     uint64
	secret     string
	secretID   crypto.ID
	configured string
	wrap       *keyOfWrap // nil if its data key or that key's master key is missing
	wrapped    []byte
}

// scan keeps the versions that the rotation is about.
func (c *readBack) scan(rows *sql.Rows, names map[int64]string, wraps map[int64]*keyOfWrap) ([]foundVersion, error) {
	defer rows.Close()
	var out []foundVersion
	var rawID, wrapped, name, secretID sql.RawBytes
	n := 0
	for ; rows.Next(); n++ {
		var v foundVersion
		var configured, keyVersion int64
		if err := rows.Scan(&c.last, &rawID, &v.number, &name, &secretID, &configured, &keyVersion, &wrapped); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(string(name), c.spec.Prefix) {
			continue
		}
		v.configured, v.wrap = names[configured], wraps[keyVersion]
		if !c.concerns(v) {
			continue
		}
		v.row = c.last
		copy(v.id[:], rawID)
		copy(v.secretID[:], secretID)
		v.secret = string(name)
		v.wrapped = append([]byte(nil), wrapped...)
		out = append(out, v)
	}
	c.looked += int64(n)
	c.end = n < readBackPage
	return out, rows.Err()
}

func (c *readBack) concerns(v foundVersion) bool {
	effective := ""
	if v.wrap != nil {
		effective = v.wrap.key.name
	}
	for _, key := range []string{c.spec.From, c.spec.To} {
		if v.configured == key || effective == key {
			return true
		}
	}
	return false
}

// check opens one wrap. That it could not be read is an error, and says nothing
// of the wrap.
func (c *readBack) check(t *tx, v foundVersion) error {
	c.Checked++
	c.digest.Write(v.id[:])
	c.digest.Write(v.wrapped)
	f := Failure{Secret: v.secret, Version: v.number}
	if v.wrap != nil {
		f.Key = v.wrap.key.name
	}
	f.Error, f.Remedy = c.left(v)
	if f.Error != "" {
		c.Left++
	} else {
		var err error
		if f.Error, f.Remedy, err = c.wrong(t, v); err != nil {
			return err
		}
		if f.Error != "" {
			c.Failed++
		}
	}
	if f.Error != "" && len(c.Failures) < maxFailures {
		c.Failures = append(c.Failures, f)
	}
	return nil
}

// left says that a version is not under the target, or "".
func (c *readBack) left(v foundVersion) (what, remedy string) {
	if v.wrap == nil {
		return "", ""
	}
	k, kv := v.wrap.key, v.wrap.version
	switch {
	case c.spec.From == c.spec.To && c.least > 0 && kv.number >= c.least:
		return "", ""
	case c.spec.From == c.spec.To && k.name == c.spec.To && kv.number != k.primary:
		what = fmt.Sprintf("it is under version %d of %q and not under its newest, %d", kv.number, k.name, k.primary)
	case c.spec.From != c.spec.To && (k.name == c.spec.From || v.configured == c.spec.From):
		what = fmt.Sprintf("it is still under %q or configured with it", c.spec.From)
	default:
		return "", ""
	}
	return what, Job{Mode: c.spec.Mode, From: c.spec.From, To: c.spec.To, Prefix: c.spec.Prefix, MadeBefore: c.spec.MadeBefore}.Command()
}

// wrong says that a version does not open where it is, or "".
func (c *readBack) wrong(t *tx, v foundVersion) (what, remedy string, err error) {
	explain := fmt.Sprintf("reseal explain %s --version %d", v.secret, v.number)
	if v.wrap == nil {
		return "its data key, or the master key version that wraps it, is missing", explain, nil
	}
	k, kv := v.wrap.key, v.wrap.version
	if k.name != v.configured {
		return fmt.Sprintf("it is under %q and configured with %q", k.name, v.configured), "reseal set-key " + v.secret + " " + v.configured, nil
	}
	if v.wrap.material == nil {
		v.wrap.material, err = t.unwrap(k, kv)
	}
	if err == nil {
		var buf [192]byte
		err = c.open(t, v, crypto.AppendDataKeyContext(buf[:0], t.s.keys.storeID, v.id, k.id, kv.number))
	}
	switch {
	case err == nil:
		return "", "", nil
	case cannotRead(err):
		return "", "", err
	}
	return err.Error(), explain, nil
}

// open opens a wrap, and after a reencryption the value.
func (c *readBack) open(t *tx, v foundVersion, context []byte) error {
	if c.spec.Mode != ModeReencrypt {
		return v.wrap.material.CheckWrap(v.wrapped, context)
	}
	var sealed []byte
	if err := t.queryRow(`SELECT sealed FROM reseal_secret_versions WHERE id = ?`, v.row).Scan(&sealed); err != nil {
		return err
	}
	var buf [384]byte
	value, err := v.wrap.material.OpenValue(c.value[:0], sealed, v.wrapped,
		crypto.AppendValueContext(buf[:0], t.s.keys.storeID, v.secretID, v.secret, v.number, v.id), context)
	clear(value)
	if err == nil {
		c.value = value[:0]
	}
	return err
}
