package crypto

import "testing"

// What is shielded is done, and a panic in it comes out.
func TestShieldCalls(t *testing.T) {
	called := false
	shield(func() { called = true })
	if !called {
		t.Error("the function was not called")
	}
	defer func() {
		if recover() != "out" {
			t.Error("the panic did not come out")
		}
	}()
	shield(func() { panic("out") })
}

// The ordinary build pays nothing for the shield.
func TestShieldAllocatesNothing(t *testing.T) {
	if shielded || testing.Short() {
		t.Skip("the runtime's shield has its cost, and the race detector empties pools")
	}
	k := NewKey()
	dst := make([]byte, 0, 256)
	sealed, err := k.Seal(nil, []byte("value"), []byte("here"))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := k.Open(dst[:0], sealed, []byte("here")); err != nil {
			t.Fatal(err)
		}
	}); n > 2 {
		t.Errorf("opening allocates %v times", n)
	}
}
