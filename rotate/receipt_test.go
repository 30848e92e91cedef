package rotate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

func receiptText(tb testing.TB, rc *store.Receipt) []byte {
	tb.Helper()
	text, err := json.Marshal(rc)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

// checkText verifies a receipt as a file has it.
func checkText(tb testing.TB, s *store.Store, text []byte) (rotate.Verification, error) {
	tb.Helper()
	rc, err := store.ParseReceipt(text)
	if err != nil {
		return rotate.Verification{}, err
	}
	return rotate.VerifyReceipt(tb.Context(), s, rc, nil)
}

func TestReceiptIsVerifiedLater(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 20, 3, 16)
	rc := runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2", Prefix: "app/1"}).Receipt
	text := receiptText(t, rc)
	v, err := checkText(t, s, text)
	if err != nil || !v.OK || v.Checked != 33 || v.Digest != rc.Digest {
		t.Errorf("at once: %+v, %v", v, err)
	}
	whole := append(append([]byte(`{"job":"x","receipt":`), text...), '}')
	if _, err := checkText(t, s, whole); err != nil {
		t.Errorf("as rotate run --json has it: %v", err)
	}

	// Another version under the target, and another key's rotation, take nothing
	// from it.
	if _, err := s.Put(t.Context(), "app/1", []byte("more"), nil); err != nil {
		t.Fatal(err)
	}
	rotateKey(t, s, "mk-2")
	runOK(t, s, rotate.Options{Key: "mk-2"})
	if v, err := checkText(t, s, text); err != nil || !v.OK || v.Checked != 34 || v.Digest == rc.Digest {
		t.Errorf("after more: %+v, %v", v, err)
	}

	// A secret that goes back does.
	if _, err := s.SetKey(t.Context(), "app/1", "mk-1"); err != nil {
		t.Fatal(err)
	}
	if v, err := checkText(t, s, text); err != nil || v.OK || v.Remaining != 4 || !strings.Contains(v.Failures[0].Error, "mk-1") {
		t.Errorf("after a secret went back: %+v, %v", v, err)
	}
}

// A receipt of a key's own rotation stays true when the key gets newer versions.
func TestReceiptOfAVersionSaysWhatIsUnderOlderOnes(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 5, 2, 16)
	rotateKey(t, s, "mk-1")
	text := receiptText(t, runOK(t, s, rotate.Options{Key: "mk-1"}).Receipt)
	rotateKey(t, s, "mk-1")
	fill(t, s, "new", 1, 1, 16)
	if v, err := checkText(t, s, text); err != nil || !v.OK || v.Checked != 11 {
		t.Errorf("after another version: %+v, %v", v, err)
	}
	rawSQL(t, s, `UPDATE reseal_data_keys SET master_key_version = (SELECT kv.id FROM reseal_master_key_versions AS kv JOIN reseal_master_keys AS k ON k.id = kv.master_key WHERE k.name = 'mk-1' AND kv.number = 1) WHERE id = 1`)
	if v, err := checkText(t, s, text); err != nil || v.OK || v.Remaining != 1 {
		t.Errorf("after one went back: %+v, %v", v, err)
	}
}

// alterations returns the JSON with each of its members altered in turn.
func alterations(tb testing.TB, text []byte) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	var doc any
	if err := json.Unmarshal(text, &doc); err != nil {
		tb.Fatal(err)
	}
	keep := func(what string) {
		altered, err := json.Marshal(doc)
		if err != nil {
			tb.Fatal(err)
		}
		out[what] = altered
	}
	var walk func(path string, v any, set func(any))
	walk = func(path string, v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for k, member := range v {
				walk(path+"."+k, member, func(to any) { v[k] = to })
				delete(v, k)
				keep(path + "." + k + " removed")
				v[k] = member
			}
			v["more"] = 1
			keep(path + ".more added")
			delete(v, "more")
			return
		case []any:
			for i := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), v[i], func(to any) { v[i] = to })
			}
			set(append(v[:len(v):len(v)], map[string]any{"name": "x", "bytes": 1, "found": 0}))
		case string:
			set(alteredText(v))
		case float64:
			set(v + 1)
		case bool:
			set(!v)
		}
		keep(path)
		set(v)
	}
	walk("", doc, nil)
	return out
}

func alteredText(s string) string {
	if at := strings.Index(s, ":"); at > 0 && strings.HasSuffix(s, "Z") { // a time
		return strings.Replace(s, s[:4], "2001", 1)
	}
	if s == "" {
		return "x"
	}
	if s[0] == '0' {
		return "1" + s[1:]
	}
	return "0" + s[1:]
}

func TestAlteredReceiptIsRefused(t *testing.T) {
	s := newStore(t)
	fill(t, s, "app", 3, 2, 16)
	text := receiptText(t, runOK(t, s, rotate.Options{From: "mk-1", To: "mk-2", Prefix: "app/"}).Receipt)
	all := alterations(t, text)
	for what, altered := range all {
		if _, err := checkText(t, s, altered); !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v: %s", what, err, altered)
		} else if errors.Is(err, store.ErrInvalid) && what != ".job removed" {
			t.Errorf("%s is taken for something else: %v", what, err)
		}
	}
	if len(all) < 50 {
		t.Errorf("only %d alterations", len(all))
	}
	if _, err := checkText(t, s, text); err != nil {
		t.Errorf("the receipt itself: %v", err)
	}
}

func TestReceiptThatTheStoreDoesNotKnowIsRefused(t *testing.T) {
	s, other := newStore(t), newStore(t)
	fill(t, s, "app", 1, 1, 16)
	fill(t, other, "app", 1, 1, 16)
	o := rotate.Options{From: "mk-1", To: "mk-2"}
	mine, theirs := runOK(t, s, o).Receipt, runOK(t, other, o).Receipt
	refused := func(why string, rc store.Receipt, detail string) {
		t.Helper()
		if _, err := rotate.VerifyReceipt(t.Context(), s, rc, nil); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), detail) {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("another store's", *theirs, "another store")
	forged := *theirs
	forged.StoreID = mine.StoreID
	refused("another store's, relabelled", forged, "altered or forged")
	old := *mine
	old.MAC = ""
	refused("without a MAC", old, "no MAC")

	rawSQL(t, s, `UPDATE reseal_rotation_jobs SET receipt = json_set(receipt, '$.moved', 7)`)
	refused("the row was altered", *mine, "row says something else")
	rawSQL(t, s, `UPDATE reseal_rotation_jobs SET receipt = NULL`)
	refused("the row's receipt was removed", *mine, "row says something else")
	rawSQL(t, s, `DELETE FROM reseal_rotation_jobs`)
	refused("the row was removed", *mine, "no such job")
	for _, text := range []string{"", "{}", "[]", "null", `{"mac":"00"}`, "receipt"} {
		if _, err := store.ParseReceipt([]byte(text)); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
