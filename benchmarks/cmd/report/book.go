package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/reseal/reseal/benchmarks"
)

// book is all results, of this run and of those before that it keeps.
type book struct {
	o       options
	At      circumstances `json:"at"`
	Rounds  int           `json:"rounds"`
	Results []result      `json:"results"`
}

func (b *book) file() string { return filepath.Join(b.o.docs, "performance", "results.json") }

// openBook reads the results that are there.
func openBook(o options) (*book, error) {
	b := &book{o: o}
	data, err := os.ReadFile(b.file())
	if err == nil {
		err = json.Unmarshal(data, b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b.At, b.Rounds = look(), o.rounds
	return b, nil
}

func (b *book) find(id string) *result {
	i := slices.IndexFunc(b.Results, func(r result) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &b.Results[i]
}

// measured reports whether this commit on this machine has measured a case.
func (b *book) measured(id string) bool {
	r := b.find(id)
	return r != nil && r.Run == b.At.key()
}

func (b *book) put(r result) {
	r.Run = b.At.key()
	if old := b.find(r.ID); old != nil {
		*old = r
		return
	}
	b.Results = append(b.Results, r)
}

// save writes the results; write makes the page of them.
func (b *book) save() error {
	if err := os.MkdirAll(filepath.Dir(b.file()), 0o755); err != nil {
		return err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", " ")
	if err := enc.Encode(b); err != nil {
		return err
	}
	return replace(b.file(), out.Bytes())
}

// replace writes a file whole or not at all.
func replace(path string, data []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// inOrder returns the results that are still of cases, in the order of those.
func (b *book) inOrder() []*result {
	var out []*result
	for _, c := range benchmarks.Cases() {
		if r := b.find(c.ID); r != nil {
			out = append(out, r)
		}
	}
	return out
}
