package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

// The bill lists just the modules that go version finds in the binary.
func TestBillOfMaterialsIsWhatGoVersionFinds(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the command")
	}
	binary := filepath.Join(t.TempDir(), "reseal")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	printed, err := exec.Command(binary, "version", "--sbom").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b sbom
	if err := json.Unmarshal(printed, &b); err != nil {
		t.Fatal(err)
	}
	found, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, c := range b.Components {
		listed[c.Name] = c.Version
		if c.Ref == "" || !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") {
			t.Errorf("component %+v", c)
		}
	}
	deps := 0
	for line := range strings.Lines(string(found)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			deps++
			if listed[f[1]] != f[2] {
				t.Errorf("%s is %q in the bill and %q in the binary", f[1], listed[f[1]], f[2])
			}
		}
	}
	if deps < 10 || deps != len(b.Components)-1 { // and the standard library
		t.Errorf("%d modules in the binary, %d components", deps, len(b.Components))
	}
	if _, ok := listed["github.com/anishathalye/porcupine"]; ok || bytes.Contains(printed, []byte(os.TempDir())) {
		t.Error("the bill has what is not in the binary")
	}
}

func TestBillOfMaterialsNamesReplacements(t *testing.T) {
	b := billOfMaterials(&debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.org/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/b", Version: "v2.0.0+x", Sum: "h1:x"}},
	}})
	if c := b.Components[1]; c.Name != "example.org/b" || c.PURL != "pkg:golang/example.org/b@v2.0.0+x" || c.Properties[0].Value != "h1:x" {
		t.Errorf("component %+v", c)
	}
}
