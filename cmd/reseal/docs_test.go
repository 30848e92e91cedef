package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages returns the text of every page, by its path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, path := range append(paths, "../../README.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(text)
	}
	return all
}

var (
	rule = regexp.MustCompile(`^\|[ :|-]+\|$`)
	link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
)

// An empty line in a table takes what follows out of it.
func TestDocsTablesAndLinksAreWhole(t *testing.T) {
	links := 0
	for path, text := range pages(t) {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			if strings.HasPrefix(line, "|") && !strings.HasPrefix(lines[i-1], "|") && !rule.MatchString(lines[i+1]) {
				t.Errorf("%s line %d: a table's row without a table", path, i+1)
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if links < 40 {
		t.Errorf("only %d links were found", links)
	}
}

// TestDocsListEveryErrorCode keeps the page of contracts complete.
func TestDocsListEveryErrorCode(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if !strings.Contains(string(page), "`"+k.code+"`") {
			t.Errorf("docs/cli.md does not list the code %q", k.code)
		}
	}
}
