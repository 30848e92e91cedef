package crypto

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// remembered spells out everything that p holds; fmt looks into the digests,
// so that bytes they have buffered and no longer count are there too.
func remembered(p *prf) string {
	return fmt.Sprint(p.innerState, p.outerState, p.pad, p.sum, p.inner, p.outer)
}

func TestClearedPRFRemembersNothing(t *testing.T) {
	p := newPRF()
	key := [KeySize]byte([]byte("CANARY-key-0123456789-abcdefghij"))
	p.setKey(&key)
	keyed := remembered(p)
	p.mac(&p.sum, []byte("message"))
	const message = "109 101 115 115 97 103 101" // the bytes of "message"
	if !strings.Contains(remembered(p), message) {
		t.Fatal("a used prf does not show its message, the test shows nothing")
	}
	p.forget()
	if strings.Contains(remembered(p), message) {
		t.Errorf("after forget it remembers the message: %s", remembered(p))
	}
	if !strings.Contains(keyed, fmt.Sprint(p.innerState)) || !strings.Contains(keyed, fmt.Sprint(p.outerState)) {
		t.Error("forget lost the key")
	}
	p.clear()
	blank := newPRF()
	blank.innerState, blank.outerState = make([]byte, len(p.innerState)), make([]byte, len(p.outerState))
	if diff := cmp.Diff(remembered(blank), remembered(p)); diff != "" {
		t.Errorf("cleared prf remembers (-want +got):\n%s", diff)
	}
}

func TestScratchGoesBackCleared(t *testing.T) {
	s := &scratch{fresh: newPRF()}
	k := NewKey()
	p, err := k.acquire()
	if err != nil {
		t.Fatal(err)
	}
	rawKey := [KeySize]byte{1, 2, 3}
	s.dataKey, s.proof = rawKey, rawKey
	s.fresh.setKey(&s.dataKey)
	if _, err := s.seal(p, nil, s.dataKey[:], nil); err != nil {
		t.Fatal(err)
	}
	value := append(s.value.room(5+Overhead), "value"...)
	again := append(s.again.room(5+Overhead), "value"...)
	if s.derived.key == [KeySize]byte{} || !bytes.Contains(s.derived.input, s.derived.key[:]) {
		t.Fatal("seal derived nothing, the test shows nothing")
	}
	s.release()
	if s.derived.key != [KeySize]byte{} || bytes.ContainsFunc(s.derived.input, func(r rune) bool { return r != 0 }) || s.dataKey != [KeySize]byte{} || s.proof != [KeySize]byte{} {
		t.Error("released scratch still holds key material")
	}
	if !bytes.Equal(value, make([]byte, 5)) || !bytes.Equal(again, make([]byte, 5)) {
		t.Error("released scratch still holds a value")
	}
	if !bytes.Equal(s.fresh.innerState, make([]byte, len(s.fresh.innerState))) {
		t.Error("released scratch still holds a keyed state")
	}
}

func TestClearWipesEveryState(t *testing.T) {
	k := NewKey()
	idle, err := k.acquire()
	if err != nil {
		t.Fatal(err)
	}
	lent, err := k.acquire()
	if err != nil {
		t.Fatal(err)
	}
	const message = "109 101 115 115 97 103 101" // the bytes of "message"
	idle.mac(&idle.sum, []byte("message"))
	k.release(idle)
	if strings.Contains(remembered(idle), message) {
		t.Error("a state that was given back remembers what it hashed")
	}
	zero := make([]byte, len(idle.innerState))
	if bytes.Equal(idle.innerState, zero) || bytes.Equal(lent.innerState, zero) {
		t.Fatal("the states are not keyed, the test shows nothing")
	}
	k.Clear()
	if !bytes.Equal(idle.innerState, zero) || !bytes.Equal(idle.outerState, zero) {
		t.Error("an idle state is still keyed after Clear")
	}
	if bytes.Equal(lent.innerState, zero) {
		t.Error("a state in use was cleared under its user")
	}
	k.release(lent)
	if !bytes.Equal(lent.innerState, zero) || !bytes.Equal(lent.outerState, zero) {
		t.Error("a state given back after Clear is still keyed")
	}
	if s := k.secret(); s.raw != [KeySize]byte{} || len(s.idle) != 0 {
		t.Errorf("after Clear the key holds %d states, material gone: %v", len(s.idle), s.raw == [KeySize]byte{})
	}
}

// TestReencryptLeavesNoPlaintext looks at the scratch that a reencryption used,
// for a value that fits the room that is kept and for one that does not.
func TestReencryptLeavesNoPlaintext(t *testing.T) {
	from, to := NewKey(), NewKey()
	for _, n := range []int{100, keepPlaintext, keepPlaintext + 1} {
		sealed, wrapped, err := from.SealValue(nil, nil, bytes.Repeat([]byte("x"), n), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var p plaintext
		value, err := from.OpenValue(p.room(len(sealed)), sealed, wrapped, nil, nil)
		if err != nil || len(value) != n || cap(value) != n {
			t.Fatalf("%d bytes in room for %d, %v", len(value), cap(value), err)
		}
		p.clear()
		if !bytes.Equal(value, make([]byte, n)) {
			t.Errorf("%d bytes: the plaintext is left", n)
		}
		if kept := p.buf != nil; kept != (n <= keepPlaintext) {
			t.Errorf("%d bytes: kept %v", n, kept)
		}
		if _, _, err := Reencrypt(nil, nil, from, to, sealed, wrapped, nil, nil, nil); err != nil {
			t.Error(err)
		}
	}
}
