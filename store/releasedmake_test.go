package store_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/store"
)

var makeReleased = flag.Bool("make-released", false, "make the released store of the newest schema, if it is missing")

// TestMakeReleasedStore is no test but the command that adds the store of a new
// schema to testdata/released, in the change that adds the migration:
//
//	go test ./store -run TestMakeReleasedStore -make-released
func TestMakeReleasedStore(t *testing.T) {
	if !*makeReleased {
		t.Skip("makes test data, with -make-released only")
	}
	path := releasedPath(migrations.Latest(), "db")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s: %v; a released store is never made again", path, err)
	}
	m := &maker{T: t, clock: storetest.NewClock(), values: map[string][][]byte{}}
	storetest.OK(t, os.MkdirAll(filepath.Dir(path), 0o755))
	m.make(path)
	text, err := json.MarshalIndent(m.manifest(path), "", " ")
	storetest.OK(t, err)
	storetest.OK(t, os.WriteFile(releasedPath(migrations.Latest(), "json"), append(text, '\n'), 0o644))
}

const recoveryPassphrase = storetest.Passphrase + " again"

// maker fills a store with everything that a schema has a place for.
type maker struct {
	*testing.T
	*store.Store
	clock  *storetest.Clock
	values map[string][][]byte // what was put, by secret, in the order of versions
}

func (m *maker) make(path string) {
	var err error
	m.Store, err = store.Create(m.Context(), path, storetest.Credential(), m.options())
	storetest.OK(m.T, err)
	m.keys()
	m.secrets()
	m.ends()
	m.rotations()
	storetest.Check(m.T, m.Store)
	storetest.OK(m.T, m.Close())
}

func (m *maker) options() *store.Options {
	return &store.Options{KDF: storetest.KDF, Now: m.clock.Now, Actor: "tester"}
}

// keys makes master keys that will be in every state, with versions in every
// state, and a second unseal slot.
func (m *maker) keys() {
	ctx := m.Context()
	for _, k := range []string{"gone", "app", "moving", "target", "held", "leaving"} {
		storetest.OK(m.T, m.CreateKey(ctx, k))
	}
	storetest.OK(m.T, storetest.Err(m.ScheduleKeyDeletion(ctx, "gone", store.MinWindow)))
	m.clock.Advance(store.MinWindow + time.Hour)
	storetest.OK(m.T, storetest.Err(m.Sweep(ctx, false)))
	storetest.OK(m.T, storetest.Err(m.RotateKey(ctx, "app")))
	storetest.OK(m.T, m.DestroyKeyVersion(ctx, "app", 1))
	storetest.OK(m.T, storetest.Err(m.AddSlot(ctx, store.Passphrase([]byte(recoveryPassphrase)), "recovery")))
}

// secrets puts them: one to four versions each, of odd sizes and bytes, with
// labels, tokens, tags and descriptions.
func (m *maker) secrets() {
	for _, key := range []string{store.DefaultKeyName, "app", "moving", "held"} {
		for i := range 20 {
			m.put(fmt.Sprintf("%s/%02d", key, i), key, 1+i%4)
		}
	}
	m.putValue("odd/one-byte", []byte{0}, store.PutOptions{})
	m.putValue("odd/every-byte", everyByte(), store.PutOptions{})
	m.putValue("odd/large", bytes.Repeat([]byte("0123456789abcdef"), 640), store.PutOptions{})
	m.putValue("odd/white-space", []byte(" \n\tleading and trailing\r\n "), store.PutOptions{})
}

func everyByte() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func (m *maker) put(name, key string, versions int) {
	for n := range versions {
		m.clock.Advance(time.Minute)
		o := store.PutOptions{Tags: map[string]string{"team": "a" + name[:1]}}
		if n == 0 {
			o.Key = key
			about := "what " + name + " is for"
			o.Description = &about
		}
		switch n {
		case 1:
			o.Token = "token-1"
		case 2:
			o.Label = "custom"
		case 3:
			o.Label = store.LabelPending
		}
		m.putValue(name, fmt.Appendf(nil, "value %d of %s", n+1, name), o)
	}
}

func (m *maker) putValue(name string, value []byte, o store.PutOptions) {
	res, err := m.Put(m.Context(), name, value, &o)
	storetest.OK(m.T, err)
	if int(res.Version) != len(m.values[name])+1 {
		m.Fatalf("%s: version %d, want %d", name, res.Version, len(m.values[name])+1)
	}
	m.values[name] = append(m.values[name], value)
}

// ends deletes some secrets, purges two and uses one of these names again,
// records a backup, and closes keys.
func (m *maker) ends() {
	ctx := m.Context()
	for i := range 4 {
		storetest.OK(m.T, storetest.Err(m.Delete(ctx, fmt.Sprintf("default/%02d", i), 0)))
	}
	for _, name := range []string{"default/18", "default/19"} {
		storetest.OK(m.T, storetest.Err(m.Delete(ctx, name, 0)))
		storetest.OK(m.T, storetest.Err(m.Purge(ctx, name, true)))
		clear(m.values[name])
	}
	m.putValue("default/19", []byte("a value after the purge"), store.PutOptions{})
	backup := filepath.Join("/tmp", "reseal-released.backup") // recorded in the store
	storetest.OK(m.T, storetest.Err(m.Backup(ctx, backup)))
	storetest.OK(m.T, os.Remove(backup))
	storetest.OK(m.T, storetest.Err(m.DisableKey(ctx, "held")))
	storetest.OK(m.T, storetest.Err(m.ScheduleKeyDeletion(ctx, "leaving", 0)))
}

// rotations leaves two half done: from key to key, released, and to a key's
// newest version, as a killed process of another machine leaves it.
func (m *maker) rotations() {
	ctx := m.Context()
	storetest.OK(m.T, storetest.Err(m.RotateKey(ctx, "app")))
	for _, spec := range []store.RotationSpec{{From: "moving", To: "target"}, {From: "app", To: "app"}} {
		r, err := m.StartRotation(ctx, spec)
		storetest.OK(m.T, err)
		batch, err := r.Step(ctx, 0, 20, time.Minute)
		storetest.OK(m.T, err)
		if j := r.Job(); j.Done == 0 || j.Remaining == 0 {
			m.Fatalf("rotation %+v is not half done: %+v, %+v", spec, j, batch)
		}
		storetest.OK(m.T, r.Release(ctx))
	}
	db, err := sql.Open("sqlite", m.Path())
	storetest.OK(m.T, err)
	storetest.OK(m.T, storetest.Err(db.Exec(`
		UPDATE reseal_rotation_jobs
		SET lease_owner = 'elsewhere 4242 0badcafe', lease_until = updated_at + 30000
		WHERE from_key = to_key`)))
	storetest.OK(m.T, db.Close())
}

// manifest says what is in the store, from what was put and what it shows.
func (m *maker) manifest(path string) releasedStore {
	m.clock.Advance(time.Minute) // the killed process's lease runs out
	s, err := store.Open(m.Context(), path, storetest.Credential(), m.options())
	storetest.OK(m.T, err)
	defer s.Close()
	want := releasedStore{Schema: migrations.Latest(), Clock: m.clock.Now(), Passphrases: []string{storetest.Passphrase, recoveryPassphrase}, Secrets: releasedSecrets(m.T, s)}
	want.Keys, want.Jobs = releasedKeys(m.T, s)
	for i, sec := range want.Secrets {
		for n, v := range sec.Versions {
			want.Secrets[i].Versions[n].Value = m.values[sec.Name][v.Version-1]
		}
	}
	return want
}
