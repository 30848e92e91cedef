package rotate_test

import (
	"fmt"
	"testing"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// setKey changes a secret's key while something else goes on.
func setKey(tb testing.TB, s *store.Store, name, key string) {
	tb.Helper()
	if _, err := s.SetKey(tb.Context(), name, key); err != nil {
		tb.Error(err)
	}
}

// A secret that is put back under the old key during the read-back is moved
// again, and one that is there only while it is read is read back again.
func TestRunReadsBackAgainWhatWasPutBackMeanwhile(t *testing.T) {
	const secrets = 4200 // more than one page of the read-back
	last := fmt.Sprintf("app/%d", secrets-1)
	putBack := func(at, until int) func(*store.Store, int) {
		return func(s *store.Store, page int) {
			switch page {
			case at:
				setKey(t, s, last, "mk-1")
			case until:
				setKey(t, s, last, "mk-2")
			}
		}
	}
	for name, c := range map[string]struct {
		moved     bool // all of it, before the run
		meanwhile func(s *store.Store, page int)
	}{
		"before it is read, after the move":   {false, putBack(1, 0)},
		"after it was read":                   {false, putBack(2, 0)},
		"only while it is read":               {false, putBack(1, 2)},
		"only while it is read, nothing left": {true, putBack(1, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			fill(t, s, "app", secrets, 1, 32)
			o := rotate.Options{From: "mk-1", To: "mk-2"}
			if c.moved {
				runOK(t, s, o)
			}
			pages := 0
			o.Progress = func(p rotate.Progress) {
				if p.Phase == rotate.Checking {
					pages++
					c.meanwhile(s, pages)
				}
			}
			rep := runOK(t, s, o)
			o.Progress = nil
			v, err := rotate.Verify(t.Context(), s, o)
			if err != nil || !v.OK || pages != 4 {
				t.Errorf("%d pages, Verify = %+v, %v", pages, v, err)
			}
			if rep.Receipt != nil && rep.Receipt.Digest != v.Digest {
				t.Errorf("the receipt's digest is not of what is there")
			}
		})
	}
}

func TestVerifyFindsDrift(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 2, 32)
	o := rotate.Options{From: "mk-1", To: "mk-2"}
	runOK(t, s, o)
	stray := wrapOf(t, s, "app/1", 1)
	setKey(t, s, "app/1", "default")
	rawSQL(t, s, `UPDATE reseal_data_keys SET wrapped = ?, master_key_version = (
		SELECT kv.id FROM reseal_master_key_versions AS kv JOIN reseal_master_keys AS k ON k.id = kv.master_key WHERE k.name = 'mk-2')
		WHERE id = `+versionRow, stray, "app/1", 1)
	v, err := rotate.Verify(t.Context(), s, o)
	if err != nil || v.OK || len(v.Failures) != 1 {
		t.Fatalf("Verify = %+v, %v", v, err)
	}
	f := v.Failures[0]
	if f.Secret != "app/1" || f.Version != 1 || f.Key != "mk-2" || f.Remedy != "reseal set-key app/1 default" {
		t.Errorf("failure: %+v", f)
	}
	setKey(t, s, "app/1", "default")
	if v, err := rotate.Verify(t.Context(), s, o); err != nil || !v.OK {
		t.Errorf("after its remedy: %+v, %v", v, err)
	}
}
