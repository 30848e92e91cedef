package store

import (
	"context"
	"encoding/json"
)

// GetMany is Get for many secrets at one moment: all values are of one state of
// the file, in the order of the names, and there is one for each or an error. A
// selector goes for all of them. The values are the caller's; clear them when they
// are used.
//
// Errors: those of Get, of the first name that has one.
func (s *Store) GetMany(ctx context.Context, names []string, sel ...Selector) ([]Value, error) {
	which, err := one(sel)
	if err != nil {
		return nil, err
	}
	if err := s.needUnsealed(); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := CheckName(name); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	var out []Value
	err = s.snapshot(ctx, func(q querier) (err error) {
		w := view{s: s, ctx: context.WithoutCancel(ctx), q: q, remember: true}
		out, err = w.getMany(ctx, names, which)
		return err
	})
	if err == nil && s.opts.AuditReads {
		err = s.write(ctx, func(t *tx) error {
			for _, v := range out {
				t.auditRead(v)
			}
			return nil
		})
	}
	if err != nil {
		for _, v := range out {
			v.Clear()
		}
		return nil, err
	}
	return out, nil
}

// getMany returns what it has read also when it fails.
func (w view) getMany(live context.Context, names []string, which Selector) ([]Value, error) {
	out := make([]Value, 0, len(names))
	var secrets map[string]*secret
	for at, name := range names {
		if err := live.Err(); err != nil {
			return out, err
		}
		if at%readAheadOf == 0 {
			var err error
			if secrets, err = w.readAhead(names[at:min(at+readAheadOf, len(names))], which); err != nil {
				return out, err
			}
		}
		v, err := w.getOneOf(name, secrets[name], which)
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

// readAhead reads the secrets of those names in one statement, and the versions
// that a label points to.
func (w *view) readAhead(names []string, which Selector) (map[string]*secret, error) {
	if which.label != "" {
		list, err := json.Marshal(names)
		if err != nil {
			return nil, err
		}
		return w.readPacked(which.label, packedByNames, string(list))
	}
	secrets := map[string]*secret{}
	return secrets, loadSecrets(w.ctx, w.q, names, func(sec *secret) error {
		secrets[sec.name] = sec
		return nil
	})
}

// getOneOf is getByName for a secret that was read ahead; nil for one that was
// not found.
func (w view) getOneOf(name string, sec *secret, which Selector) (Value, error) {
	if sec != nil && !sec.tombstone() {
		if v, err := w.getChecked(sec, which); settled(err) {
			return v, err
		}
	}
	return w.getByName(name, which) // which says why
}
