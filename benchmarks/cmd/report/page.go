package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/reseal/reseal/benchmarks"
)

// section is a table of the page: the cases whose names begin so.
type section struct {
	prefix, title, text string
}

var sections = []section{
	{"envelope/", "One envelope", "Under a key that is kept, into a buffer that is kept: what wrapping a key costs, and sealing a value without making a data key. " +
		"Beside it is the cipher alone with a random nonce, which binds nothing to its place and does not commit to its key."},
	{"value/", "A value with its data key", "What a put and a get do: a fresh data key, its wrap, and the value under it; and back. " +
		"Beside it is the cipher alone, once."},
	{"peers/", "Other packages, the same work", "In process, with a key in memory, into fresh memory as each of them does it. Envelope means that each value has a data key of its own, " +
		"wrapped under the one key. Of these only reseal commits to its key."},
	{"store/", "One operation of a store", "Beside it is one table with the same bytes in one file with the same settings, its statements prepared. " +
		"A put is durable when it returns: the time is the disk's for the most part."},
	{"rotation/", "Rotation", "Every data key of a store goes to a new version of its master key. The time is that of the moving, with the commitment, the proof " +
		"of each new wrap and the comparison with the old bytes; the whole job, with a read-back of every version by another path, is beside it. " +
		"The limit is the fastest statement that puts other bytes in as many rows. Memory is that of a process that does nothing else; idle is after a thousand gets and a write."},
	{"growth/", "Growth", "The same in stores of different sizes, and in one whose statistics SQLite has gathered."},
	{"verify/", "Verification", "Every record, every wrap and every value is opened, in a process of its own."},
	{"job/", "The whole job with other means", "The table with an encrypted column has one key for all values, no versions, labels, audit or checks. setec keeps all values in memory " +
		"and writes the whole file for each put; its master key cannot be changed, so that there is nothing to measure."},
}

// write makes the page and its charts.
func (b *book) write() error {
	for name, chart := range charts(b) {
		if err := replace(filepath.Join(b.o.docs, "performance", name), []byte(chart)); err != nil {
			return err
		}
	}
	return replace(filepath.Join(b.o.docs, "performance.md"), []byte(b.page()))
}

func (b *book) page() string {
	var p strings.Builder
	p.WriteString(`# Performance

Measured side by side, in one process and in turn: what reseal does, the same without reseal, and what one would use instead. Written by

    go -C benchmarks run ./cmd/report

(-light leaves out what takes long, -only measures some cases, -resume goes on after an interruption); the numbers behind the medians are in [performance/results.json](performance/results.json). A median is of all
samples of a side; the spread is the range of its middle half; a ratio is the median of the ratios of samples that were taken one after the
other, so that a machine that slows down meanwhile does not change it. Ratios hold on other machines, times do not.

`)
	b.circumstances(&p)
	b.targets(&p)
	p.WriteString("![Times as ratios to the limit, each beside the raw operation](performance/limit.svg)\n\n")
	for _, s := range sections {
		b.section(&p, s)
	}
	return p.String()
}

func (b *book) circumstances(p *strings.Builder) {
	fmt.Fprintf(p, "- Machine: %s, %d cores, memory %s, %s", b.At.CPU, b.At.Cores, b.At.Memory, b.At.System)
	if b.At.Load != "" {
		fmt.Fprintf(p, "; load when the run began: %s", b.At.Load)
		if load, err := strconv.ParseFloat(b.At.Load, 64); err == nil && load > float64(b.At.Cores)/2 {
			p.WriteString(" (**others were at work on it**: times are too long, and ratios are coarse)")
		}
	}
	p.WriteString("\n")
	fmt.Fprintf(p, "- Versions: commit %s, %s", b.commits(), b.At.Go)
	for _, m := range []string{"modernc.org/sqlite", "golang.org/x/crypto"} {
		fmt.Fprintf(p, ", %s %s", m, b.At.Versions[m])
	}
	fmt.Fprintf(p, "\n- Samples of each side: %d, of the heavy cases fewer\n\n", b.Rounds)
}

// commits names the commits that the results are of.
func (b *book) commits() string {
	var out []string
	for _, r := range b.inOrder() {
		id, _, _ := strings.Cut(r.Run, " ")
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return strings.Join(out, " and ")
}

func (b *book) targets(p *strings.Builder) {
	p.WriteString("## Targets\n\n| what | target | measured | reached |\n|---|---|---|---|\n")
	var notes []string
	for _, t := range targets {
		found := t.find(b)
		var texts []string
		reached := len(found) > 0
		for _, f := range found {
			texts = append(texts, f.text)
			reached = reached && f.reached
		}
		verdict := map[bool]string{true: "yes", false: "**no**"}[reached]
		if len(found) == 0 {
			texts, verdict = []string{"not measured"}, "–"
		}
		fmt.Fprintf(p, "| %s | %s | %s | %s |\n", t.what, t.goal, strings.Join(texts, ", "), verdict)
		if !reached && t.note != "" && len(found) > 0 {
			notes = append(notes, fmt.Sprintf("**%s**: %s", t.what, t.note))
		}
	}
	p.WriteString("\n")
	if len(notes) > 0 {
		p.WriteString("What bounds those that are not reached:\n\n- " + strings.Join(notes, "\n- ") + "\n\n")
	}
}

func (b *book) section(p *strings.Builder, s section) {
	var rows []*result
	for _, r := range b.inOrder() {
		if strings.HasPrefix(r.ID, s.prefix) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return
	}
	if s.prefix == "rotation/" {
		s.text += "\n\n![Data keys rewrapped in a second in stores of different sizes](performance/growth.svg)"
	}
	if s.prefix == "job/" {
		s.text += sopsText(rows)
	}
	fmt.Fprintf(p, "## %s\n\n%s\n\n| what | side | median | spread | ratio | besides |\n|---|---|---|---|---|---|\n", s.title, s.text)
	for _, r := range rows {
		r.rows(p)
	}
	p.WriteString("\n")
}

// rows are a case's lines of a table, with what else was measured.
func (r *result) rows(p *strings.Builder) {
	for i, side := range r.Sides {
		title, ratio := r.Title, "1"
		if i > 0 {
			title, ratio = "", fmt.Sprintf("%.2f", over(side.Wall, r.Sides[0].Wall))
		} else if len(r.Sides) == 1 {
			ratio = ""
		}
		fmt.Fprintf(p, "| %s | %s | %s | %s – %s | %s | %s |\n", title, side.Name,
			duration(median(side.Wall)), duration(quantile(side.Wall, 0.25)), duration(quantile(side.Wall, 0.75)), ratio, side.besides())
	}
}

// besides is what else was measured of a side.
func (s *sideResult) besides() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Extra)) {
		what, unit, _ := strings.Cut(name, ", ")
		out = append(out, fmt.Sprintf("%s %s %s", what, digits(median(s.Extra[name])), unit))
	}
	return strings.Join(out, ", ")
}

// checkDocs refuses a folder that is not the project's docs.
func checkDocs(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "format.md")); err != nil {
		return fmt.Errorf("%q is not the folder docs: run it as go -C benchmarks run ./cmd/report, or give -docs", dir)
	}
	return nil
}

// sopsText says what the sides of SOPS are, or how to have them measured.
func sopsText(rows []*result) string {
	for _, r := range rows {
		if slices.ContainsFunc(r.Sides, func(s sideResult) bool { return strings.HasPrefix(s.Name, "SOPS") }) {
			return " SOPS is its command, with an age key and one JSON file: each run decrypts the file's data key, and all values. " +
				"`updatekeys` encrypts that data key to another age key, as a rewrap does; `rotate` replaces it and encrypts every value anew."
		}
	}
	return " SOPS was not measured: no `sops` on the PATH (`" + benchmarks.SOPSInstall + "`)."
}
