package store

import (
	"context"
	"math"
	"time"

	"github.com/reseal/reseal/crypto"
)

// replaced says which data keys a rotation replaces by new ones. The others in
// its scope are rewrapped.
type replaced struct {
	reencrypt bool
	before    int64 // only those made before this time, in Unix milliseconds; 0 for all
}

func replacedBy(mode string, madeBefore time.Time) replaced {
	r := replaced{reencrypt: mode == ModeReencrypt}
	if !madeBefore.IsZero() {
		r.before = madeBefore.UnixMilli()
	}
	return r
}

// has reports whether a data key made at that time is replaced. One whose time
// is not known, 0, is older than every limit.
func (r replaced) has(madeAt int64) bool { return r.reencrypt && madeAt < r.limit() }

// limit is the time before which a data key has to be made.
func (r replaced) limit() int64 {
	if r.before == 0 {
		return math.MaxInt64
	}
	return r.before
}

// limit makes a time of a key version that may have wrapped data keys: all that
// were made before the next version was there, in its millisecond too, and what
// is under it or an older one now, if the clock was set back meanwhile. Under
// the newest version that is all of them, and so it is if the key's record was
// altered. From older versions to the newest, that one cannot be what is left.
func (o *RotationSpec) limit(t *tx, from *masterKey) error {
	if !o.MadeBefore.IsZero() {
		o.MadeBefore = fromMillis(o.MadeBefore.UnixMilli())
	}
	if o.TouchedBy == 0 {
		return nil
	}
	if _, ok := from.byNumber(o.TouchedBy); !ok {
		return &Error{Op: "rotate", Key: from.name, Err: ErrNotFound, Detail: "it has no version " + formatNumber(o.TouchedBy), Remedy: "reseal key show " + from.name}
	}
	o.MadeBefore = time.Time{}
	next, ok := from.byNumber(o.TouchedBy + 1)
	switch {
	case !ok && o.From == o.To:
		return &Error{Op: "rotate", Key: from.name, Err: ErrInvalid, Remedy: "reseal key rotate " + from.name,
			Detail: "version " + formatNumber(o.TouchedBy) + " is its newest, and data keys can only leave an older one"}
	case ok && t.s.keys.checkKey(from) == nil:
		last, err := newestUnder(t, from, o.TouchedBy)
		if err != nil {
			return err
		}
		o.MadeBefore = fromMillis(max(last, next.createdAt) + 1)
	}
	return nil
}

// newestUnder returns when the newest data key was made that is under a version
// of a master key, or an older one, 0 if none is.
func newestUnder(t *tx, k *masterKey, version uint64) (at int64, err error) {
	err = t.queryRow(`
		SELECT COALESCE(max(made_at), 0)
		FROM reseal_data_keys
		WHERE master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key = ? AND number <= ?)`, k.row, version).Scan(&at)
	return at, err
}

// place is what the context of a sealed value names besides the store.
type place struct {
	secretID  crypto.ID
	name      string
	number    uint64
	versionID crypto.ID
}

// reencrypt opens a value and seals it under a new data key, proved to open to
// the same value, and writes nothing.
func (m *mover) reencrypt(dst, wrapDst []byte, from *source, p place, sealed, wrapped []byte) (newSealed, newWrapped []byte, err error) {
	if from.err != nil {
		return dst, wrapDst, from.err
	}
	keys, err := crypto.NewMover(from.material, m.wrapper)
	if err != nil {
		return dst, wrapDst, err
	}
	defer keys.Close()
	return m.reencryptWith(keys, dst, wrapDst, from, p, sealed, wrapped)
}

// reencryptWith is reencrypt with the keys of a source that has them.
func (m *mover) reencryptWith(keys *crypto.Mover, dst, wrapDst []byte, from *source, p place, sealed, wrapped []byte) (newSealed, newWrapped []byte, err error) {
	var value [384]byte
	var old, target [192]byte
	store := m.t.s.keys.storeID
	return keys.Reencrypt(dst, wrapDst, sealed, wrapped,
		crypto.AppendValueContext(value[:0], store, p.secretID, p.name, p.number, p.versionID),
		crypto.AppendDataKeyContext(old[:0], store, p.versionID, from.key.id, from.version.number),
		crypto.AppendDataKeyContext(target[:0], store, p.versionID, m.to.id, m.kv.number))
}

// reencryptSecret moves all versions of a secret, each written as it is made,
// so that a secret of many large values does not have to be in memory at once.
// If one does not open, a savepoint takes back what was written: the secret
// stays whole under its old key.
func (m *mover) reencryptSecret(sec *secret) (out movedSecret, err error) {
	if err := m.t.s.keys.checkSecret(sec); err != nil {
		return out, err
	}
	if _, err := m.t.exec("SAVEPOINT reseal_secret"); err != nil {
		return out, err
	}
	retired := len(m.retired)
	if out, err = m.reencryptVersions(sec); err != nil {
		m.retired = m.retired[:retired]
		if _, rerr := m.t.exec("ROLLBACK TO reseal_secret"); rerr != nil {
			return out, rerr // the transaction has ended: this is not one secret's failure
		}
	}
	if _, rerr := m.t.exec("RELEASE reseal_secret"); rerr != nil {
		return out, rerr
	}
	return out, err
}

func (m *mover) reencryptVersions(sec *secret) (out movedSecret, err error) {
	versions, err := m.load(sec)
	if err != nil {
		return out, err
	}
	detail := map[string]any{}
	var sealed []byte
	for _, d := range versions {
		from := m.source(d.keyVersion)
		switch {
		case d.keyVersion == m.kv.row:
			err = m.prove(d)
		case m.replaced.has(d.madeAt):
			sealed, err = m.replace(sealed[:0], sec, d, from)
			out.reencrypted++
		default:
			v := moved{dataKey: d, from: from}
			if v.wrapped, err = m.rewrap(nil, from, d.versionID, d.wrapped); err == nil {
				err = m.put(v)
			}
			out.rewrapped++
		}
		if err != nil {
			return out, m.versionError(sec, d, from, err)
		}
		if d.keyVersion != m.kv.row {
			m.retired = append(m.retired, d.wrapped...)
		}
		if from.altered {
			detail["altered_key"] = from.key.name
		}
	}
	res := m.result(sec)
	res.Rewrapped, detail["reencrypted"] = out.rewrapped, out.reencrypted
	return out, m.conclude(sec, res, "rotate-secret", detail)
}

// replace writes a new data key and sealed value in place of a version's, and
// returns the buffer that it used.
func (m *mover) replace(buf []byte, sec *secret, d dataKey, from *source) ([]byte, error) {
	var sealed []byte
	if err := m.t.queryRow(`SELECT sealed FROM reseal_secret_versions WHERE id = ?`, d.row).Scan(&sealed); err != nil {
		return buf, err
	}
	p := place{secretID: sec.id, name: sec.name, number: d.number, versionID: d.versionID}
	var wrap [crypto.WrappedSize]byte
	newSealed, newWrapped, err := m.reencrypt(buf, wrap[:0], from, p, sealed, d.wrapped)
	if err != nil {
		return buf, err
	}
	if err := m.t.execOne(`
		UPDATE reseal_data_keys
		SET wrapped = ?, master_key_version = ?, made_at = ?
		WHERE id = ? AND master_key_version = ? AND wrapped = ?`,
		newWrapped, m.kv.row, max(0, m.t.now), d.row, d.keyVersion, d.wrapped); err != nil {
		return newSealed, err
	}
	m.bytes += len(newSealed)
	return newSealed, m.t.execOne(updateSealed, newSealed, d.row)
}

// updateSealed replaces a sealed value. That its data key was the one that was
// read is checked when that is replaced, in the same transaction: a sealed
// value changes with its data key only.
const updateSealed = `
	UPDATE reseal_secret_versions
	SET sealed = ?
	WHERE id = ?`

// DataKeysMadeBefore counts the data keys under a master key, of secrets whose
// names begin with prefix, that were made before a time; all of them if it is
// zero. When a data key was made is as recorded: no tag covers it.
func (s *Store) DataKeysMadeBefore(ctx context.Context, key, prefix string, before time.Time) (n int64, err error) {
	err = s.snapshot(ctx, func(q querier) error {
		k, err := loadKeyByName(ctx, q, key)
		if err != nil {
			return err
		}
		return q.QueryRowContext(ctx, `
			SELECT count(*)
			FROM reseal_data_keys AS d
			WHERE d.made_at < ?2
				AND d.master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key = ?1)
				AND (?3 = '' OR EXISTS (
					SELECT 1
					FROM reseal_secret_versions AS v
					JOIN reseal_secrets AS s ON s.id = v.secret
					WHERE v.id = d.id AND substr(s.name, 1, length(?3)) = ?3))`,
			k.row, replacedBy(ModeReencrypt, before).limit(), prefix).Scan(&n)
	})
	return n, err
}
