package main

import (
	"os"
	"strings"
	"testing"
)

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
