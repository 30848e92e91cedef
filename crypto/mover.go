package crypto

// A Mover moves data keys, or values with new data keys, from one key to
// another. Each call of Rewrap and Reencrypt borrows what it works with from
// both keys; a Mover borrows it once, so that a loop over many data keys does
// not pay for that, and several loops at once, each with its own Mover, do not
// take it from one another. One goroutine at a time uses it.
//
// When a key is cleared, a Mover that was made before goes on: its work is
// under way until Close.
type Mover struct {
	from, to       *Key
	fromPRF, toPRF *prf
	s              *scratch
}

// NewMover returns a Mover, to be closed. The error is ErrCleared.
func NewMover(from, to *Key) (*Mover, error) {
	m := new(Mover)
	return m, m.begin(from, to)
}

func (m *Mover) begin(from, to *Key) error {
	pf, err := from.acquire()
	if err != nil {
		return err
	}
	pt, err := to.acquire()
	if err != nil {
		from.release(pf)
		return err
	}
	*m = Mover{from, to, pf, pt, getScratch()}
	return nil
}

// Close clears what the Mover worked with, and gives it back.
func (m *Mover) Close() {
	m.from.release(m.fromPRF)
	m.to.release(m.toPRF)
	m.s.release()
	*m = Mover{}
}
