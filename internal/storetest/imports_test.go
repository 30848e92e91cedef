package storetest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/reseal/reseal"

// goList returns what go list says of packages, a list of words for each.
func goList(t *testing.T, args ...string) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	lists := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		lists[words[0]] = words[1:]
	}
	return lists
}

const (
	imports = `{{.ImportPath}} {{join .Imports " "}}`
	deps    = `{{.ImportPath}} {{join .Deps " "}}`
)

func TestOnlyTestsImportThisPackage(t *testing.T) {
	lists := goList(t, "-f", imports, "./...")
	if len(lists) < 6 {
		t.Fatalf("go list knows %d packages", len(lists))
	}
	for name, list := range lists {
		if slices.Contains(list, module+"/internal/storetest") {
			t.Errorf("%s imports internal/storetest", name)
		}
	}
}

// The crypto package works on bytes alone.
func TestCryptoKnowsNoFilesNetworkOrClock(t *testing.T) {
	for _, list := range goList(t, "-f", imports, "./crypto") {
		if len(list) == 0 {
			t.Fatal("go list knows no imports")
		}
		for _, p := range list {
			for _, forbidden := range []string{"database/sql", "os", "io/fs", "io/ioutil", "path/filepath", "net", "time", "syscall", "log", "modernc.org/sqlite", module} {
				if p == forbidden || strings.HasPrefix(p, forbidden+"/") {
					t.Errorf("crypto imports %s", p)
				}
			}
		}
	}
}

func TestPackagesKnowOnlyThoseBelow(t *testing.T) {
	below := map[string][]string{
		"crypto":     nil,
		"migrations": nil,
		"store":      {"crypto", "migrations"},
		"rotate":     {"crypto", "migrations", "store"},
	}
	for name, allowed := range below {
		lists := goList(t, "-f", deps, "./"+name)
		list := lists[module+"/"+name]
		if len(list) == 0 {
			t.Fatalf("go list knows no dependencies of %s", name)
		}
		for _, p := range list {
			own, isOwn := strings.CutPrefix(p, module+"/")
			if isOwn && !slices.Contains(allowed, own) {
				t.Errorf("%s depends on %s", name, own)
			}
			for _, command := range []string{"github.com/spf13/", "golang.org/x/term", "github.com/joho/godotenv", "github.com/google/go-cmp", "testing"} {
				if p == command || strings.HasPrefix(p, command) && strings.HasSuffix(command, "/") {
					t.Errorf("%s depends on %s, which is for the command or for tests", name, p)
				}
			}
		}
	}
}
