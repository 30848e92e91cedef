package store

import (
	"math"
	"strconv"
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
	var buf []byte
	for i := range l.puts {
		p := &l.puts[i]
		if p.v, err = t.sealPut(p.putPlan, p.version, p.wrapper); err != nil {
			return err
		}
		first := p.v.label
		first.label = LabelCurrent
		p.sec.labels = append(p.sec.labels, first)
		buf = ring.secretRecord(buf[:0], p.sec)
		if p.tag, err = ring.tag(buf); err != nil {
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

// manyRows is an INSERT of bulkRows rows; in row, # is the row's place among them.
// What is the same in all rows, or can be computed, is not a parameter of each: to
// pass 31 of them and not 14 for a secret was a tenth of what it cost.
func manyRows(into, row string) string {
	rows := make([]string, bulkRows)
	for i := range rows {
		rows[i] = strings.ReplaceAll(row, "#", strconv.Itoa(i))
	}
	return into + ` VALUES ` + strings.Join(rows, ", ")
}

// The parameters that all rows have in common come first. A new secret's first
// version has the number 1.
var (
	insertSecrets = manyRows(`
		INSERT INTO reseal_secrets (id, created_at, updated_at, next_number, version_count, secret_id, name, master_key, tag)`,
		`(?1 + #, ?2, ?2, 2, 1, ?, ?, ?, ?)`)
	insertVersions = manyRows(`
		INSERT INTO reseal_secret_versions (id, secret, created_at, number, version_id, token, sealed)`,
		`(?1 + #, ?2 + #, ?3, 1, ?, NULLIF(?, ''), ?)`)
	insertDataKeys = manyRows(`
		INSERT INTO reseal_data_keys (id, made_at, master_key_version, wrapped)`,
		`(?1 + #, ?2, ?, ?)`)
	insertLabels = manyRows(`
		INSERT INTO reseal_labels (secret, secret_version, label)`,
		`(?1 + #, ?2 + #, '`+LabelCurrent+`')`)
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
	secret++
	version++
	secrets := append(make([]any, 0, 2+4*bulkRows), secret, t.now)
	versions := append(make([]any, 0, 3+3*bulkRows), version, secret, t.now)
	dataKeys := append(make([]any, 0, 2+2*bulkRows), version, max(0, t.now))
	labels := []any{secret, version}
	for i := range l.puts {
		p := &l.puts[i]
		sec, v := p.sec, &p.v
		sec.row, sec.tag, v.version = secret+int64(i), p.tag, version+int64(i)
		sec.labels[0].version = v.version
		secrets = append(secrets, sec.id[:], sec.name, sec.keyRow.Int64, p.tag)
		versions = append(versions, v.versionID[:], p.Token, v.sealed)
		dataKeys = append(dataKeys, v.keyVersion, v.wrapped)
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
