package storetest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// CopiesInMemory counts how often each of some texts is in the memory of another
// process.
func CopiesInMemory(t *testing.T, pid int, texts ...[]byte) []int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("SKIPPED: the process's memory cannot be read: %v", err)
	}
	defer mem.Close()
	out := make([]int, len(texts))
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[0] != 'r' || strings.Contains(line, "[v") {
			continue
		}
		block := make([]byte, to-from)
		k, _ := mem.ReadAt(block, from)
		for i, text := range texts {
			out[i] += bytes.Count(block[:max(k, 0)], text)
		}
	}
	return out
}
