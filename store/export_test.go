package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/reseal/reseal/crypto"
)

// BeginRootRotation runs phase one of RotateRoot and stops there, as a crash
// would.
func BeginRootRotation(ctx context.Context, s *Store, o RotateRootOptions) error {
	p, err := s.planRoot(ctx, o)
	if err != nil {
		return err
	}
	return s.addRoot(ctx, p)
}

// HeldKeys returns the material of the keys that an unsealed store has in
// memory, by what they are.
func HeldKeys(s *Store) map[string][]byte {
	held := map[string][]byte{"integrity key": material32(s.keys.integrity)}
	for _, r := range s.keys.roots.all() {
		held["root key "+r.id.String()] = material32(r.key)
	}
	s.keys.mu.RLock()
	defer s.keys.mu.RUnlock()
	for row, m := range s.keys.materials {
		held[fmt.Sprintf("master key version %d", row)] = material32(m.key)
	}
	return held
}

// material32 returns a key's bytes, from the only text that has them.
func material32(k *crypto.Key) []byte {
	text, err := crypto.EncodeKeyFile(k)
	if err != nil {
		panic(err)
	}
	_, line, _ := bytes.Cut(text, []byte("reseal-key-v1:"))
	raw, err := hex.DecodeString(string(line[:2*crypto.KeySize]))
	if err != nil {
		panic(err)
	}
	return raw
}

// Keep is Rotation.Keep with another time between two renewals.
func Keep(ctx context.Context, r *Rotation, every time.Duration) { r.keep(ctx, every) }

// AgeHandle lets the handle's last look lie further back.
func AgeHandle(h *Handle, by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last.at = h.last.at.Add(-by)
}

// ScanResidueThroughSQLite is ScanResidue as it is where there are no OFD locks.
func ScanResidueThroughSQLite(ctx context.Context, s *Store) (Residue, error) {
	sc := newResidueScan(s, nil)
	sc.throughSQLite = true
	return sc.run(ctx, false)
}

// ScanResidueFor is a scan for the wraps given, as for a rotation's sample.
func ScanResidueFor(ctx context.Context, s *Store, wraps [][]byte) (Residue, error) {
	var sample retiredSample
	for _, w := range wraps {
		sample.add(w)
	}
	return s.scanResidue(ctx, &sample, false)
}

// LeaveResidue turns secure_delete off, on the writer's connection.
func LeaveResidue(ctx context.Context, s *Store) error {
	return s.onWriter(ctx, func(q querier, _ *sql.Conn) error {
		_, err := pragma(ctx, q, "secure_delete = 0")
		return err
	})
}

// ReceiptTag returns the record of a receipt, and its tag under an integrity key.
func ReceiptTag(integrity []byte, rc Receipt) (record, tag []byte, err error) {
	key, err := crypto.KeyFromBytes(integrity)
	if err != nil {
		return nil, nil, err
	}
	storeID, err := parseID(rc.StoreID)
	if err != nil {
		return nil, nil, err
	}
	job, err := parseID(rc.Job)
	if err != nil {
		return nil, nil, err
	}
	ring := newKeyring(storeID, crypto.NewID(), crypto.NewKey(), key)
	tag, err = ring.receiptMAC(&rc)
	return ring.receiptRecord(nil, job, &rc), tag, err
}

// WaitingPuts is how many puts wait to be written together.
func WaitingPuts(s *Store) int {
	s.puts.mu.Lock()
	defer s.puts.mu.Unlock()
	return len(s.puts.waiting)
}

// HoldWriteLock takes the process's write lock, and no lock of the file.
func HoldWriteLock(s *Store) (unlock func()) {
	s.writeLock <- struct{}{}
	return func() { <-s.writeLock }
}

// TrustSchema has the store take the schema as it is, for tests that put a
// trigger into it.
func TrustSchema(ctx context.Context, s *Store) error {
	return s.read(ctx, func(q querier) error {
		n, err := schemaCount(ctx, q)
		s.schema.Store(n)
		return err
	})
}

// Prepare reads the next rows and rewraps them.
func Prepare(ctx context.Context, r *Rotation, after int64, rows int) (*Prepared, error) {
	p, err := r.Read(ctx, after, rows)
	if err == nil {
		err = r.Rewrap(ctx, p)
	}
	return p, err
}

// ReadBatch reads the next rows of a rotation by version as Read does, and
// returns their ids and whether they were read as one row.
func ReadBatch(ctx context.Context, r *Rotation, rows int) (ids []int64, packed bool, err error) {
	err = r.s.snapshot(ctx, func(q querier) error {
		m, err := r.mover(r.s.newTx(ctx, q))
		if err != nil {
			return err
		}
		var b batch
		if packed, err = b.readPacked(m, selectBatch, []any{r.scope.from, int64(0), rows}); err != nil {
			return err
		}
		packed = packed && b.rewrap(m)
		whole, err := r.read(m, 0, rows, rowByRow)
		if err != nil {
			return err
		}
		for i, row := range whole.rows {
			ids = append(ids, row.id)
			if packed && (b.rows[i].id != row.id || !bytes.Equal(b.old, whole.old)) {
				return fmt.Errorf("row %d differs", i)
			}
		}
		return nil
	})
	return ids, packed, err
}

// ReadRange reads the next rows of a rotation by version, and reports whether
// they were read as a range of ids in which none is missing.
func ReadRange(ctx context.Context, r *Rotation, after int64, rows int) (whole bool, ids []int64, err error) {
	err = r.s.snapshot(ctx, func(q querier) error {
		m, err := r.mover(r.s.newTx(ctx, q))
		if err != nil {
			return err
		}
		if whole, err = r.readRange(m, &batch{after: after}, rows); err != nil {
			return err
		}
		b, err := r.read(m, after, rows, asOneRow)
		if err == nil && !b.rewrap(m) {
			err = errors.New("a wrap does not open")
		}
		if err != nil {
			return err
		}
		for _, row := range b.rows {
			ids = append(ids, row.id)
		}
		return nil
	})
	return whole, ids, err
}

// GetPacked is the part of Get that is one statement. It reports whether that
// part gave the value.
func GetPacked(ctx context.Context, s *Store, name, label string) (Value, bool, error) {
	var v Value
	var refused error
	err := s.read(ctx, func(q querier) error {
		v, refused = view{s: s, ctx: ctx, q: q, remember: true}.getPacked(name, label)
		return nil
	})
	return v, refused == nil, err
}

// Remembers reports whether the next write knows what the last one left.
func Remembers(s *Store) bool {
	s.writeLock <- struct{}{}
	defer s.unlock()
	return s.last != nil
}

// CompareCopy compares a copy with the store, as Backup does.
func (s *Store) CompareCopy(ctx context.Context, path string) error { return s.compareCopy(ctx, path) }

// Connected returns how many readers a store has connected.
func Connected(s *Store) int { return s.readers.db.Stats().OpenConnections }

// LogGate returns the methods of a new gate.
func LogGate() (reading func(func() error) error, writing func(int, func() error) error) {
	g := new(logGate)
	return g.reading, g.writing
}

// HoldLogGate is as if a batch of the rotation were being read.
func HoldLogGate(r *Rotation) (release func()) {
	r.log.read.Lock()
	return r.log.read.Unlock
}

// HotStatements are what a get, a put and a list look secrets up with, by what
// they are.
var HotStatements = map[string]string{
	"get":            packedByName,
	"GetMany":        packedByNames,
	"list":           selectListed + chosen + ofListed,
	"list, versions": selectListedVersions,
	"list, tags":     selectListedTags,
	"a secret":       selectSecretByName,
	"a version":      storedByNumber,
}
