package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// writeReceipts writes the receipts of a run to a new file, one a line.
func (a *app) writeReceipts(path string, r *rotate.Report) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	for _, rep := range append([]rotate.Report{*r}, r.Keys...) {
		if rep.Receipt == nil {
			continue
		}
		if err := enc.Encode(rep.Receipt); err != nil {
			return err
		}
	}
	if text.Len() == 0 {
		a.warn("no job was completed, and so %s was not written", path)
		return nil
	}
	err := writeNewFile(path, text.Bytes())
	var c *cliError
	if errors.As(err, &c) {
		c.remedy = "reseal rotate status --json" // it has the receipts too
	}
	return err
}

type jsonReceiptCheck struct {
	jsonVerification
	Genuine   bool          `json:"genuine"`   // always, or it is an error
	Unchanged bool          `json:"unchanged"` // no wrap under the target is another than then
	Receipt   store.Receipt `json:"receipt"`
}

// readReceipts reads a file of receipts, one after the other.
func readReceipts(path string) ([]store.Receipt, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("", "%v", err)
	}
	var out []store.Receipt
	for d := json.NewDecoder(bytes.NewReader(content)); ; {
		var text json.RawMessage
		if err := d.Decode(&text); err == io.EOF && len(out) > 0 {
			return out, nil
		} else if err != nil {
			return nil, notAReceipt(path)
		}
		rc, err := store.ParseReceipt(text)
		if err != nil {
			return nil, notAReceipt(path)
		}
		out = append(out, rc)
	}
}

func notAReceipt(path string) error {
	return usagef("write one with: reseal rotate run --receipt FILE", "%q: the text is not a rotation's receipt", path)
}

func (a *app) verifyReceipts(ctx context.Context, path string, f *rotateFlags) error {
	if f.From+f.To+f.Key+f.Prefix != "" {
		return usagef("", "--receipt says itself which rotation it is of: leave --from, --to, --key and --prefix out")
	}
	receipts, err := readReceipts(path)
	if err != nil {
		return err
	}
	return a.unsealed(ctx, func(s *store.Store) error {
		for _, rc := range receipts {
			if err := a.verifyReceipt(ctx, s, rc); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) verifyReceipt(ctx context.Context, s *store.Store, rc store.Receipt) error {
	bar := a.progress()
	v, err := rotate.VerifyReceipt(ctx, s, rc, func(p rotate.Progress) { bar.rotation(p) })
	bar.end()
	if err != nil {
		return err
	}
	out := jsonReceiptCheck{a.verificationJSON(v), true, v.Digest == rc.Digest, rc}
	err = a.emit(out, func(w io.Writer) { receiptText(w, &out) })
	if err == nil && !v.OK {
		err = &cliError{exit: exitFound, code: "found", remedy: rotationCommand(v),
			msg: fmt.Sprintf("the receipt is genuine and no longer true: %s back under what was left, %s", plural(v.Remaining, "version"), plural(v.Failed-v.Remaining, "failure"))}
	}
	return err
}

func receiptText(w io.Writer, c *jsonReceiptCheck) {
	rc := &c.Receipt
	fmt.Fprintf(w, "genuine: written by this store for job %s\n", rc.Job)
	fmt.Fprintf(w, "then, %s: %s moved from key %s to key %s version %d, %s opened under it, %d left\n", date(rc.FinishedAt),
		plural(rc.Moved, "version"), rc.From, rc.To, rc.ToVersion, thousands(rc.Checked-rc.Failures), rc.Remaining)
	fmt.Fprintf(w, "then, residue: %s\n", rc.Residue)
	since := "some wraps are others since"
	if c.Unchanged {
		since = "no wrap is another since"
	}
	fmt.Fprintf(w, "now: %s left, %s opened; %s\n", thousands(c.Remaining), plural(c.Checked-c.Failed, "version"), since)
	failureLines(w, c.Failures)
}
