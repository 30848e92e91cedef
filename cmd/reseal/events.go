package main

import (
	"encoding/json"
	"time"

	"github.com/reseal/reseal/rotate"
)

// event is a line of JSON about a rotation that is under way. Its form is a
// contract.
type event struct {
	Event     string       `json:"event"` // "progress"
	Time      stamp        `json:"time"`
	Job       string       `json:"job"`
	From      string       `json:"from"`
	To        string       `json:"to"`
	Phase     rotate.Phase `json:"phase"`
	Total     int64        `json:"total"`
	Done      int64        `json:"done"`
	Remaining int64        `json:"remaining"`
	Failed    int64        `json:"failed"`
	Rate      float64      `json:"rate"`
	Left      *float64     `json:"seconds_left"`
}

// eventEvery is how often a phase that goes on is told of.
const eventEvery = time.Second

// event writes a line now and then, and at each change of phase.
func (p *progress) event(r rotate.Progress) {
	changed := r.Phase != p.phase || r.Job != p.job
	p.phase, p.job = r.Phase, r.Job
	if !changed && time.Since(p.last) < eventEvery {
		return
	}
	p.last = time.Now()
	e := event{
		Event:     "progress",
		Time:      stamp{p.last.UTC()},
		Job:       r.Job,
		From:      r.From,
		To:        r.To,
		Phase:     r.Phase,
		Total:     r.Total,
		Done:      r.Done,
		Remaining: r.Remaining,
		Failed:    r.Failed,
		Rate:      r.Rate,
	}
	if r.Left > 0 {
		left := r.Left.Seconds()
		e.Left = &left
	}
	enc := json.NewEncoder(p.w)
	enc.SetEscapeHTML(false)
	enc.Encode(e)
}
