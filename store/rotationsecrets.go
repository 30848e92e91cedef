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
		if i > 0 && (out.Moved >= limit || time.Since(began) > box) {
			out.End = false
			break
		}
		out.Last = sec.row
		versions, err := m.prepareChecked(sec)
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrKeyUnavailable) {
			// Nothing of it was written: it stays whole where it is.
			out.Failures = append(out.Failures, failureOf(sec.name, err))
			continue
		}
		if err != nil {
			return out, err
		}
		res, err := m.write(sec, versions, "rotate-secret")
		if err != nil {
			return out, err
		}
		for _, v := range versions {
			m.retired = append(m.retired, v.dataKey.wrapped...)
		}
		out.Moved += max(res.Rewrapped, 1)
		out.Secrets++
	}
	return out, nil
}

func (m *mover) prepareChecked(sec *secret) ([]moved, error) {
	if err := m.t.s.keys.checkSecret(sec); err != nil {
		return nil, err
	}
	return m.prepare(sec)
}
