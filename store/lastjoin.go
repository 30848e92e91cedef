package store

import (
	"bytes"
	"database/sql"
	"weak"
)

// lastJoin is what a verb knew at the end of its part of a caller's transaction,
// for the next one in the same transaction. No other connection has changed the
// file meanwhile, but the caller may have, or have rolled back to a savepoint. So
// it counts only if the connection has changed no row since, the caller's own
// included, and the state row has the tags that it had then: after a rollback it
// has others.
type lastJoin struct {
	caller  weak.Pointer[sql.Tx]
	known   *lastWrite // nil after the first verb: most transactions have only one
	changes int64      // rows that the connection had changed
}

// selectChanges has how many rows the connection has changed, with the state
// row's tags.
const selectChanges = `
	SELECT total_changes(), tag, rows_tag
	FROM reseal_state
	WHERE id = 1`

func (t *tx) changes() (n int64, tag, rowsTag []byte, err error) {
	err = t.queryRow(selectChanges).Scan(&n, &tag, &rowsTag)
	return n, tag, rowsTag, err
}

// takeJoin takes what the last verb of the caller's transaction left: nobody else
// has it then.
func (t *tx) takeJoin(caller *sql.Tx) {
	if j := t.s.joined.Swap(nil); j != nil && j.caller == weak.Make(caller) {
		t.before = j
	}
}

// sameAsBefore takes over what the verb before knew, if that still counts.
func (t *tx) sameAsBefore() (bool, error) {
	if t.before == nil || t.before.known == nil {
		return false, nil
	}
	n, tag, rowsTag, err := t.changes()
	known := t.before.known
	if err != nil || n != t.before.changes || !bytes.Equal(tag, known.state.tag) || !bytes.Equal(rowsTag, known.state.rows.tag) {
		return false, err
	}
	t.takeOver(known)
	return true, nil
}

// leaveJoin leaves what this verb knows to the next one.
func (t *tx) leaveJoin(caller *sql.Tx) (err error) {
	j := &lastJoin{caller: weak.Make(caller)}
	if t.before != nil {
		if j.changes, _, _, err = t.changes(); err != nil {
			return err
		}
		j.known = t.known()
	}
	t.s.joined.Store(j)
	return nil
}
