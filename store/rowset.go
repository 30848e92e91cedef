package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"

	"github.com/reseal/reseal/crypto"
)

// rowSet is which rows there are of the kinds whose loss nothing else would
// show: how many, and the exclusive or of a keyed digest of each row's id. It
// changes with each row that is added or removed, in the same transaction, and
// a rewrap leaves it alone.
//
// In the file the digest is masked under a fresh nonce and tagged together with
// the counts and the store's generation, so that nobody without the integrity
// key learns a row's digest, and nobody can combine the sets of several moments
// into another one: the construction is MSet-XOR-Hash (Clarke et al., Incremental
// Multiset Hash Functions, ASIACRYPT 2003). See docs/format.md.
type rowSet struct {
	digest [32]byte
	counts [rowKinds]int64
}

type rowKind int

// The kinds of rows. A tag counts with its value, and a description as a tag
// without a name.
const (
	secretRows rowKind = iota
	versionRows
	keyRows
	tagRows
	jobRows
	rowKinds
)

// String returns the kind's name in digests.
func (k rowKind) String() string {
	return [rowKinds]string{"secret", "secret version", "master key", "tag", "rotation job"}[k]
}

// change adds a row's digest to the set, or takes it out again: by is 1 or -1.
func (set *rowSet) change(r *keyring, kind rowKind, by int64, id []byte, texts ...string) error {
	var buf [128]byte // enough without texts
	rec := crypto.NewRecord(buf[:0], "reseal/v1/row").ID(r.storeID).Text(kind.String()).Raw(id)
	for _, s := range texts {
		rec = rec.Text(s)
	}
	var sum [32]byte
	row, err := r.integrity.MAC(sum[:0], rec.Bytes())
	if err != nil {
		return err
	}
	subtle.XORBytes(set.digest[:], set.digest[:], row)
	set.counts[kind] += by
	return nil
}

// add adds another set's rows.
func (set *rowSet) add(other *rowSet) {
	subtle.XORBytes(set.digest[:], set.digest[:], other.digest[:])
	for i, n := range other.counts {
		set.counts[i] += n
	}
}

// storedRows is a rowSet as it lies in the state row. Without a nonce it was
// never counted.
type storedRows struct {
	nonce  []byte
	masked []byte
	tag    []byte
	counts [rowKinds]int64
}

func (st *state) rowsRecord() []byte {
	rec := crypto.NewRecord(nil, "reseal/v1/tag/rows").
		ID(st.storeID).
		Number(uint64(st.generation)).
		Raw(st.rows.nonce).
		Raw(st.rows.masked)
	for _, n := range st.rows.counts {
		rec = rec.Number(uint64(n))
	}
	return rec.Bytes()
}

// mask hides or shows a digest.
func (r *keyring) mask(digest, nonce []byte) ([]byte, error) {
	out, err := r.tag(crypto.NewRecord(nil, "reseal/v1/row-mask").ID(r.storeID).Raw(nonce).Bytes())
	if err != nil {
		return nil, err
	}
	subtle.XORBytes(out, out, digest)
	return out, nil
}

// loadRows returns the set as it is recorded.
func (r *keyring) loadRows(st *state) (set rowSet, err error) {
	if err := r.checkTag(st.rows.tag, st.rowsRecord(), "the record of which rows there are was altered"); err != nil {
		return set, err
	}
	digest, err := r.mask(st.rows.masked, st.rows.nonce)
	if err != nil {
		return set, err
	}
	copy(set.digest[:], digest)
	set.counts = st.rows.counts
	return set, nil
}

// saveRows puts the set into the state row, which the caller writes.
func (r *keyring) saveRows(st *state, set *rowSet) (err error) {
	st.rows.nonce = make([]byte, 24)
	rand.Read(st.rows.nonce) // never fails, crypto/rand
	if st.rows.masked, err = r.mask(set.digest[:], st.rows.nonce); err != nil {
		return err
	}
	st.rows.counts = set.counts
	st.rows.tag, err = r.tag(st.rowsRecord())
	return err
}

// beginRows reads the set for a transaction that may change it. In a store that
// was never counted it counts, and the transaction's end records that.
func (t *tx) beginRows() (err error) {
	if t.state.rows.nonce == nil {
		if err := t.neverCounted(); err != nil {
			return err
		}
		t.rows, err = t.s.keys.countRows(t.ctx, t.q)
		return err
	}
	t.rows, err = t.s.keys.loadRows(&t.state)
	return withRemedy(err, "reseal verify")
}

// That a store's rows were counted once is in its audit trail: in the event
// "init", or later in an event of its own.
const (
	actionCountRows = "count-rows"
	detailCounted   = "rows_counted"
)

func (e *Event) countedRows() bool {
	return e.Action == actionCountRows || e.Action == "init" && bytes.Contains(e.Detail, []byte(`"`+detailCounted+`":true`))
}

// neverCounted refuses a store whose record of rows was taken away.
func (t *tx) neverCounted() error {
	if _, err := t.s.keys.checkChain(t.ctx, t.q, &t.state); err != nil {
		return err
	}
	counted := false
	err := eachEvent(t.ctx, t.q, 0, func(e Event, _ []byte) error {
		counted = counted || e.countedRows()
		return nil
	})
	if err == nil && counted {
		err = withRemedy(damaged("the record of which rows there are was removed"), "reseal verify --accept")
	}
	return err
}

func withRemedy(err error, remedy string) error {
	if err == nil {
		return nil
	}
	return &Error{Op: "check", Err: err, Remedy: remedy}
}

// countAtFirst counts the rows of a store that was made before they were
// counted.
func (s *Store) countAtFirst(ctx context.Context) error {
	var st state
	err := s.read(ctx, func(q querier) (err error) { st, err = loadState(ctx, q); return err })
	if err != nil || st.rows.nonce != nil {
		return err
	}
	err = s.write(ctx, func(t *tx) error {
		if t.state.rows.nonce == nil {
			t.audit(event{action: actionCountRows, detail: t.rows.detail()})
		}
		return nil
	})
	if errors.Is(err, ErrDamaged) {
		// Reading goes on, Verify tells of it, and AcceptRows needs an open store.
		s.opts.Logger.WarnContext(ctx, "the rows of the store cannot be counted, and writes are refused", "error", err)
		return nil
	}
	return err
}

func (set *rowSet) detail() map[string]any {
	return map[string]any{"secrets": set.counts[secretRows], "versions": set.counts[versionRows], "master_keys": set.counts[keyRows],
		"tags": set.counts[tagRows], "jobs": set.counts[jobRows]}
}

// countRows makes the set of the rows that are there. It asks the tables
// themselves and not their indexes, which could lack a row.
func (r *keyring) countRows(ctx context.Context, q querier) (set rowSet, err error) {
	for kind, query := range map[rowKind]string{
		secretRows:  `SELECT secret_id, NULL, NULL FROM reseal_secrets NOT INDEXED`,
		versionRows: `SELECT version_id, NULL, NULL FROM reseal_secret_versions NOT INDEXED`,
		keyRows:     `SELECT key_id, NULL, NULL FROM reseal_master_keys NOT INDEXED`,
		jobRows:     `SELECT job_id, NULL, NULL FROM reseal_rotation_jobs NOT INDEXED`,
		tagRows: `
			SELECT s.secret_id, t.key, t.value
			FROM reseal_tags AS t
			LEFT JOIN reseal_secrets AS s ON s.id = t.secret
			UNION ALL
			SELECT secret_id, '', description
			FROM reseal_secrets NOT INDEXED
			WHERE description <> ''`,
	} {
		if err := r.countKind(ctx, q, &set, kind, query); err != nil {
			return set, err
		}
	}
	return set, nil
}

func (r *keyring) countKind(ctx context.Context, q querier, set *rowSet, kind rowKind, query string) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	var id sql.RawBytes
	for rows.Next() {
		var key, value sql.NullString
		if err := rows.Scan(&id, &key, &value); err != nil {
			return err
		}
		var texts []string
		if key.Valid {
			texts = []string{key.String, value.String}
		}
		if err := set.change(r, kind, 1, id, texts...); err != nil {
			return err
		}
	}
	return rows.Err()
}

// differences tells how the rows that are there differ from those that should
// be.
func (set *rowSet) differences(should *rowSet) []string {
	var out []string
	for kind, n := range set.counts {
		if want := should.counts[kind]; n != want {
			out = append(out, fmt.Sprintf("%s, and there should be %d: rows were removed or added by other means", plural(n, rowKind(kind).String()), want))
		}
	}
	if len(out) == 0 && !bytes.Equal(set.digest[:], should.digest[:]) {
		out = append(out, "the ids of rows are not those that should be there: rows were exchanged by other means, or a tag or description was altered")
	}
	return out
}

// AcceptRows records the rows that are there now as those that should be. It is
// for a store in which rows were removed or added by other means and that has no
// backup to go back to: what is lost stays lost, and from then on Verify speaks
// of it no more. The audit event tells both counts.
func (s *Store) AcceptRows(ctx context.Context) error {
	if err := s.needUnsealed(); err != nil {
		return err
	}
	return s.exclusively(ctx, func(q querier) error {
		t := s.newTx(ctx, q)
		if err := t.beginState(); err != nil {
			return err
		}
		found, err := s.keys.countRows(t.ctx, q)
		if err != nil {
			return err
		}
		detail := map[string]any{"found": found.detail()}
		if recorded, err := s.keys.loadRows(&t.state); err == nil {
			detail["recorded"] = recorded.detail()
		}
		t.rows = found
		t.audit(event{action: "accept-rows", detail: detail})
		return t.finish()
	})
}
