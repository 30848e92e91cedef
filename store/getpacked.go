package store

import (
	"bytes"
	"database/sql"
	"strconv"

	"github.com/reseal/reseal/crypto"
)

// selectPackedGet has a row for each label of a secret, and in that of one
// label all that a get needs of the version it points to. What is a number, and
// what has a fixed length, comes in one column each: the driver takes most of a
// microsecond for every column of every execution. Where something is missing
// the bytes are NULL.
const selectPackedGet = `
	SELECT
		l.label,
		format('%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d',
			s.id, s.master_key, s.next_number, s.version_count, s.deleted_at, s.purge_at,
			v.id, v.number, v.created_at, d.master_key_version, k.id, k.primary_version, k.deletion_at),
		CASE
			WHEN l.label <> CAST(?2 AS TEXT) THEN v.version_id
			ELSE CAST(v.version_id || s.secret_id || s.tag || d.wrapped || k.tag ||
				CASE WHEN k.id = s.master_key THEN k.key_id ELSE (SELECT key_id FROM reseal_master_keys WHERE id = s.master_key) END AS BLOB)
		END,
		k.state,
		CASE WHEN l.label = CAST(?2 AS TEXT) AND v.secret = s.id THEN v.sealed END
	FROM reseal_secrets AS s
	JOIN reseal_labels AS l ON l.secret = s.id
	LEFT JOIN reseal_secret_versions AS v ON v.id = l.secret_version
	LEFT JOIN reseal_data_keys AS d ON d.id = v.id AND l.label = CAST(?2 AS TEXT)
	LEFT JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
	LEFT JOIN reseal_master_keys AS k ON k.id = kv.master_key
	WHERE s.name = CAST(?1 AS TEXT)
	ORDER BY l.label`

// getPacked returns the value that a label points to, read in one statement. It
// reports whether that went smoothly: whatever is missing, altered, deleted or
// cannot be read is for getByName, which reads step by step and says what it is.
func (w view) getPacked(name, label string) (Value, bool) {
	rows, err := w.q.QueryContext(w.ctx, selectPackedGet, name, label)
	if err != nil {
		return Value{}, false
	}
	sec, v, err := scanPackedGet(rows, name, label)
	if err != nil || v == nil || sec.deletedAt != 0 || w.s.keys.checkSecret(sec) != nil {
		return Value{}, false
	}
	w.ahead = map[int64]*stored{v.row: v}
	value, err := w.get("get", sec, Label(label))
	return value, err == nil
}

const (
	tagSize       = 32 // of a record's tag
	packedGetSize = 3*len(crypto.ID{}) + 2*tagSize + crypto.WrappedSize
)

// scanPackedGet reads the rows of selectPackedGet. The version is nil if the
// label, or something of what it points to, is not there.
func scanPackedGet(rows *sql.Rows, name, want string) (*secret, *stored, error) {
	defer rows.Close()
	sec := &secret{name: name}
	var found *stored
	var as, numbers, fixed, state, sealed sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&as, &numbers, &fixed, &state, &sealed); err != nil {
			return nil, nil, err
		}
		var v stored
		if !splitNumbers(numbers, &sec.row, &sec.keyRow.Int64, &sec.nextNumber, &sec.versionCount, &sec.deletedAt, &sec.purgeAt,
			&v.row, &v.number, &v.createdAt, &v.keyVersion, &v.key.row, &v.key.primary, &v.key.deletionAt) {
			return nil, nil, nil
		}
		wanted := string(as) == want
		if n := len(fixed); wanted && n != packedGetSize || !wanted && n != len(crypto.ID{}) {
			return nil, nil, nil
		}
		fixed = fixed[copy(v.versionID[:], fixed):]
		l := want
		if wanted {
			fixed = fixed[copy(sec.id[:], fixed):]
			own := bytes.Clone(fixed)
			sec.tag, own = own[:tagSize], own[tagSize:]
			v.wrapped, own = own[:crypto.WrappedSize], own[crypto.WrappedSize:]
			v.key.tag, sec.keyID = own[:tagSize], own[tagSize:]
			v.key.state, v.sealed = KeyState(state), bytes.Clone(sealed)
			found = &v
		} else {
			l = string(as)
		}
		sec.labels = append(sec.labels, label{label: l, version: v.row, versionID: v.versionID, number: v.number})
	}
	sec.keyRow.Valid = true
	return sec, found, rows.Err()
}

// splitNumbers reads decimal numbers with commas between them, and reports
// whether there are as many as that.
func splitNumbers(text []byte, to ...any) bool {
	for i, p := range to {
		part, rest, more := bytes.Cut(text, []byte{','})
		if more != (i < len(to)-1) {
			return false
		}
		var err error
		switch p := p.(type) {
		case *int64:
			*p, err = strconv.ParseInt(string(part), 10, 64)
		case *uint64:
			*p, err = strconv.ParseUint(string(part), 10, 64)
		}
		if err != nil {
			return false
		}
		text = rest
	}
	return true
}
