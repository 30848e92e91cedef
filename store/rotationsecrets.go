package store

import (
	"errors"
	"time"
)

// selectScope selects the secrets that a rotation from key to key moves:
// configured with the from-key, or with a version that it wraps although the
// secret is configured with another. Deleted ones are among them.
const selectScope = `
	SELECT s.id
	FROM reseal_secrets AS s
	WHERE s.id > ?2 AND substr(s.name, 1, length(?4)) = ?4 AND (s.master_key = ?1 OR EXISTS (
		SELECT 1
		FROM reseal_secret_versions AS v
		JOIN reseal_data_keys AS d ON d.id = v.id
		JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
		WHERE v.secret = s.id AND kv.master_key = ?1))
	ORDER BY s.id
	LIMIT ?3`

// nextSecrets reads the next secrets that are to move, unchecked.
func (r *Rotation) nextSecrets(t *tx, after int64, limit int) ([]*secret, error) {
	rows, err := t.q.QueryContext(t.ctx, selectSecret+` WHERE s.id IN (`+selectScope+`) ORDER BY s.id, l.label`,
		r.scope.from, after, limit, r.scope.prefix)
	if err != nil {
		return nil, err
	}
	var out []*secret
	err = scanSecrets(rows, func(sec *secret) error { out = append(out, sec); return nil })
	return out, err
}

// moveSecrets moves whole secrets: the configured key and all wraps together,
// so that the configured key is true at every instant.
func (r *Rotation) moveSecrets(m *mover, after int64, limit int, box time.Duration) (Batch, error) {
	began := time.Now()
	next, err := r.nextSecrets(m.t, after, limit)
	if err != nil {
		return Batch{}, err
	}
	out := Batch{Last: after, End: len(next) < limit}
	for i, sec := range next {
		if i > 0 && (out.Moved >= limit || m.bytes >= MaxBatchBytes || time.Since(began) > box) {
			out.End = false
			break
		}
		out.Last = sec.row
		n, alone, err := m.moveSecret(sec)
		if alone != nil {
			out.Failures = append(out.Failures, failureOf(sec.name, alone))
			continue
		}
		if err != nil {
			return out, err
		}
		out.Moved += max(n.rewrapped+n.reencrypted, 1)
		out.Replaced += n.reencrypted
		out.Secrets++
	}
	return out, nil
}

// movedSecret counts the data keys of a secret that moved.
type movedSecret struct{ rewrapped, reencrypted int }

// moveSecret moves one secret. alone is why it stays whole where it is, with
// nothing of it written; err is the rotation's.
func (m *mover) moveSecret(sec *secret) (out movedSecret, alone, err error) {
	if m.replaced.reencrypt {
		out, err = m.reencryptSecret(sec)
		if failsAlone(err) {
			return out, err, nil
		}
		return out, nil, err
	}
	versions, err := m.prepareChecked(sec)
	if failsAlone(err) {
		return out, err, nil
	}
	if err != nil {
		return out, nil, err
	}
	for _, v := range versions {
		m.retired = append(m.retired, v.dataKey.wrapped...)
	}
	res, err := m.write(sec, versions, "rotate-secret")
	return movedSecret{rewrapped: res.Rewrapped}, nil, err
}

// failsAlone reports whether an error is one secret's and not the rotation's.
func failsAlone(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrKeyUnavailable)
}

func (m *mover) prepareChecked(sec *secret) ([]moved, error) {
	if err := m.t.s.keys.checkSecret(sec); err != nil {
		return nil, err
	}
	return m.prepare(sec)
}
