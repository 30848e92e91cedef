package store

import (
	"math"
	"strings"

	"github.com/reseal/reseal/crypto"
)

// New secrets that are put one after the other in one transaction are written
// bulkRows at a time, with one statement for each table: half of what a row costs
// by itself is the execution of a statement. Their row numbers are given, each one
// more than the last, as SQLite itself would choose them: nobody else writes
// meanwhile. What seals them is one lot ahead of what writes, on another core.
const (
	bulkRows  = 32
	bulkValue = 16 << 10 // bytes of a value; a longer one is written by itself
)

// inBulk reports whether a put, if it makes a new secret, may be written with
// others: it brings nothing besides the value and moves no label but the first.
func (p *put) inBulk() bool {
	return p.Label == LabelCurrent && p.Description == nil && len(p.Tags) == 0 && len(p.value) <= bulkValue
}

// firstPut is a new secret with its first version, and what is written of it.
type firstPut struct {
	*putPlan
	version keyVersion
	wrapper *crypto.Key
	v       newVersion
	tag     []byte
}

// lot is what one statement a table writes.
type lot struct {
	puts []firstPut
	rows rowSet // what they add to the set of rows
	err  error
}

// planBulk plans the puts up to the first that is not of a new secret, and finds
// the key of each.
func (t *tx) planBulk(puts []put) ([]firstPut, error) {
	var out []firstPut
	for i := range puts {
		p := puts[i]
		if known := t.memo.secrets[p.name]; known != nil || !p.inBulk() {
			break
		}
		plan, err := t.planPut(p)
		if err != nil {
			return nil, err
		}
		kv, wrapper, err := t.memo.wrapper(t, plan.key)
		if err != nil {
			return nil, putKeyError(err, plan.sec)
		}
		t.memo.secrets[p.name] = plan.sec
		out = append(out, firstPut{putPlan: plan, version: kv, wrapper: wrapper})
	}
	return out, nil
}

// writeBulk writes new secrets, a whole number of lots.
func (t *tx) writeBulk(puts []firstPut) error {
	lots, stop := make(chan *lot, 1), make(chan struct{})
	go func() {
		defer close(lots)
		for ; len(puts) > 0; puts = puts[bulkRows:] {
			l := &lot{puts: puts[:bulkRows]}
			l.err = t.sealLot(l)
			select {
			case lots <- l:
			case <-stop:
				return
			}
		}
	}()
	defer func() { // the values are the caller's again when this returns
		close(stop)
		for range lots {
		}
	}()
	for l := range lots {
		if err := firstError(l.err, t.live.Err()); err != nil {
			return err
		}
		if err := t.writeLot(l); err != nil {
			return err
		}
	}
	return nil
}

// sealLot seals the values and makes the tags. It runs beside the transaction's
// statements and touches nothing of the transaction.
func (t *tx) sealLot(l *lot) (err error) {
	ring := t.s.keys
	for i := range l.puts {
		p := &l.puts[i]
		if p.v, err = t.sealPut(p.putPlan, p.version, p.wrapper); err != nil {
			return err
		}
		first := p.v.label
		first.label = LabelCurrent
		p.sec.labels = append(p.sec.labels, first)
		var buf [512]byte
		if p.tag, err = ring.tag(ring.secretRecord(buf[:0], p.sec)); err != nil {
			return err
		}
		if err := firstError(
			l.rows.change(ring, secretRows, 1, p.sec.id[:]),
			l.rows.change(ring, versionRows, 1, p.v.versionID[:]),
		); err != nil {
			return err
		}
	}
	return nil
}

// manyRows is an INSERT of bulkRows rows.
func manyRows(into, row string) string {
	return into + ` VALUES ` + strings.TrimSuffix(strings.Repeat(row+", ", bulkRows), ", ")
}

var (
	insertSecrets = manyRows(`
		INSERT INTO reseal_secrets (id, secret_id, name, master_key, next_number, version_count, created_at, updated_at, tag)`,
		`(?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	insertVersions = manyRows(`
		INSERT INTO reseal_secret_versions (id, version_id, secret, number, created_at, token, sealed)`,
		`(?, ?, ?, ?, ?, NULLIF(?, ''), ?)`)
	insertDataKeys = manyRows(`
		INSERT INTO reseal_data_keys (id, master_key_version, wrapped, made_at)`,
		`(?, ?, ?, ?)`)
	insertLabels = manyRows(`
		INSERT INTO reseal_labels (secret, label, secret_version)`,
		`(?, ?, ?)`)
)

// writeLot writes a lot, notes the rows and the results.
func (t *tx) writeLot(l *lot) error {
	var secret, version int64
	if err := t.queryRow(`
		SELECT
			(SELECT COALESCE(MAX(id), 0) FROM reseal_secrets),
			(SELECT COALESCE(MAX(id), 0) FROM reseal_secret_versions)`).Scan(&secret, &version); err != nil {
		return err
	}
	if max(secret, version) > math.MaxInt64-bulkRows {
		return withRemedy(damaged("a row was added by other means and has the last number that there is"), "reseal verify")
	}
	secrets, versions := make([]any, 0, 9*bulkRows), make([]any, 0, 7*bulkRows)
	dataKeys, labels := make([]any, 0, 4*bulkRows), make([]any, 0, 3*bulkRows)
	for i := range l.puts {
		p := &l.puts[i]
		sec, v := p.sec, &p.v
		secret++
		version++
		sec.row, sec.tag, v.version, sec.labels[0].version = secret, p.tag, version, version
		number := int64(v.number)
		secrets = append(secrets, secret, sec.id[:], sec.name, sec.keyRow.Int64, int64(sec.nextNumber), sec.versionCount, t.now, t.now, p.tag)
		versions = append(versions, version, v.versionID[:], secret, number, t.now, p.Token, v.sealed)
		dataKeys = append(dataKeys, version, v.keyVersion, v.wrapped, max(0, t.now))
		labels = append(labels, secret, LabelCurrent, version)
		t.notePut(p.putPlan, v, p.version)
	}
	t.rows.add(&l.rows)
	for _, insert := range []struct {
		query string
		args  []any
	}{{insertSecrets, secrets}, {insertVersions, versions}, {insertDataKeys, dataKeys}, {insertLabels, labels}} {
		if _, err := t.exec(insert.query, insert.args...); err != nil {
			return err
		}
	}
	return nil
}
