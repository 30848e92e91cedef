package store_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reseal/reseal/internal/storetest"
	"github.com/reseal/reseal/store"
)

func init() { children["uses-secrets"] = childUsesSecrets }

// heldValues is how many secrets the child puts and gets.
const heldValues = 12

// heldValue is the value of a secret, which no program's text has.
func heldValue(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, "value ", i)) }

// childUsesSecrets puts, gets and rotates, clears what is its own, and waits for
// a line before and after it closes the store. Arguments are the file and its key
// file.
func childUsesSecrets(ctx context.Context, args []string) error {
	s, err := store.Open(ctx, args[0], store.KeyFile(args[1]), options())
	if err != nil {
		return err
	}
	for i := range heldValues {
		if err := useSecret(ctx, s, i); err != nil {
			return err
		}
	}
	lines := bufio.NewReader(os.Stdin)
	fmt.Println("used")
	lines.ReadString('\n')
	if err := s.Close(); err != nil {
		return err
	}
	fmt.Println("closed")
	lines.ReadString('\n')
	return nil
}

func useSecret(ctx context.Context, s *store.Store, i int) error {
	value, name := heldValue(i), fmt.Sprint("app/", i)
	defer clear(value[:])
	if _, err := s.Put(ctx, name, value[:], nil); err != nil {
		return err
	}
	if i == heldValues/2 {
		if _, err := s.RotateKey(ctx, store.DefaultKeyName); err != nil {
			return err
		}
	}
	v, err := s.Get(ctx, name)
	v.Clear()
	return err
}

// A process that uses secrets, and clears what it got, has in memory only the
// keys that the open store needs, and none of them when it has closed the store.
// What the runtime moved or left on a stack counts too, up to a ceiling.
func TestMemoryHoldsNoMoreThanTheStoreNeeds(t *testing.T) {
	path, keyFile := filepath.Join(t.TempDir(), "reseal.db"), filepath.Join(t.TempDir(), "key")
	s := must(store.Create(t.Context(), path, must(store.NewKeyFile(keyFile))(t), options()))(t)
	storetest.OK(t, s.Close())
	cmd := child(t, "uses-secrets", path, keyFile)
	stdin := must(cmd.StdinPipe())(t)
	stdout := must(cmd.StdoutPipe())(t)
	storetest.OK(t, cmd.Start())
	answers := bufio.NewReader(stdout)
	for _, at := range []struct {
		answer string
		most   map[string]int
	}{
		{"used", map[string]int{"root key": 2, "integrity key": 2, "master key": 4, "data key": 5, "value": 5}},
		{"closed", map[string]int{"root key": 1, "integrity key": 1, "master key": 2, "data key": 5, "value": 5}},
	} {
		said, err := answers.ReadString('\n')
		if strings.TrimSpace(said) != at.answer {
			rest, _ := io.ReadAll(answers)
			t.Fatalf("the other process said %q: %v: %s", said, err, rest)
		}
		var names []string
		var texts [][]byte
		for key, what := range storetest.Keys(t, path, keyFile) {
			names, texts = append(names, what), append(texts, []byte(key))
		}
		for i := range heldValues {
			value := heldValue(i)
			names, texts = append(names, "value"), append(texts, value[:])
		}
		copies := map[string]int{}
		for i, n := range storetest.CopiesInMemory(t, cmd.Process.Pid, texts...) {
			copies[names[i]] += n
		}
		t.Logf("%s: copies in memory: %v", at.answer, copies)
		for what, most := range at.most {
			if n := copies[what]; n > most {
				t.Errorf("%s: %d copies of a %s in memory, at most %d", at.answer, n, what, most)
			}
		}
		if at.answer == "used" && copies["root key"] == 0 {
			t.Error("the scan finds nothing at all")
		}
		fmt.Fprintln(stdin)
	}
	storetest.OK(t, cmd.Wait())
}
