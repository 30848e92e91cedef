package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"
)

// DefaultInterval is how often a Handle looks for what others have changed.
const DefaultInterval = time.Second

// WatchOptions says what a Handle follows. A nil *WatchOptions is the zero
// value.
type WatchOptions struct {
	// Label is the staging label to follow. Defaults to LabelCurrent.
	Label string

	// Interval is how often to look for changes by other processes, and by a
	// caller's own transactions. A look reads two rows. Defaults to
	// DefaultInterval.
	Interval time.Duration
}

// Handle is a secret that is kept at hand: its newest value without a read of
// the file each time, and word of each change. It is safe for concurrent use.
//
// How new the value is: a change that this Store has committed is seen by the
// next call of Value. One by another process, or in a caller's transaction
// through a verb whose name ends in Tx, is seen after the interval, and after
// twice the interval at most: Value looks for itself if the last look is older.
//
// The value is in memory until it changes or the handle is closed.
type Handle struct {
	s        *Store
	name     string
	sel      Selector
	interval time.Duration

	wake    chan struct{} // asks the goroutine to look
	changed chan struct{} // tells the caller; closed with the handle
	looking chan struct{} // held by the one who looks
	cancel  context.CancelFunc
	ended   chan struct{} // closed when the goroutine is gone

	mu   sync.Mutex
	last sight
	gone bool
}

// sight is what a look found.
type sight struct {
	value   Value
	err     error // what Get said instead
	mark    []byte
	at      time.Time // when the look began
	commits uint64    // of this store before that
}

// Watch returns a handle on the newest value of a secret, which must be readable
// now. Close ends the handle; the store's Close does too.
//
// Errors: those of Get.
func (s *Store) Watch(ctx context.Context, name string, o *WatchOptions) (*Handle, error) {
	if o == nil {
		o = &WatchOptions{}
	}
	if o.Interval < 0 {
		return nil, invalid("a negative interval")
	}
	if err := firstError(s.needUnsealed(), CheckName(name)); err != nil {
		return nil, err
	}
	h := &Handle{
		s:        s,
		name:     name,
		sel:      Label(o.Label),
		interval: o.Interval,
		wake:     make(chan struct{}, 1),
		changed:  make(chan struct{}, 1),
		looking:  make(chan struct{}, 1),
		ended:    make(chan struct{}),
	}
	if o.Label == "" {
		h.sel = Label(LabelCurrent)
	}
	if o.Interval == 0 {
		h.interval = DefaultInterval
	}
	if err := h.look(ctx); err != nil {
		return nil, err
	}
	if h.last.err != nil {
		return nil, h.last.err
	}
	return h, h.start()
}

// start lets the goroutine follow the secret.
func (h *Handle) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	if !h.s.handles.add(h) {
		cancel()
		h.end()
		return ErrClosed
	}
	go func() {
		defer close(h.ended)
		h.follow(ctx)
		h.end()
	}()
	return nil
}

func (h *Handle) follow(ctx context.Context) {
	tick := time.NewTicker(h.interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.wake:
		case <-ctx.Done():
			return
		}
		// An error is not the end: the next look may go better, and Value says
		// if none does.
		_ = h.look(ctx)
	}
}

// Value returns the newest value, or the error that Get would return: after the
// secret was deleted, for one. The value is the caller's, who clears it.
func (h *Handle) Value(ctx context.Context) (v Value, err error) {
	err = h.withNewest(ctx, func(newest Value) {
		v = newest
		b := bytes.Clone(newest.Bytes())
		v.bytes = func() []byte { return b }
	})
	return v, err
}

// Append appends the newest value to dst and returns the extended slice, with the
// number of the version. It is Value for those who ask very often: where dst has
// the room it allocates nothing. The bytes are the caller's, who clears them. On
// an error dst is returned as it was.
func (h *Handle) Append(ctx context.Context, dst []byte) (value []byte, version uint64, err error) {
	value = dst
	err = h.withNewest(ctx, func(newest Value) {
		value, version = append(dst, newest.Bytes()...), newest.Version
	})
	return value, version, err
}

// withNewest calls fn with the newest value, which fn copies.
func (h *Handle) withNewest(ctx context.Context, fn func(Value)) error {
	if fresh, err := h.atHand(fn); fresh {
		return err
	}
	if err := h.look(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.give(fn)
}

// atHand calls fn with what the last look found, if that is good enough.
func (h *Handle) atHand(fn func(Value)) (fresh bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gone && (h.last.commits != h.s.handles.committed.Load() || time.Since(h.last.at) >= 2*h.interval) {
		return false, nil
	}
	return true, h.give(fn)
}

func (h *Handle) give(fn func(Value)) error {
	switch {
	case h.gone:
		return ErrClosed
	case h.last.err != nil:
		return h.last.err
	}
	fn(h.last.value)
	return nil
}

// Changed returns a channel on which a message arrives after a change: another
// value, or none any more, or one again. Several changes may be one message. The
// channel is closed with the handle.
func (h *Handle) Changed() <-chan struct{} { return h.changed }

// Close clears the value from memory and ends the handle. It may be called more
// than once.
func (h *Handle) Close() error {
	h.cancel()
	<-h.ended
	h.s.handles.remove(h)
	return nil
}

// end forgets the value.
func (h *Handle) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gone {
		h.gone = true
		h.last.value.Clear()
		close(h.changed)
	}
}

// look reads the secret again if it changed since the last look. Its error is
// of the look itself; what Get would say is a sight like any other.
func (h *Handle) look(ctx context.Context) error {
	select {
	case h.looking <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.looking }()
	h.mu.Lock()
	last := h.last
	h.mu.Unlock()
	now := sight{value: last.value, err: last.err, at: time.Now(), commits: h.s.handles.committed.Load()}
	err := h.s.snapshot(ctx, func(q querier) (err error) {
		if now.mark, err = secretMark(ctx, q, h.name); err != nil || bytes.Equal(now.mark, last.mark) {
			return err
		}
		w := view{s: h.s, ctx: context.WithoutCancel(ctx), q: q, remember: true}
		now.value, now.err = w.getByName(h.name, h.sel)
		return nil
	})
	now.err = sqlError(now.err)
	if err == nil && errors.Is(now.err, ErrBusy) {
		err = now.err
	}
	read := !bytes.Equal(now.mark, last.mark)
	if err == nil && read && now.err == nil {
		err = h.s.auditLook(ctx, now.value)
	}
	if err == nil {
		h.see(now)
	} else if read {
		now.value.Clear()
	}
	return err
}

// auditLook is the event of a value that was read, if reads are audited.
func (s *Store) auditLook(ctx context.Context, v Value) error {
	if !s.opts.AuditReads {
		return nil
	}
	return s.write(ctx, func(t *tx) error { t.auditRead(v); return nil })
}

// see takes a sight, and tells of it if it is another.
func (h *Handle) see(now sight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		now.value.Clear()
		return
	}
	last := h.last
	h.last = now
	if bytes.Equal(last.mark, now.mark) {
		return
	}
	last.value.Clear()
	other := last.value.Version != now.value.Version || (last.err == nil) != (now.err == nil)
	if last.mark == nil || !other {
		return
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// secretMark returns what changes with everything that decides what Get
// returns: the tags of the secret and of its key. It is never empty.
func secretMark(ctx context.Context, q querier, name string) (mark []byte, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT s.tag || coalesce(k.tag, x'')
		FROM reseal_secrets AS s
		LEFT JOIN reseal_master_keys AS k ON k.id = s.master_key
		WHERE s.name = CAST(? AS TEXT)`, name).Scan(&mark)
	if errors.Is(err, sql.ErrNoRows) {
		return []byte("none"), nil
	}
	return mark, err
}
