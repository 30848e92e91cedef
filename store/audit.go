package store

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"io"
	"time"

	"github.com/reseal/reseal/crypto"
)

// event is one audit event before it has a place in the chain.
type event struct {
	action string
	secret string
	key    string
	detail any // a map or struct of names, ids and counts; never a value or key
}

// Event is one audit event. Names and ids in it are values, they stay as they
// were when it happened.
type Event struct {
	Seq    int64           `json:"seq"`
	Time   time.Time       `json:"time"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Secret string          `json:"secret,omitempty"`
	Key    string          `json:"key,omitempty"`
	Detail json.RawMessage `json:"detail"`
}

func (t *tx) audit(e event) { t.events = append(t.events, e) }

const (
	intoEvents  = `INSERT INTO reseal_audit_events (seq, at, actor, action, secret, key, detail, mac)`
	insertEvent = intoEvents + ` VALUES (?1, ?2, ?3, ?, ?, ?, ?, ?)`
)

var insertEvents = manyRows(intoEvents, `(?1 + #, ?2, ?3, ?, ?, ?, ?, ?)`)

// writeEvents appends the transaction's events to the chain: each MAC covers
// the one before it, and the state row's tag covers the last.
func (t *tx) writeEvents() error {
	events := t.events
	for ; len(events) >= bulkRows; events = events[bulkRows:] {
		if err := t.writeSomeEvents(insertEvents, events[:bulkRows]); err != nil {
			return err
		}
	}
	for i := range events {
		if err := t.writeSomeEvents(insertEvent, events[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) writeSomeEvents(query string, events []event) error {
	args := append(make([]any, 0, 3+5*len(events)), t.state.auditCount+1, t.now, t.s.opts.Actor)
	var buf []byte
	for _, e := range events {
		detail, err := json.Marshal(e.detail)
		if err != nil {
			return err
		}
		if string(detail) == "null" { // none, or a nil map
			detail = []byte("{}")
		}
		ev := Event{
			Seq:    t.state.auditCount + 1,
			Time:   t.time(),
			Actor:  t.s.opts.Actor,
			Action: e.action,
			Secret: e.secret,
			Key:    e.key,
			Detail: detail,
		}
		buf = t.s.keys.eventRecord(buf[:0], t.state.auditHead, &ev)
		mac, err := t.s.keys.tag(buf)
		if err != nil {
			return err
		}
		args = append(args, ev.Action, ev.Secret, ev.Key, string(detail), mac)
		t.state.auditCount, t.state.auditHead = ev.Seq, mac
	}
	_, err := t.exec(query, args...)
	return err
}

func (r *keyring) eventRecord(dst, previous []byte, e *Event) []byte {
	return crypto.NewRecord(dst, "reseal/v1/audit").
		ID(r.storeID).
		Raw(previous).
		Number(uint64(e.Seq)).
		Number(uint64(e.Time.UnixMilli())).
		Text(e.Actor).
		Text(e.Action).
		Text(e.Secret).
		Text(e.Key).
		Raw(e.Detail).
		Bytes()
}

// EventFilter chooses audit events. The zero value chooses all.
type EventFilter struct {
	Secret string    // only of this secret
	Key    string    // only of this master key, as subject, from-key or to-key
	Since  time.Time // only from then on
	Limit  int       // only the newest so many; 0 is all
}

const selectEvents = `
	SELECT seq, at, actor, action, COALESCE(secret, ''), COALESCE(key, ''), detail, mac
	FROM reseal_audit_events`

func scanEvent(scan func(...any) error) (e Event, mac []byte, err error) {
	var at int64
	var detail string
	err = scan(&e.Seq, &at, &e.Actor, &e.Action, &e.Secret, &e.Key, &detail, &mac)
	e.Time, e.Detail = fromMillis(at), json.RawMessage(detail)
	return e, mac, err
}

// Events returns audit events, oldest first, as recorded: VerifyAudit checks
// the chain.
func (s *Store) Events(ctx context.Context, f EventFilter) ([]Event, error) {
	var out []Event
	err := s.read(ctx, func(q querier) error {
		limit := int64(f.Limit)
		if limit <= 0 {
			limit = -1
		}
		rows, err := q.QueryContext(ctx, `
			SELECT * FROM (`+selectEvents+`
				WHERE (?1 = '' OR secret = ?1)
				AND (?2 = '' OR key = ?2 OR detail ->> 'from_key' = ?2 OR detail ->> 'to_key' = ?2)
				AND at >= ?3
				ORDER BY seq DESC LIMIT ?4)
			ORDER BY seq`, f.Secret, f.Key, f.Since.UnixMilli(), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			e, _, err := scanEvent(rows.Scan)
			if err != nil {
				return err
			}
			out = append(out, e)
		}
		return rows.Err()
	})
	return out, err
}

// ExportEvents writes all audit events to w, oldest first, one JSON object a
// line, and returns how many.
func (s *Store) ExportEvents(ctx context.Context, w io.Writer) (int64, error) {
	enc := json.NewEncoder(w)
	var n int64
	err := s.eachEvent(ctx, func(e Event, _ []byte) error {
		n++
		return enc.Encode(e)
	})
	return n, err
}

func (s *Store) eachEvent(ctx context.Context, fn func(Event, []byte) error) error {
	return s.snapshot(ctx, func(q querier) error { return eachEvent(ctx, q, 0, fn) })
}

// eachEvent calls fn for the events with numbers above after, in order.
func eachEvent(ctx context.Context, q querier, after int64, fn func(Event, []byte) error) error {
	rows, err := q.QueryContext(ctx, selectEvents+` WHERE seq > ? ORDER BY seq`, after)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e, mac, err := scanEvent(rows.Scan)
		if err != nil {
			return err
		}
		if err := fn(e, mac); err != nil {
			return err
		}
	}
	return rows.Err()
}

// VerifyAudit checks the whole audit chain and returns how many events it has.
// An event that was altered, removed, added or moved is ErrDamaged with its
// number.
func (s *Store) VerifyAudit(ctx context.Context) (int64, error) {
	if err := s.needUnsealed(); err != nil {
		return 0, err
	}
	var n int64
	err := s.snapshot(ctx, func(q querier) error {
		st, err := loadState(ctx, q)
		if err != nil {
			return err
		}
		if err := s.keys.checkState(&st); err != nil {
			return err
		}
		n, err = s.keys.checkChain(ctx, q, &st)
		return err
	})
	return n, err
}

func (r *keyring) checkChain(ctx context.Context, q querier, st *state) (int64, error) {
	return r.checkChainFrom(ctx, q, st, 0, make([]byte, 32))
}

// checkChainFrom checks the events after the first n, of which the last has the
// MAC head.
func (r *keyring) checkChainFrom(ctx context.Context, q querier, st *state, n int64, head []byte) (int64, error) {
	err := eachEvent(ctx, q, n, func(e Event, mac []byte) error {
		if n++; e.Seq != n {
			return damaged("audit event %d is missing", n)
		}
		want, err := r.tag(r.eventRecord(nil, head, &e))
		if err != nil {
			return err
		}
		if subtle.ConstantTimeCompare(want, mac) != 1 {
			return damaged("audit event %d was altered", n)
		}
		head = mac
		return nil
	})
	if err == nil && (n != st.auditCount || subtle.ConstantTimeCompare(head, st.auditHead) != 1) {
		err = damaged("the audit trail has %d events and should have %d", n, st.auditCount)
	}
	return n, err
}
