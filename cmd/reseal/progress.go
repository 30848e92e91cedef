package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/reseal/reseal/rotate"
)

// progress shows how far something long is: a bar on a terminal, elsewhere a
// line every few seconds, with --json nothing, and with --events a line of JSON.
type progress struct {
	w      io.Writer
	bar    bool
	quiet  bool
	events bool
	every  time.Duration
	last   time.Time
	width  int // of what the bar's line holds

	// Of the last rotation that was told of:
	job   string
	phase rotate.Phase
}

const barCells = 30

func (a *app) progress() *progress {
	p := &progress{w: a.stderr, bar: isTerminal(a.stderr) && !a.events, events: a.events, every: 3 * time.Second, last: time.Now()}
	if p.bar {
		p.every, p.last = 80*time.Millisecond, time.Time{}
	}
	p.quiet = a.json && !p.bar
	return p
}

// show tells of done out of total; total 0 is unknown. Most calls print
// nothing.
func (p *progress) show(what string, done, total int64, rate float64, left time.Duration) {
	if p.quiet || time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	line := fmt.Sprintf("%s %s", what, thousands(done))
	if total > 0 {
		line = fmt.Sprintf("%s %s of %s (%d%%)", what, thousands(done), thousands(total), 100*done/total)
	}
	if rate > 0 {
		line += fmt.Sprintf(", %s a second", thousands(int64(rate)))
	}
	if left >= time.Second {
		line += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	if !p.bar {
		fmt.Fprintf(p.w, "reseal: %s\n", line)
		return
	}
	if total > 0 {
		cells := int(min(barCells, barCells*done/total))
		line = "[" + strings.Repeat("█", cells) + strings.Repeat("░", barCells-cells) + "] " + line
	}
	p.write(line)
}

// write replaces the bar's line.
func (p *progress) write(line string) {
	n := len([]rune(line))
	fmt.Fprintf(p.w, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-n)))
	p.width = n
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar && p.width > 0 {
		p.write("")
		fmt.Fprint(p.w, "\r")
		p.width = 0
	}
}
