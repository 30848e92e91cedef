package main

import (
	"os"
	"testing"
)

func TestDrawingIsCurrent(t *testing.T) {
	have, err := os.ReadFile("../keys.svg")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != drawing() {
		t.Error("docs/keys.svg is not what this command draws: run go run ./docs/draw > docs/keys.svg")
	}
}
