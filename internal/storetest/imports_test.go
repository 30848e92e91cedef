package storetest

import (
	"maps"
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
		if len(words) == 0 {
			continue // a package of the standard library has no module
		}
		lists[words[0]] = words[1:]
	}
	return lists
}

const (
	imports = `{{.ImportPath}} {{join .Imports " "}}`
	deps    = `{{.ImportPath}} {{join .Deps " "}}`
)

func TestOnlyTestsImportTheTestPackages(t *testing.T) {
	lists := goList(t, "-f", imports, "./...")
	if len(lists) < 6 {
		t.Fatalf("go list knows %d packages", len(lists))
	}
	for name, list := range lists {
		for _, p := range []string{module + "/internal/storetest", module + "/resealtest", module + "/internal/faultvfs"} {
			if slices.Contains(list, p) && !strings.HasSuffix(name, "/internal/storetest") {
				t.Errorf("%s imports %s", name, p)
			}
		}
	}
}

// Programs that embed reseal test with package resealtest: it brings them
// nothing but reseal.
func TestTestKitBringsNoOtherModules(t *testing.T) {
	list := goList(t, "-f", deps, "./resealtest")[module+"/resealtest"]
	own := goList(t, "-f", deps, "./store")[module+"/store"]
	if len(list) == 0 || len(own) == 0 {
		t.Fatal("go list knows no dependencies")
	}
	for _, p := range list {
		if strings.Contains(p, ".") && p != module+"/store" && !slices.Contains(own, p) {
			t.Errorf("resealtest depends on %s", p)
		}
	}
}

// The modules that a program gets with the library, and those that the command
// has besides. Who adds one says here why it is worth it.
var (
	libraryModules = []string{
		"github.com/dustin/go-humanize", // of modernc.org/sqlite, as are the next two
		"github.com/google/uuid",
		"github.com/remyoudompheng/bigfft",
		"github.com/mfridman/interpolate", // of goose, as are the next two
		"github.com/sethvargo/go-retry",
		"go.uber.org/multierr",
		"github.com/pressly/goose/v3", // migrations
		module,
		"golang.org/x/crypto", // XChaCha20-Poly1305, Argon2id
		"golang.org/x/sync",   // of goose
		"golang.org/x/sys",    // of x/crypto and modernc.org/libc
		"modernc.org/libc",
		"modernc.org/mathutil",
		"modernc.org/memory",
		"modernc.org/sqlite",
	}
	commandModules = []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"}
)

// modulesOf returns the modules of the packages that some packages depend on,
// without what their tests need.
func modulesOf(t *testing.T, packages ...string) []string {
	t.Helper()
	lists := goList(t, append([]string{"-deps", "-f", `{{with .Module}}{{.Path}}{{end}}`}, packages...)...)
	return slices.Sorted(maps.Keys(lists))
}

func TestDependencyBudget(t *testing.T) {
	library := slices.Sorted(slices.Values(libraryModules))
	Diff(t, "modules of the library", library, modulesOf(t, "./crypto", "./migrations", "./store", "./rotate"))
	Diff(t, "modules of the command", slices.Sorted(slices.Values(append(library, commandModules...))), modulesOf(t, "./cmd/reseal"))
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
