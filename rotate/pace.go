package rotate

import "time"

// pacer keeps a run to so many data keys a second: a batch is paid for after it
// was made, and the next begins when that is done. The zero pacer does not
// limit.
type pacer struct {
	rate int       // data keys a second; 0 for no limit
	due  time.Time // when all batches so far are paid for
}

// paceSlack is how much of a batch's time may be caught up: a sleep that took
// too long does not lower the rate, and a pause of an hour does not raise it.
const paceSlack = 100 * time.Millisecond

// rows is how many of want data keys a batch may take: a tenth of a second's.
func (p *pacer) rows(want int) int {
	if p.rate == 0 {
		return want
	}
	return min(want, max(1, p.rate/10))
}

// took pays for a batch and returns how long to wait now.
func (p *pacer) took(dataKeys int, now time.Time) time.Duration {
	if p.rate == 0 {
		return 0
	}
	if earliest := now.Add(-paceSlack); p.due.Before(earliest) {
		p.due = earliest
	}
	p.due = p.due.Add(time.Duration(dataKeys) * time.Second / time.Duration(p.rate))
	return p.due.Sub(now)
}
