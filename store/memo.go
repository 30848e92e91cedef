package store

import (
	"strings"

	"github.com/reseal/reseal/crypto"
)

// memo is what a transaction looks up once for all of its puts. It holds the
// write lock, so that nobody else changes any of it, and a put changes no master
// key and no job. The next transaction begins with it, if nobody has changed the
// file in between.
type memo struct {
	keys     map[int64]*masterKey // checked, by row
	wrappers map[int64]wrapper    // by row of the master key
	jobs     []openJob
	jobsRead bool
	secrets  map[string]*secret // read ahead and checked; nil for a name that has none
	holds    bool               // nothing but puts ran, so that it holds afterwards as well
}

type wrapper struct {
	version keyVersion
	key     *crypto.Key
}

// openJob is an open rotation job from one master key to another.
type openJob struct {
	from, to int64
	prefix   string
}

// key reads and checks the master key of a row. One that is not as it should be
// is looked at again each time.
func (m *memo) key(t *tx, row int64) (*masterKey, error) {
	if k := m.keys[row]; k != nil {
		return k, nil
	}
	k, err := t.key(row)
	return k, m.keep(k, err)
}

func (m *memo) keyByName(t *tx, name string) (*masterKey, error) {
	for _, k := range m.keys {
		if k.name == name {
			return k, nil
		}
	}
	k, err := t.keyByName(name)
	return k, m.keep(k, err)
}

func (m *memo) keep(k *masterKey, err error) error {
	if err != nil {
		return err
	}
	if m.keys == nil {
		m.keys = map[int64]*masterKey{}
	}
	m.keys[k.row] = k
	return nil
}

// wrapper is tx.wrapper, once for each master key.
func (m *memo) wrapper(t *tx, k *masterKey) (keyVersion, *crypto.Key, error) {
	if w, ok := m.wrappers[k.row]; ok {
		return w.version, w.key, nil
	}
	kv, key, err := t.wrapper(k)
	if err != nil {
		return kv, key, err
	}
	if m.wrappers == nil {
		m.wrappers = map[int64]wrapper{}
	}
	m.wrappers[k.row] = wrapper{kv, key}
	return kv, key, nil
}

// openJobTarget returns the row of the master key that an open rotation job
// moves secrets like name to from k, or 0: a new secret there would be behind
// the job's back.
func (t *tx) openJobTarget(k *masterKey, name string) (int64, error) {
	if err := t.memo.readJobs(t); err != nil {
		return 0, err
	}
	for _, j := range t.memo.jobs {
		if j.from == k.row && strings.HasPrefix(name, j.prefix) {
			return j.to, nil
		}
	}
	return 0, nil
}

const selectOpenJobs = `
	SELECT from_key, to_key, prefix
	FROM reseal_rotation_jobs
	WHERE state IN ('running', 'paused') AND from_key <> to_key`

func (m *memo) readJobs(t *tx) error {
	if m.jobsRead {
		return nil
	}
	rows, err := t.q.QueryContext(t.ctx, selectOpenJobs)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var j openJob
		if err := rows.Scan(&j.from, &j.to, &j.prefix); err != nil {
			return err
		}
		m.jobs = append(m.jobs, j)
	}
	m.jobsRead = true
	return rows.Err()
}
