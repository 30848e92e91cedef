package main

import (
	"fmt"
	"math"
	"strings"
)

// series is one side's rate at several sizes of a store.
type series struct {
	name   string
	colour string
	points []point
}

type point struct{ x, y float64 }

// growthSizes are the sizes at which rotations are measured, as they are named.
var growthSizes = []struct {
	name string
	n    float64
}{{"10 k", 1e4}, {"100 k", 1e5}, {"1 M", 1e6}}

// growthChart draws how many data keys a second are rewrapped in stores of
// different sizes.
func growthChart(b *book) string {
	all := []series{
		{name: "range UPDATE, no cipher", colour: other},
		{name: "reseal, fast", colour: reseal},
		{name: "reseal, gentle", colour: "#3b82c4"},
		{name: "row by row, same cipher", colour: "#b45309"},
	}
	for i := range all {
		for _, size := range growthSizes {
			if r := b.find("rotation/rewrap/" + size.name); r != nil && r.side(all[i].name) != nil {
				all[i].points = append(all[i].points, point{size.n, 1e9 / median(r.side(all[i].name).Wall)})
			}
		}
	}
	return drawGrowth(all)
}

func drawGrowth(all []series) string {
	const left, right, top, bottom = 80.0, 190.0, 56.0, 48.0
	s := &svg{width: 760, height: 340}
	most := 1e5
	for _, line := range all {
		for _, p := range line.points {
			most = max(most, p.y)
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(most)))
	most = math.Ceil(most/step) * step
	x := func(n float64) float64 {
		return left + (math.Log10(n)-4)/2*(float64(s.width)-left-right)
	}
	y := func(rate float64) float64 {
		return float64(s.height) - bottom - rate/most*(float64(s.height)-top-bottom)
	}
	s.text(16, 26, 15, ink, "start", "Data keys rewrapped in a second, by the number of them in the store")
	for v := 0.0; v <= most; v += step {
		s.line(left, y(v), float64(s.width)-right, y(v), grid)
		s.text(left-8, y(v)+4, 11, muted, "end", thousands(v))
	}
	for _, size := range growthSizes {
		s.text(x(size.n), float64(s.height)-bottom+20, 12, ink, "middle", size.name)
	}
	for i, line := range all {
		s.series(line, x, y)
		s.rect(float64(s.width)-right+16, top+float64(i)*22, 12, 12, line.colour)
		s.text(float64(s.width)-right+34, top+float64(i)*22+11, 12, ink, "start", line.name)
	}
	return s.whole("Rate of rewrapping against the size of the store")
}

// series draws a line with its points.
func (s *svg) series(line series, x, y func(float64) float64) {
	var path []string
	for _, p := range line.points {
		path = append(path, fmt.Sprintf("%.1f,%.1f", x(p.x), y(p.y)))
		fmt.Fprintf(s, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x(p.x), y(p.y), line.colour)
	}
	if len(path) > 1 {
		fmt.Fprintf(s, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", strings.Join(path, " "), line.colour)
	}
}

func thousands(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%g M", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%g k", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}
