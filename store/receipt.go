package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/reseal/reseal/crypto"
)

// Receipt is what a complete job leaves behind: in its row, and in a file if it
// is exported. Its MAC covers all of it, so that VerifyReceipt can tell later
// whether it is what this store wrote. The audit event of the job's end holds
// the counts and the digest too.
type Receipt struct {
	StoreID      string    `json:"store_id"` // 32 hexadecimal digits
	Job          string    `json:"job"`
	Mode         string    `json:"mode"`
	From         string    `json:"from"`
	To           string    `json:"to"`
	ToVersion    uint64    `json:"to_version"`
	Prefix       string    `json:"prefix,omitempty"`
	MadeBefore   time.Time `json:"made_before,omitzero"` // as in Job
	Moved        int64     `json:"moved"`                // data keys
	Remaining    int64     `json:"remaining"`            // counted in the transaction that completed the job: 0
	Checked      int64     `json:"checked"`              // versions read back under the target
	Failures     int64     `json:"failures"`             // of them, those that did not open
	Verified     bool      `json:"verified"`             // Failures is 0
	Digest       string    `json:"digest"`               // SHA-256 of ids and wraps read back, hexadecimal
	Checkpointed bool      `json:"checkpointed"`         // the write-ahead log was emptied into the file
	Scrubbed     bool      `json:"scrubbed"`             // the file was rebuilt without its free pages
	Residue      Residue   `json:"residue"`              // what a scan found of old wraps in the files
	StartedAt    time.Time `json:"started_at"`
	FinishedAt   time.Time `json:"finished_at"`
	MAC          string    `json:"mac"` // HMAC-SHA-256 under the integrity key, hexadecimal
}

// receiptMAC returns the tag of everything in a receipt but its MAC.
func (r *keyring) receiptMAC(rc *Receipt) ([]byte, error) {
	job, err := parseID(rc.Job)
	if err != nil {
		return nil, err
	}
	return r.tag(r.receiptRecord(nil, job, rc))
}

func (r *keyring) receiptRecord(dst []byte, job crypto.ID, rc *Receipt) []byte {
	res := &rc.Residue
	rec := crypto.NewRecord(dst, "reseal/v1/tag/receipt").
		ID(r.storeID).
		ID(job).
		Text(rc.Mode).
		Text(rc.From).
		Text(rc.To).
		Number(rc.ToVersion).
		Text(rc.Prefix).
		Number(millis(rc.MadeBefore)).
		Number(uint64(rc.Moved)).
		Number(uint64(rc.Remaining)).
		Number(uint64(rc.Checked)).
		Number(uint64(rc.Failures)).
		Number(flag(rc.Verified)).
		Text(rc.Digest).
		Number(flag(rc.Checkpointed)).
		Number(flag(rc.Scrubbed)).
		Text(res.Method).
		Number(uint64(res.LookedFor)).
		Number(uint64(res.Found)).
		Number(flag(res.Proven)).
		Text(res.Detail).
		Number(millis(rc.StartedAt)).
		Number(millis(rc.FinishedAt))
	for _, f := range res.Files {
		rec = rec.Text(f.Name).Number(uint64(f.Bytes)).Number(uint64(f.Found))
	}
	return rec.Bytes()
}

// millis is what a record holds of a time: 0 if there is none.
func millis(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func flag(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

func parseID(digits string) (id crypto.ID, err error) {
	if n, err := hex.Decode(id[:], []byte(digits[:min(len(digits), 2*len(id))])); err != nil || n != len(id) || len(digits) != 2*n {
		return id, invalid("%q is not an id of 32 hexadecimal digits", digits)
	}
	return id, nil
}

// ParseReceipt reads a receipt as it was exported, or the output of a rotation
// that has one in it. ErrInvalid says that the text is no receipt; ErrDamaged
// that something was added to one or left out.
func ParseReceipt(text []byte) (Receipt, error) {
	var outer struct {
		Receipt json.RawMessage `json:"receipt"`
		MAC     *string         `json:"mac"`
		Job     string          `json:"job"`
	}
	if err := json.Unmarshal(text, &outer); err != nil || outer.Job == "" {
		return Receipt{}, invalid("the text is not a rotation's receipt")
	}
	if outer.MAC == nil && outer.Receipt != nil {
		text = outer.Receipt
	}
	var rc Receipt
	if err := json.Unmarshal(text, &rc); err != nil {
		return rc, fmt.Errorf("%w: the receipt of job %q was altered: %w", ErrDamaged, outer.Job, err)
	}
	again, err := json.Marshal(rc)
	if err == nil && !sameJSON(text, again) {
		err = damaged("the receipt of job %q was altered: a member is missing, or one too many", outer.Job)
	}
	return rc, err
}

// sameJSON compares two texts but for white space and the order of members.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// VerifyReceipt checks that a receipt is what this store wrote, and looks
// whether what it says is still true: nothing is under the key that was left, or
// the versions of it that were, and whatever is under the target opens there.
// What it finds is in the ReadBack, Left being what is not true any more; if
// the digest is the receipt's, no wrap has changed since. It calls progress, if
// not nil, with the number of versions looked at.
//
// Errors: ErrDamaged for a receipt that is not this store's, was altered or
// forged, or whose job's row is missing or says otherwise.
func (s *Store) VerifyReceipt(ctx context.Context, rc Receipt, progress func(looked int64)) (ReadBack, error) {
	if err := s.needUnsealed(); err != nil {
		return ReadBack{}, err
	}
	if err := s.checkReceipt(ctx, &rc); err != nil {
		return ReadBack{}, fmt.Errorf("receipt of job %s: %w", rc.Job, err)
	}
	spec := RotationSpec{Mode: rc.Mode, From: rc.From, To: rc.To, Prefix: rc.Prefix}
	if err := spec.check(); err != nil {
		return ReadBack{}, err
	}
	c := newReadBack(spec)
	c.least = rc.ToVersion
	return s.readBack(ctx, c, progress)
}

func (s *Store) checkReceipt(ctx context.Context, rc *Receipt) error {
	switch {
	case rc.MAC == "":
		return damaged("it has no MAC: it was not written by a release whose receipts can be verified")
	case rc.StoreID != s.keys.storeID.String():
		return damaged("it is the receipt of another store, %s", rc.StoreID)
	}
	mac, err := hex.DecodeString(rc.MAC)
	if err != nil {
		return damaged("it was altered or forged")
	}
	job, err := parseID(rc.Job)
	if err != nil {
		return damaged("it was altered or forged")
	}
	if err := s.keys.checkTag(mac, s.keys.receiptRecord(nil, job, rc), "it was altered or forged"); err != nil {
		return err
	}
	return s.read(ctx, func(q querier) error {
		jobs, err := loadJobs(ctx, q, ` WHERE j.job_id = ?`, job[:])
		if err != nil {
			return err
		}
		if len(jobs) != 1 {
			return damaged("the store has no such job: it is older than the receipt, or the job's row was removed")
		}
		if stored := jobs[0].Receipt; stored == nil || !sameReceipt(stored, rc) {
			return damaged("it is genuine, but the job's row says something else: the row was altered, or the store is older than the receipt")
		}
		return nil
	})
}

// sameReceipt compares everything that is printed of two receipts.
func sameReceipt(a, b *Receipt) bool {
	x, xerr := json.Marshal(a)
	y, yerr := json.Marshal(b)
	return xerr == nil && yerr == nil && bytes.Equal(x, y)
}
