package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/reseal/reseal/crypto"
)

// A data key's row names the master key version that wraps it, and reading
// trusts nothing else. Other means than reseal can make it name another: the
// version then does not open, and the key that it needs looks as if nothing
// needed it. What is here tries the other master keys, only for the verbs that
// would lose such a data key for good, and for those that mend it.

// misplaced returns the master key version that really wraps a data key which
// does not open under the one that its row names; nil if none does.
func (w view) misplaced(d dataKey) (*source, error) {
	s, ctx, q := w.s, w.ctx, w.q
	if len(d.wrapped) == 0 {
		return nil, nil
	}
	keys, err := loadAllKeys(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		for _, v := range k.versions {
			if v.destroyedAt != 0 || v.row == d.keyVersion {
				continue
			}
			src := &source{key: k, version: v, altered: s.keys.checkKey(k) != nil}
			src.material, err = s.keys.unwrap(ctx, q, k, v, w.remember)
			if failsAlone(err) {
				continue // with that one it could not be read anyway
			}
			if err != nil {
				return nil, err
			}
			if s.opens(src, d.versionID, d.wrapped) {
				return src, nil
			}
		}
	}
	return nil, nil
}

// opens reports whether a wrap opens under a master key version.
func (s *Store) opens(src *source, versionID crypto.ID, wrapped []byte) bool {
	var buf [192]byte
	return src.material.CheckWrap(wrapped, crypto.AppendDataKeyContext(buf[:0], s.keys.storeID, versionID, src.key.id, src.version.number)) == nil
}

// misplacedDetail says what was found out about a misplaced data key.
func (s *source) misplacedDetail() string {
	return fmt.Sprintf("its data key is wrapped by version %d of %q, and its row names another: it was altered by other means", s.version.number, s.key.name)
}

// refuseNeeded refuses to destroy a master key, or with version not 0 one
// version of it, while a data key that is recorded under another needs it. It
// opens the wrap of every data key, in a transaction that only reads, and so
// has to be asked before the one that destroys, in which the recorded
// dependents are counted.
func (s *Store) refuseNeeded(ctx context.Context, q querier, name string, version uint64) error {
	p, err := s.prover(ctx, q, name, version)
	if err != nil || len(p.doomed) == 0 {
		return err
	}
	rows, err := q.QueryContext(ctx, `
		SELECT
			d.master_key_version,
			d.wrapped,
			v.version_id,
			v.number,
			COALESCE(s.name, '')
		FROM reseal_data_keys AS d
		JOIN reseal_secret_versions AS v ON v.id = d.id
		LEFT JOIN reseal_secrets AS s ON s.id = v.secret
		ORDER BY d.id`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var d dataKey
	var id []byte
	var secret string
	for rows.Next() {
		if err := rows.Scan(&d.keyVersion, &d.wrapped, &id, &d.number, &secret); err != nil {
			return err
		}
		copy(d.versionID[:], id)
		if src := p.needs(d); src != nil {
			return &Error{Op: "destroy", Key: name, KeyState: src.key.versionState(src.version), Secret: secret, Version: d.number, Err: ErrDependents,
				Detail: src.misplacedDetail(), Remedy: "reseal explain " + secret + " --version " + formatNumber(d.number)}
		}
	}
	return rows.Err()
}

// prover tells of data keys whether they need a key that is to be destroyed.
type prover struct {
	s       *Store
	doomed  []*source
	sources map[int64]*source // the others, by row
}

func (s *Store) prover(ctx context.Context, q querier, name string, version uint64) (*prover, error) {
	keys, err := loadAllKeys(ctx, q)
	if err != nil {
		return nil, err
	}
	p := &prover{s: s, sources: map[int64]*source{}}
	for _, k := range keys {
		for _, v := range k.versions {
			if v.destroyedAt != 0 {
				continue
			}
			src := &source{key: k, version: v}
			src.material, err = s.keys.unwrap(ctx, q, k, v, true)
			if failsAlone(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if k.name == name && (version == 0 || v.number == version) {
				p.doomed = append(p.doomed, src)
			} else {
				p.sources[v.row] = src
			}
		}
	}
	return p, nil
}

// needs returns the doomed version that wraps a data key which is recorded
// under one that stays.
func (p *prover) needs(d dataKey) *source {
	if src := p.sources[d.keyVersion]; src != nil && p.s.opens(src, d.versionID, d.wrapped) {
		return nil
	}
	for _, src := range p.doomed {
		if src.version.row != d.keyVersion && p.s.opens(src, d.versionID, d.wrapped) {
			return src
		}
	}
	return nil
}

// refuseMisplaced is ErrOpens for a version that does not open because its data
// key's row names the wrong master key version: it is not lost.
func (t *tx) refuseMisplaced(sec *secret, d dataKey) error {
	src, err := t.view().misplaced(d)
	if err != nil || src == nil {
		return err
	}
	return &Error{Op: "discard", Secret: sec.name, Version: d.number, Labels: sec.labelsOf(d.row), ConfiguredKey: sec.keyName,
		EffectiveKey: src.key.name, EffectiveKeyVersion: src.version.number, KeyState: src.key.versionState(src.version),
		Err: ErrOpens, Detail: src.misplacedDetail(), Remedy: "reseal set-key " + sec.name + " " + sec.keyName}
}

// find returns the source that really wraps a data key which does not open
// under the one that its row names. Without one the error is why.
func (m *mover) find(d dataKey, why error) (*source, error) {
	if layer := new(*crypto.LayerError); !errors.As(why, layer) && !failsAlone(why) {
		return nil, why
	}
	src, err := m.t.view().misplaced(d)
	if err == nil && src == nil {
		err = why
	}
	return src, err
}
