package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

const (
	ink     = "#1f2933"
	muted   = "#52606d"
	paper   = "#ffffff"
	grid    = "#e4e7eb"
	reseal  = "#0b7a4b"
	other   = "#9aa5b1"
	barTall = 22
)

// charts draws what there are results for, by file name.
func charts(b *book) map[string]string {
	return map[string]string{"limit.svg": limitChart(b), "growth.svg": growthChart(b)}
}

// svg is a drawing under way.
type svg struct {
	strings.Builder
	width, height int
}

func (s *svg) text(x, y float64, size int, fill, anchor, text string) {
	fmt.Fprintf(s, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" fill=\"%s\" text-anchor=\"%s\">%s</text>\n", x, y, size, fill, anchor, html.EscapeString(text))
}

func (s *svg) rect(x, y, w, h float64, fill string) {
	fmt.Fprintf(s, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"3\" fill=\"%s\"/>\n", x, y, w, h, fill)
}

func (s *svg) line(x1, y1, x2, y2 float64, stroke string) {
	fmt.Fprintf(s, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2, stroke)
}

// whole returns the drawing with its frame.
func (s *svg) whole(title string) string {
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"Helvetica, Arial, sans-serif\" role=\"img\">\n"+
		"<title>%s</title>\n<rect width=\"%d\" height=\"%d\" fill=\"%s\"/>\n%s</svg>\n",
		s.width, s.height, s.width, s.height, html.EscapeString(title), s.width, s.height, paper, s.String())
}

// limitBar is one bar of the chart against the limit.
type limitBar struct {
	label string
	ratio float64 // of the limit's time
}

// limitChart draws how long reseal takes where the limit takes 1.
func limitChart(b *book) string {
	var bars []limitBar
	for _, c := range []struct{ id, side, label string }{
		{"envelope/seal/64 KiB", "reseal", "seal 64 KiB"},
		{"envelope/open/64 KiB", "reseal", "open 64 KiB"},
		{"value/seal/1 KiB", "reseal", "seal 1 KiB, data key and wrap"},
		{"value/open/1 KiB", "reseal", "open 1 KiB, data key and wrap"},
		{"store/get", "reseal", "get 1 KiB by name"},
		{"store/put", "reseal", "put 1 KiB, durable"},
	} {
		if r := b.find(c.id); r != nil && r.side(c.side) != nil {
			bars = append(bars, limitBar{c.label, over(r.side(c.side).Wall, r.Sides[0].Wall)})
		}
	}
	return drawLimits(bars)
}

func drawLimits(bars []limitBar) string {
	const left, right, top = 250.0, 60.0, 56.0
	s := &svg{width: 760, height: int(top) + len(bars)*(barTall+12) + 24}
	most := 2.0
	for _, bar := range bars {
		most = max(most, bar.ratio)
	}
	most = math.Ceil(most)
	scale := (float64(s.width) - left - right) / most
	s.text(16, 26, 15, ink, "start", "Time, where the raw operation without reseal takes 1")
	for i := range int(most) + 1 {
		x := left + float64(i)*scale
		s.line(x, top-8, x, float64(s.height)-16, map[bool]string{true: ink, false: grid}[i == 1])
		s.text(x, top-12, 11, muted, "middle", fmt.Sprint(i))
	}
	for i, bar := range bars {
		y := top + float64(i)*(barTall+12)
		s.text(left-10, y+15, 13, ink, "end", bar.label)
		s.rect(left, y, bar.ratio*scale, barTall, reseal)
		s.text(left+bar.ratio*scale+6, y+15, 12, ink, "start", fmt.Sprintf("%.2f", bar.ratio))
	}
	return s.whole("Time of reseal's operations as ratios to the raw operation")
}
