package store

import (
	"bytes"
	"database/sql"
	"strconv"

	"github.com/reseal/reseal/crypto"
)

const (
	selectPackedSecrets = `
	SELECT
		s.name,
		format('%d,%d,%d,%d,%d,%d', s.id, s.master_key, s.next_number, s.version_count, s.deleted_at, s.purge_at),
		CAST(s.secret_id || s.tag AS BLOB),
		(SELECT count(*) || ',' || group_concat(l.label || ':' || l.secret_version) FROM reseal_labels AS l WHERE l.secret = s.id)
	FROM reseal_secrets AS s
	WHERE s.id > ? AND s.id <= ?
	ORDER BY s.id`

	selectPackedVersions = `
	SELECT
		format('%d,%d,%d,%d', v.secret, v.id, v.number, d.master_key_version),
		CAST(v.version_id || d.wrapped AS BLOB),
		CASE WHEN ?3 THEN v.sealed END
	FROM reseal_secret_versions AS v
	LEFT JOIN reseal_data_keys AS d ON d.id = v.id
	WHERE v.secret > ?1 AND v.secret <= ?2
	ORDER BY v.secret, v.number`
)

// smooth is a secret in which nothing was found wrong so far.
type smooth struct {
	secret
	versions, behind int64
	unlabelled       int // labels whose version has not been seen
	wrong            bool
}

// smoothly checks the secrets of a range, all of them with two statements, and
// returns those that are not as most are: something is wrong with them, or they
// were purged. What it is is for secret to say, which takes several statements
// for each.
func (v *verifier) smoothly(o *opener, after, last int64) (others []int64, err error) {
	rows, err := o.q.QueryContext(v.ctx, selectPackedSecrets, after, last)
	if err != nil {
		return nil, err
	}
	secrets, err := scanPackedSecrets(rows)
	if err != nil {
		return nil, err
	}
	rows, err = o.q.QueryContext(v.ctx, selectPackedVersions, after, last, v.o.Deep)
	if err != nil {
		return nil, err
	}
	if err := o.scanPackedVersions(rows, secrets); err != nil {
		return nil, err
	}
	var versions, behind int64
	for _, s := range secrets {
		if k := o.configured[s.keyRow.Int64]; k == nil || s.wrong || s.versions != s.versionCount || s.unlabelled > 0 {
			s.wrong = true
		} else {
			s.keyID = k.id[:]
			s.wrong = v.s.keys.checkSecret(&s.secret) != nil
		}
		if s.wrong {
			others = append(others, s.row)
			continue
		}
		versions += s.versions
		behind += s.behind
	}
	v.checked(versions, 0, behind)
	return others, nil
}

func scanPackedSecrets(rows *sql.Rows) (out []*smooth, err error) {
	defer rows.Close()
	var numbers string
	var fixed, labels sql.RawBytes
	for rows.Next() {
		var s smooth
		if err := rows.Scan(&s.name, &numbers, &fixed, &labels); err != nil {
			return nil, err
		}
		ok := splitNumbers(numbers, &s.row, &s.keyRow.Int64, &s.nextNumber, &s.versionCount, &s.deletedAt, &s.purgeAt)
		s.wrong = !ok || len(fixed) != len(s.id)+tagSize || !s.splitLabels(labels)
		s.tag = bytes.Clone(fixed[copy(s.id[:], fixed):])
		out = append(out, &s)
	}
	return out, rows.Err()
}

// splitLabels reads a list of labels, each with the row of its version, behind
// their number: a label that was altered may have any character in it, and look
// like several.
func (s *smooth) splitLabels(list []byte) bool {
	if len(list) == 0 {
		return true
	}
	count, list, _ := bytes.Cut(list, []byte{','})
	for part := range bytes.SplitSeq(list, []byte{','}) {
		name, row, ok := bytes.Cut(part, []byte{':'})
		if !ok {
			return false
		}
		version, err := strconv.ParseInt(string(row), 10, 64)
		if err != nil {
			return false
		}
		s.labels = append(s.labels, label{label: string(name), version: version})
	}
	s.unlabelled = len(s.labels)
	sortLabels(s.labels)
	return string(count) == strconv.Itoa(len(s.labels))
}

// scanPackedVersions checks the versions of secrets, both in the order of the
// secrets' rows.
func (o *opener) scanPackedVersions(rows *sql.Rows, secrets []*smooth) error {
	defer rows.Close()
	var numbers string
	var fixed, sealed sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&numbers, &fixed, &sealed); err != nil {
			return err
		}
		var of int64
		var d dataKey
		if !splitNumbers(numbers, &of, &d.row, &d.number, &d.keyVersion) {
			continue // counted as missing
		}
		for len(secrets) > 0 && secrets[0].row < of {
			secrets = secrets[1:]
		}
		if len(secrets) == 0 || secrets[0].row != of {
			continue // of no secret: references tells
		}
		if s := secrets[0]; !s.wrong {
			s.wrong = !o.isSmooth(s, &d, fixed, sealed)
		}
	}
	return rows.Err()
}

// isSmooth checks a version, and opens its value in a deep check.
func (o *opener) isSmooth(s *smooth, d *dataKey, fixed, sealed []byte) bool {
	k := o.keys[d.keyVersion]
	if len(fixed) != len(d.versionID)+crypto.WrappedSize || k == nil || k.row != s.keyRow.Int64 || d.number >= s.nextNumber {
		return false
	}
	kv, _ := k.byRow(d.keyVersion)
	if kv.destroyedAt != 0 {
		return false
	}
	d.wrapped = fixed[copy(d.versionID[:], fixed):]
	if o.v.o.Deep && o.openSealed(&s.secret, d, k, kv, sealed) != nil {
		return false
	}
	s.versions++
	if kv.number != k.primary {
		s.behind++
	}
	for i := range s.labels {
		if l := &s.labels[i]; l.version == d.row {
			l.versionID = d.versionID
			s.unlabelled--
		}
	}
	return true
}
