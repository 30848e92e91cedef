package store

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/reseal/reseal/crypto"
)

// detailWraps is the member of an event's detail that has the marks of the wraps
// which were removed for good, so that a scan can tell whether they are gone.
const detailWraps = "wraps"

// slotMarks returns the marks of the root key's wraps in slots.
func slotMarks(slots []slot) []string {
	var marks []string
	for _, sl := range slots {
		if len(sl.wrapped) == crypto.WrappedSize {
			marks = append(marks, hex.EncodeToString(sl.wrapped[4:12]))
		}
	}
	return marks
}

// name tells which of the wraps found are of what was destroyed or removed: of
// all that is retired, what can do the most harm.
func (sc *residueScan) name(ctx context.Context, q querier) error {
	rows, err := q.QueryContext(ctx, `
		SELECT action, COALESCE(key, ''), detail
		FROM reseal_audit_events
		WHERE action IN ('key-destroy-version', 'key-destroy', 'slot-remove', 'root-rotate')
		ORDER BY seq`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var action, key, text string
		if err := rows.Scan(&action, &key, &text); err != nil {
			return err
		}
		var detail struct {
			Version uint64
			Slot    string
			Wraps   []string
		}
		if json.Unmarshal([]byte(text), &detail) != nil {
			continue // the audit trail says so to those who verify it
		}
		if !slices.ContainsFunc(detail.Wraps, sc.isFound) {
			continue
		}
		switch action {
		case "key-destroy-version":
			sc.Named = append(sc.Named, fmt.Sprintf("the destroyed key %s version %d", key, detail.Version))
		case "key-destroy":
			sc.Named = append(sc.Named, "the destroyed key "+key)
		case "slot-remove":
			sc.Named = append(sc.Named, "the removed unseal slot "+detail.Slot)
		default:
			sc.Named = append(sc.Named, "the unseal slots of an earlier root key")
		}
	}
	return rows.Err()
}

func (sc *residueScan) isFound(mark string) bool {
	b, err := hex.DecodeString(mark)
	if err != nil || len(b) != 8 {
		return false
	}
	_, found := sc.found[crypto.Mark(binary.BigEndian.Uint64(b))]
	return found
}
