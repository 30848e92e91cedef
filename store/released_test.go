package store_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/migrations"
	"github.com/reseal/reseal/resealtest"
	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// releasedStore is what is in a store of testdata/released.
type releasedStore struct {
	Schema int64     `json:"schema"`
	Clock  time.Time `json:"clock"` // the time to open it at

	// Passphrases open it, each by a slot of its own. They protect nothing:
	// these stores are test data.
	Passphrases []string `json:"test_passphrases"`

	Keys    []releasedKey    `json:"keys"`
	Jobs    []releasedJob    `json:"jobs"`
	Secrets []releasedSecret `json:"secrets"`
}

type releasedKey struct {
	Name     string         `json:"name"`
	State    store.KeyState `json:"state"`
	Primary  uint64         `json:"primary"`
	Versions []string       `json:"versions"` // their states
}

type releasedJob struct {
	From  string         `json:"from"`
	To    string         `json:"to"`
	State store.JobState `json:"state"`
	Total int64          `json:"total"`
	Done  int64          `json:"done"`
}

type releasedSecret struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Key         string            `json:"key"`
	Deleted     bool              `json:"deleted,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Versions    []releasedVersion `json:"versions"`
}

type releasedVersion struct {
	Version    uint64   `json:"version"`
	Labels     []string `json:"labels,omitempty"`
	Token      string   `json:"token,omitempty"`
	KeyVersion string   `json:"key_version"`
	Value      []byte   `json:"value"`
}

func releasedPath(schema int64, ext string) string {
	return filepath.Join("testdata", "released", fmt.Sprintf("schema-%05d.%s", schema, ext))
}

// TestEverySchemaHasItsReleasedStore is what a new migration meets that comes
// without one.
func TestEverySchemaHasItsReleasedStore(t *testing.T) {
	for v := int64(1); v <= migrations.Latest(); v++ {
		var want releasedStore
		if !readReleased(t, v, &want) {
			t.Errorf("there is no store of schema %d: run go test ./store -run TestMakeReleasedStore -make-released, and commit %s and %s",
				v, releasedPath(v, "db"), releasedPath(v, "json"))
			continue
		}
		if want.Schema != v {
			t.Errorf("%s says schema %d", releasedPath(v, "json"), want.Schema)
		}
		wantPopulated(t, want)
	}
}

func readReleased(t *testing.T, schema int64, to *releasedStore) bool {
	t.Helper()
	if _, err := os.Stat(releasedPath(schema, "db")); err != nil {
		return false
	}
	text, err := os.ReadFile(releasedPath(schema, "json"))
	if err != nil {
		return false
	}
	storetest.OK(t, json.Unmarshal(text, to))
	return true
}

// wantPopulated checks that the store is worth migrating: it says nothing else
// than that nothing is lost from an empty one.
func wantPopulated(t *testing.T, want releasedStore) {
	t.Helper()
	if len(want.Secrets) < 50 {
		t.Errorf("schema %d: %d secrets, want 50 or more", want.Schema, len(want.Secrets))
	}
	states := map[store.KeyState]bool{}
	for _, k := range want.Keys {
		states[k.State] = true
	}
	for _, s := range []store.KeyState{store.Enabled, store.Disabled, store.PendingDeletion, store.Destroyed} {
		if !states[s] {
			t.Errorf("schema %d: no master key is %s", want.Schema, s)
		}
	}
	for _, j := range want.Jobs {
		if j.Done == 0 || j.Done >= j.Total || !j.State.Open() {
			t.Errorf("schema %d: rotation %+v is not half done", want.Schema, j)
		}
	}
	if len(want.Jobs) < 2 {
		t.Errorf("schema %d: %d rotations, want one from key to key and one between versions", want.Schema, len(want.Jobs))
	}
}

// TestReleasedStoresReachThisSchema opens a copy of each with this release.
func TestReleasedStoresReachThisSchema(t *testing.T) {
	for v := int64(1); v <= migrations.Latest(); v++ {
		t.Run(fmt.Sprintf("schema %d", v), func(t *testing.T) {
			var want releasedStore
			if !readReleased(t, v, &want) {
				t.Skip("there is none, which another test reports")
			}
			s := openReleased(t, copyReleased(t, v), want)
			wantRecorded(t, s, want)
			unlockReleased(t, s, want)
			wantValues(t, s, want)
			finishReleased(t, s)
			wantValues(t, s, want)
			resealtest.Check(t, s)
		})
	}
}

// copyReleased copies a released store to a temporary folder.
func copyReleased(t *testing.T, schema int64) (path string) {
	t.Helper()
	text, err := os.ReadFile(releasedPath(schema, "db"))
	storetest.OK(t, err)
	path = filepath.Join(t.TempDir(), "reseal.db")
	storetest.OK(t, os.WriteFile(path, text, 0o600))
	return path
}

// openReleased opens it with each of its credentials.
func openReleased(t *testing.T, path string, want releasedStore) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, store.Passphrase([]byte(want.Passphrases[0])), &store.Options{
		KDF:   resealtest.KDF,
		Actor: "tester",
		Now:   func() time.Time { return want.Clock },
	})
	storetest.OK(t, err)
	t.Cleanup(func() { s.Close() })
	for _, p := range want.Passphrases[1:] {
		again, err := store.Open(t.Context(), path, store.Passphrase([]byte(p)), nil)
		storetest.OK(t, err)
		storetest.OK(t, again.Close())
	}
	return s
}

// wantRecorded compares everything but the values.
func wantRecorded(t *testing.T, s *store.Store, want releasedStore) {
	t.Helper()
	got := releasedStore{Schema: want.Schema, Clock: want.Clock, Passphrases: want.Passphrases, Secrets: releasedSecrets(t, s)}
	got.Keys, got.Jobs = releasedKeys(t, s)
	values := func(p cmp.Path) bool { return p.Last().String() == ".Value" }
	storetest.Diff(t, "what the store shows", want, got, cmp.FilterPath(values, cmp.Ignore()), cmpopts.EquateEmpty())
}

func releasedSecrets(t *testing.T, s *store.Store) []releasedSecret {
	t.Helper()
	var all []releasedSecret
	for _, deleted := range []bool{false, true} {
		list, err := s.List(t.Context(), store.ListOptions{Deleted: deleted})
		storetest.OK(t, err)
		for _, info := range list {
			all = append(all, releasedSecretOf(t, s, info.Name))
		}
	}
	return all
}

func releasedSecretOf(t *testing.T, s *store.Store, name string) releasedSecret {
	t.Helper()
	info, err := s.Show(t.Context(), name)
	storetest.OK(t, err)
	out := releasedSecret{Name: name, Description: info.Description, Key: info.ConfiguredKey, Deleted: !info.DeletedAt.IsZero(), Tags: info.Tags}
	for _, v := range info.Versions {
		out.Versions = append(out.Versions, releasedVersion{
			Version:    v.Version,
			Labels:     v.Labels,
			Token:      v.Token,
			KeyVersion: fmt.Sprintf("%s %d", v.EffectiveKey, v.EffectiveKeyVersion),
		})
	}
	return out
}

func releasedKeys(t *testing.T, s *store.Store) (keys []releasedKey, jobs []releasedJob) {
	t.Helper()
	list, err := s.Keys(t.Context())
	storetest.OK(t, err)
	for _, k := range list {
		out := releasedKey{Name: k.Name, State: k.State, Primary: k.PrimaryVersion}
		for _, v := range k.Versions {
			out.Versions = append(out.Versions, string(v.State))
		}
		keys = append(keys, out)
	}
	open, err := s.Jobs(t.Context())
	storetest.OK(t, err)
	for _, j := range open {
		jobs = append(jobs, releasedJob{From: j.From, To: j.To, State: j.State, Total: j.Total, Done: j.Done})
	}
	return keys, jobs
}

// unlockReleased makes every value readable: disabled keys are enabled, deleted
// secrets restored.
func unlockReleased(t *testing.T, s *store.Store, want releasedStore) {
	t.Helper()
	for _, k := range want.Keys {
		if k.State == store.Disabled {
			storetest.OK(t, s.EnableKey(t.Context(), k.Name))
		}
	}
	for _, sec := range want.Secrets {
		if sec.Deleted {
			storetest.OK(t, storetest.Err(s.Restore(t.Context(), sec.Name)))
		}
	}
}

// wantValues compares every value, byte for byte.
func wantValues(t *testing.T, s *store.Store, want releasedStore) {
	t.Helper()
	read := 0
	for _, sec := range want.Secrets {
		for _, v := range sec.Versions {
			got, err := s.Get(t.Context(), sec.Name, store.Version(v.Version))
			if err != nil {
				t.Errorf("schema %d: %v", want.Schema, err)
				continue
			}
			if diff := cmp.Diff(v.Value, got.Bytes()); diff != "" {
				t.Errorf("schema %d: %s version %d (-want +got):\n%s", want.Schema, sec.Name, v.Version, diff)
			}
			read++
		}
	}
	if read < 50 {
		t.Errorf("schema %d: %d values were read, want 50 or more", want.Schema, read)
	}
}

// finishReleased runs the rotations that are half done to their end.
func finishReleased(t *testing.T, s *store.Store) {
	t.Helper()
	jobs, err := s.Jobs(t.Context())
	storetest.OK(t, err)
	for _, j := range jobs {
		o := rotate.Options{From: j.From, To: j.To}
		if j.From == j.To {
			o = rotate.Options{Key: j.From}
		}
		rep, err := rotate.Run(t.Context(), s, o)
		storetest.OK(t, err)
		if rep.Job != j.ID || !rep.Verified {
			t.Errorf("rotation %s was not taken up and finished: %+v", j.ID, rep)
		}
	}
}
