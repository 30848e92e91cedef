package store

// lastWrite is what the writer of a store's own file knew when it last committed:
// everything that a put looks up besides its secret. It was read from the file
// and checked, or written to it. The next write takes it over if nobody else has
// committed in between, which SQLite's data version of the connection tells. What
// another connection changes, by reseal or not, is read and checked again.
//
// It is void when anything but the store's own transactions has used the
// connection, and after one that failed.
type lastWrite struct {
	dataVersion int64
	state       state
	rows        rowSet
	memo        memo
}

// remembers reports whether the transaction is on the connection whose writes
// are remembered. Through a host's pool they come from any connection, and in a
// caller's transaction the caller writes too.
func (t *tx) remembers() bool { return t.s.own && !t.joined && t.q == querier(t.s.writer) }

// sameAsLast takes over what the last write knew, if the file is as it left it.
func (t *tx) sameAsLast() (bool, error) {
	if !t.remembers() {
		return false, nil
	}
	if err := t.queryRow(`PRAGMA main.data_version`).Scan(&t.dataVersion); err != nil {
		return false, err
	}
	if t.last == nil || t.last.dataVersion != t.dataVersion {
		return false, nil
	}
	t.state, t.saved, t.rows, t.memo = t.last.state, t.last.state, t.last.rows, t.last.memo
	return true, nil
}

// asLast is what to remember of a transaction that was committed. Master keys
// and jobs, which another verb may have changed, only if it was one of puts.
func (t *tx) asLast() *lastWrite {
	switch {
	case !t.remembers():
		return nil
	case len(t.events) == 0: // nothing was written
		if t.last != nil && t.last.dataVersion == t.dataVersion {
			return t.last
		}
		return nil
	}
	l := &lastWrite{dataVersion: t.dataVersion, state: t.state, rows: t.rows}
	if t.memo.holds {
		l.memo = t.memo
		l.memo.secrets, l.memo.holds = nil, false
	}
	return l
}
