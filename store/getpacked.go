package store

import (
	"database/sql"
	"database/sql/driver"
	"strconv"
	"strings"

	"github.com/reseal/reseal/crypto"
)

// packedVersion has a row for each label of a secret, and in that of one label
// all that a get needs of the version it points to. What is a number, and what
// has a fixed length, comes in one column each: the driver takes most of a
// microsecond for every column of every execution. Where something is missing
// the bytes are NULL.
const (
	packedVersion = `
	SELECT
		s.name,
		l.label,
		format('%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d',
			s.id, s.master_key, s.next_number, s.version_count, s.deleted_at, s.purge_at,
			v.id, v.number, v.created_at, d.master_key_version, k.id, k.primary_version, k.deletion_at),
		CASE
			WHEN l.label <> CAST(?1 AS TEXT) THEN v.version_id
			ELSE CAST(v.version_id || s.secret_id || s.tag || d.wrapped || k.tag ||
				CASE WHEN k.id = s.master_key THEN k.key_id ELSE (SELECT key_id FROM reseal_master_keys WHERE id = s.master_key) END AS BLOB)
		END,
		k.state,
		CASE WHEN l.label = CAST(?1 AS TEXT) AND v.secret = s.id THEN v.sealed END
	FROM reseal_secrets AS s INDEXED BY ` + byName + `
	JOIN reseal_labels AS l ON l.secret = s.id
	LEFT JOIN reseal_secret_versions AS v ON v.id = l.secret_version
	LEFT JOIN reseal_data_keys AS d ON d.id = v.id AND l.label = CAST(?1 AS TEXT)
	LEFT JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
	LEFT JOIN reseal_master_keys AS k ON k.id = kv.master_key
	WHERE `

	packedByName  = packedVersion + `s.name = CAST(?2 AS TEXT) ORDER BY l.label`
	packedByNames = packedVersion + `s.name IN (SELECT CAST(value AS TEXT) FROM json_each(?2)) ORDER BY s.id, l.label`
)

// getPacked returns the value that a label points to, read in one statement. Its
// error may not say what is missing, altered or deleted: unless it is settled,
// reading step by step does.
func (w view) getPacked(name, label string) (Value, error) {
	secrets, err := w.readPacked(label, packedByName, name)
	if err != nil {
		return Value{}, err
	}
	sec := secrets[name]
	if sec == nil {
		return Value{}, sql.ErrNoRows
	}
	return w.getChecked(sec, Label(label))
}

// settled reports whether reading step by step would not tell more: there is a
// value, or SQLite could not read, after which no statement is in the same
// transaction any more.
func settled(err error) bool { return err == nil || cannotRead(err) }

// readPacked reads secrets, by name and unchecked, and the versions that a label
// points to ahead. Secrets of which something is missing it leaves out.
func (w *view) readPacked(label, query, which string) (map[string]*secret, error) {
	secrets := map[string]*secret{}
	w.ahead = map[int64]*stored{}
	p := packedRows{want: label, each: func(sec *secret, v *stored) { secrets[sec.name], w.ahead[v.row] = sec, v }}
	if err := rowsOf(w.ctx, w.q, p.add, query, label, which); err != nil {
		return nil, err
	}
	p.finish()
	return secrets, nil
}

const (
	tagSize         = 32 // of a record's tag
	packedSizeOfGet = 3*len(crypto.ID{}) + 2*tagSize + crypto.WrappedSize
)

// packedRows gathers the rows of packedVersion into secrets, each with the version
// that its label want points to. It leaves out those of which something is not
// there.
type packedRows struct {
	want string
	each func(*secret, *stored)

	sec    *secret
	found  *stored
	smooth bool
}

func (p *packedRows) finish() {
	if p.smooth && p.found != nil {
		p.each(p.sec, p.found)
	}
}

func (p *packedRows) add(row []driver.Value) error {
	name, _ := row[0].(string)
	as, _ := row[1].(string)
	numbers, _ := row[2].(string)
	fixed, _ := row[3].([]byte)
	if p.sec == nil || p.sec.name != name {
		p.finish()
		p.sec, p.found, p.smooth = &secret{name: name}, nil, true
		p.sec.keyRow.Valid = true
	}
	sec, v := p.sec, new(stored)
	p.smooth = p.smooth && splitNumbers(numbers, &sec.row, &sec.keyRow.Int64, &sec.nextNumber, &sec.versionCount, &sec.deletedAt, &sec.purgeAt,
		&v.row, &v.number, &v.createdAt, &v.keyVersion, &v.key.row, &v.key.primary, &v.key.deletionAt)
	if as == p.want {
		p.smooth = p.smooth && len(fixed) == packedSizeOfGet
		if !p.smooth {
			return nil
		}
		fixed = fixed[copy(v.versionID[:], fixed):]
		fixed = fixed[copy(sec.id[:], fixed):]
		sec.tag, fixed = fixed[:tagSize], fixed[tagSize:]
		v.wrapped, fixed = fixed[:crypto.WrappedSize], fixed[crypto.WrappedSize:]
		v.key.tag, sec.keyID = fixed[:tagSize], fixed[tagSize:]
		state, _ := row[4].(string)
		v.key.state = KeyState(state)
		v.sealed, _ = row[5].([]byte)
		p.smooth, p.found = v.sealed != nil, v
	} else {
		p.smooth = p.smooth && len(fixed) == copy(v.versionID[:], fixed)
	}
	sec.labels = append(sec.labels, label{label: as, version: v.row, versionID: v.versionID, number: v.number})
	return nil
}

// splitNumbers reads decimal numbers with commas between them, and reports
// whether there are as many as that.
func splitNumbers(text string, to ...any) bool {
	for i, p := range to {
		part, rest, more := strings.Cut(text, ",")
		if more != (i < len(to)-1) {
			return false
		}
		var err error
		switch p := p.(type) {
		case *int64:
			*p, err = strconv.ParseInt(part, 10, 64)
		case *uint64:
			*p, err = strconv.ParseUint(part, 10, 64)
		}
		if err != nil {
			return false
		}
		text = rest
	}
	return true
}
