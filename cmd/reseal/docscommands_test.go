package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestDocsShowCommandsThatExist takes the command lines of every page and parses
// each: a command or flag that was renamed is noticed. What stands for a name,
// in capitals or as an ellipsis, is a word like any other.
func TestDocsShowCommandsThatExist(t *testing.T) {
	n := 0
	for page, text := range pages(t) {
		for i, line := range strings.Split(text, "\n") {
			for _, command := range shownCommands(line) {
				n++
				if err := parses(command); err != nil {
					t.Errorf("%s line %d: %s: %v", page, i+1, command, err)
				}
			}
		}
	}
	t.Logf("%d commands", n)
	if n < 100 {
		t.Errorf("only %d commands were found", n)
	}
	if parses("reseal rotate run --no-such-flag") == nil || parses("reseal rotate walk") == nil {
		t.Error("what does not exist parses")
	}
}

// shownCommands returns the commands in a line of a page: between back quotes,
// or a whole line that is indented.
func shownCommands(line string) (out []string) {
	parts := strings.Split(line, "`")
	for i := 1; i < len(parts); i += 2 {
		out = append(out, parts[i])
	}
	if strings.HasPrefix(line, "    ") {
		out = append(out, strings.TrimPrefix(strings.TrimSpace(line), "$ "))
	}
	var kept []string
	for _, c := range out {
		if strings.HasPrefix(c, "reseal: ") {
			continue // what it printed
		}
		for _, part := range strings.FieldsFunc(c, func(r rune) bool { return strings.ContainsRune(";&|#>", r) }) {
			if part = strings.TrimSpace(part); strings.HasPrefix(part, "reseal ") && !strings.HasPrefix(part, "reseal COMMAND ") {
				kept = append(kept, part)
			}
		}
	}
	return kept
}

func parses(command string) error {
	a := &app{stdout: &checkedWriter{w: &bytes.Buffer{}}, stderr: &bytes.Buffer{}}
	c, rest, err := a.rootCommand().Find(strings.Fields(command)[1:])
	if err != nil {
		return err
	}
	if c.HasSubCommands() && len(rest) > 0 {
		return usagef("", "no such command")
	}
	return c.ParseFlags(rest)
}
