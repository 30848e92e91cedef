package storetest

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"errors"
	"os"
	"testing"

	"github.com/reseal/reseal/crypto"
)

// Keys unwraps every key of a store with its key file, as docs/format.md says,
// and returns what they are by their bytes: "root key", "integrity key", "master
// key", "data key".
func Keys(t *testing.T, path, keyFile string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(keyFile)
	OK(t, err)
	unseal, err := crypto.ParseKeyFile(text)
	OK(t, err)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(10000)")
	OK(t, err)
	defer db.Close()

	var store, rootID, slot crypto.ID
	var wrapped, integrity []byte
	OK(t, db.QueryRow(`
		SELECT s.store_id, u.root_id, u.slot_id, u.wrapped, r.integrity_wrapped
		FROM reseal_state AS s
		JOIN reseal_unseal_slots AS u ON u.root_id = s.root_id AND u.kind = 'key-file'
		JOIN reseal_root_keys AS r ON r.root_id = u.root_id`).Scan(id(&store), id(&rootID), id(&slot), &wrapped, &integrity))
	found := map[string]string{}
	unwrap := func(what string, by *crypto.Key, wrapped, context []byte) *crypto.Key {
		k, err := by.Unwrap(wrapped, context)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		found[string(keyBytes(t, k))] = what
		return k
	}
	root := unwrap("root key", unseal, wrapped, crypto.AppendRootContext(nil, store, rootID, slot, "key-file", "", crypto.KDF{}))
	unwrap("integrity key", root, integrity, crypto.AppendIntegrityContext(nil, store, rootID))

	type version struct {
		key    crypto.ID
		number uint64
		key32  *crypto.Key
	}
	masters := map[int64]version{}
	eachRow(t, db, `
		SELECT v.id, k.key_id, v.number, w.wrapped
		FROM reseal_master_key_wraps AS w
		JOIN reseal_master_key_versions AS v ON v.id = w.master_key_version
		JOIN reseal_master_keys AS k ON k.id = v.master_key`, func(rows *sql.Rows) error {
		var row int64
		var v version
		err := rows.Scan(&row, id(&v.key), &v.number, &wrapped)
		if err == nil {
			v.key32 = unwrap("master key", root, wrapped, crypto.AppendMasterContext(nil, store, rootID, v.key, v.number))
			masters[row] = v
		}
		return err
	})
	eachRow(t, db, `
		SELECT v.version_id, d.master_key_version, d.wrapped
		FROM reseal_data_keys AS d
		JOIN reseal_secret_versions AS v ON v.id = d.id`, func(rows *sql.Rows) error {
		var versionID crypto.ID
		var row int64
		err := rows.Scan(id(&versionID), &row, &wrapped)
		if err == nil {
			m := masters[row]
			unwrap("data key", m.key32, wrapped, crypto.AppendDataKeyContext(nil, store, versionID, m.key, m.number))
		}
		return err
	})
	return found
}

// id scans a column into an id.
func id(to *crypto.ID) sql.Scanner { return scanID{to} }

type scanID struct{ to *crypto.ID }

func (s scanID) Scan(v any) error {
	b, is := v.([]byte)
	if !is || len(b) != len(s.to) {
		return errors.New("no id")
	}
	copy(s.to[:], b)
	return nil
}

func eachRow(t *testing.T, db *sql.DB, query string, fn func(*sql.Rows) error) {
	t.Helper()
	rows, err := db.Query(query)
	OK(t, err)
	defer rows.Close()
	for rows.Next() {
		OK(t, fn(rows))
	}
	OK(t, rows.Err())
}

// keyBytes returns a key's bytes, from the only text that has them.
func keyBytes(t *testing.T, k *crypto.Key) []byte {
	t.Helper()
	text, err := crypto.EncodeKeyFile(k)
	OK(t, err)
	_, line, _ := bytes.Cut(text, []byte("reseal-key-v1:"))
	raw, err := hex.DecodeString(string(line[:2*crypto.KeySize]))
	OK(t, err)
	return raw
}
