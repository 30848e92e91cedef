// Command draw writes the drawing of configured and effective keys that the
// README shows.
//
//	go run ./docs/draw > docs/keys.svg
package main

import (
	"fmt"
	"html"
	"os"
	"strings"
)

// version is one secret version in a panel.
type version struct {
	name      string
	effective string
	stale     bool // still under the old key
}

// panel is one side of the drawing.
type panel struct {
	title    string
	command  string
	versions []version
	verdict  []string
	bad      bool
}

var panels = []panel{
	{
		title:   "Elsewhere: three labels follow the key",
		command: "the console shows mk-2 for the secret",
		versions: []version{
			{"5  current", "mk-2", false},
			{"4  pending", "mk-2", false},
			{"3  previous", "mk-2", false},
			{"2  audit-2025 (custom label)", "mk-1", true},
			{"1  (no label)", "mk-1", true},
		},
		verdict: []string{"mk-1 looks unused, and can be deleted.", "Versions 1 and 2 are then lost."},
		bad:     true,
	},
	{
		title:   "reseal set-key: all versions, or none",
		command: "reseal show: configured mk-2, effective mk-2",
		versions: []version{
			{"5  current", "mk-2", false},
			{"4  pending", "mk-2", false},
			{"3  previous", "mk-2", false},
			{"2  audit-2025 (custom label)", "mk-2", false},
			{"1  (no label)", "mk-2", false},
		},
		verdict: []string{"mk-1 has no dependents: deletion allowed.", "While it had one, it was refused."},
	},
}

const (
	panelWidth = 400
	gap        = 24
	height     = 372
	ink        = "#1f2933"
	muted      = "#52606d"
	good       = "#0b7a4b"
	bad        = "#b42318"
)

func text(b *strings.Builder, x, y int, size int, fill, extra, s string) {
	fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" font-size=\"%d\" fill=\"%s\" %s>%s</text>\n", x, y, size, fill, extra, html.EscapeString(s))
}

func (p panel) draw(b *strings.Builder, left int) {
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"12\" width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#ffffff\" stroke=\"#cbd2d9\"/>\n", left, panelWidth, height-24)
	text(b, left+20, 44, 17, ink, `font-weight="600"`, p.title)
	text(b, left+20, 70, 13, muted, "", p.command)
	text(b, left+20, 102, 12, muted, "", "secret version")
	text(b, left+panelWidth-20, 102, 12, muted, `text-anchor="end"`, "really wrapped by")
	for i, v := range p.versions {
		v.draw(b, left, 112+i*36)
	}
	colour := good
	if p.bad {
		colour = bad
	}
	for i, line := range p.verdict {
		text(b, left+20, 320+i*20, 14, colour, `font-weight="600"`, line)
	}
}

func (v version) draw(b *strings.Builder, left, top int) {
	fill, stroke := "#e6f6ee", good
	if v.stale {
		fill, stroke = "#fdecea", bad
	}
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"30\" rx=\"6\" fill=\"#f5f7fa\"/>\n", left+20, top, panelWidth-40)
	text(b, left+32, top+20, 13, ink, "", v.name)
	fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"72\" height=\"22\" rx=\"11\" fill=\"%s\" stroke=\"%s\"/>\n", left+panelWidth-100, top+4, fill, stroke)
	text(b, left+panelWidth-64, top+20, 13, stroke, `text-anchor="middle" font-weight="600"`, v.effective)
}

func drawing() string {
	var b strings.Builder
	width := len(panels)*(panelWidth+gap) + gap
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"Helvetica, Arial, sans-serif\" role=\"img\">\n", width, height, width, height)
	b.WriteString("<title>The key a secret shows, and the keys that really wrap its versions</title>\n")
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#eef2f6\"/>\n", width, height)
	for i, p := range panels {
		p.draw(&b, gap+i*(panelWidth+gap))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func main() { os.Stdout.WriteString(drawing()) }
