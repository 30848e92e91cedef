package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// What must be seen only where somebody asked for it.
const (
	canaryValue      = "cAnArY-VaLuE-9b41f0e2"
	canaryPassphrase = "cAnArY-PaSsPhRaSe-6d17c3"
)

// leakScan knows the forms in which a secret may be shown.
type leakScan map[string][]string

func (l leakScan) add(what string, secret []byte) {
	head := secret[:12]
	l[what] = append(l[what], string(head), hex.EncodeToString(head), strings.ToUpper(hex.EncodeToString(head)),
		base64.RawStdEncoding.EncodeToString(head), base64.RawURLEncoding.EncodeToString(head))
}

// seen says what is in a text, or "".
func (l leakScan) seen(text []byte) string {
	for what, forms := range l {
		for _, f := range forms {
			if bytes.Contains(text, []byte(f)) {
				return what
			}
		}
	}
	return ""
}

// leakCourse is a course of commands in which each has its turn, one a line. A
// line that begins with "!" fails, one with ">" may show the value.
const leakCourse = `
init --key-file k
key create mk-1
key create mk-2
put app/db
put app/db --label blue --token t-1 --description text --tag team=red
! put app/db --key mk-2
put app/two --key mk-1
put app/three
> get app/db
> get app/db --json
get app/db -o out
! get app/none
! get app/db --version 99
list
list --json
show app/db
explain app/db
label app/db green --version 1
tag app/db team=blue
set-key app/db mk-1
delete app/two
! get app/two
restore app/two
prune --all --keep 1
! discard app/db --version 1
import in.env --format dotenv
import in.json --format json
! import out --format json
> export --format json
export --format dotenv --prefix CANARY -o out.env
> random --length 40
key list
key show mk-1
key rotate mk-1
rotate plan --key mk-1
rotate run --key mk-1 --json --events
rotate run --from mk-1 --to mk-2 --scrub
rotate run --from mk-2 --to mk-1 --mode reencrypt
rotate run --from mk-1 --to mk-2 --mode reencrypt
rotate status
rotate verify --key mk-2
! rotate pause
! rotate resume
! rotate cancel
rotate value app/three --hook ./hook
key disable mk-2
! get app/db
! put app/db
key enable mk-2
key destroy-version mk-1 1
key set-default mk-2
key delete mk-1
key cancel-deletion mk-1
purge app/two --now --yes app/two
sweep
verify --deep
verify --json
doctor
unseal list
unseal add --new-passphrase-file p
unseal rotate-root --slot SLOT=p
! unseal remove 000000
migrate status
migrate up --dry-run
migrate validate
migrate lint
migrate get 1
! migrate up-to 1
! migrate down 0
! migrate restore none
anchor
audit list
audit verify
audit export
backup b.db
completion bash
version
help
demo --secrets 20 --db d.db
`

// leaf commands of the tree, by path: "key rotate".
func leaves(c *cobra.Command, path string) (all []string) {
	for _, s := range c.Commands() {
		p := strings.TrimSpace(path + " " + s.Name())
		if s.HasSubCommands() {
			all = append(all, leaves(s, p)...)
		} else {
			all = append(all, p)
		}
	}
	return all
}

func leakFolder(t *testing.T) (l leakScan) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("TMPDIR", dir)
	t.Setenv("RESEAL_KEY_FILE", "k")
	for name, text := range map[string]string{
		"p": canaryPassphrase + "\n", "hook": "#!/bin/sh\nif [ \"$RESEAL_STEP\" = create ]; then printf " + canaryValue + "; fi\n", "in.env": "CANARY_ONE='" + canaryValue + "'\n", "in.json": `{"canary/json": "` + canaryValue + `"}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l = leakScan{}
	l.add("value", []byte(canaryValue))
	l.add("passphrase", []byte(canaryPassphrase))
	return l
}

// passphraseSlot returns the id of the unseal slot of the passphrase.
func passphraseSlot(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	if run(t.Context(), []string{"unseal", "list", "--json"}, strings.NewReader(""), &out, &out) != 0 {
		t.Fatal(out.String())
	}
	var slots []struct{ ID, Kind string }
	if err := json.Unmarshal(out.Bytes(), &slots); err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if s.Kind == "passphrase" {
			return s.ID
		}
	}
	t.Fatalf("no slot of a passphrase in %s", &out)
	return ""
}

// addKeyFile knows the key file's key from now on.
func (l leakScan) addKeyFile(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("k")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(text, []byte("reseal-key-v1:"))
	raw, err := hex.DecodeString(string(line[:64]))
	if err != nil {
		t.Fatal(err)
	}
	l.add("key", raw)
}

// Every command runs with a canary as its value, with a passphrase and with a
// key file. Nothing shows them, or any key that the store ever had, but what is
// there to show a value, and no file holds them but those that they were written
// to on request.
func TestNoCommandLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	l := leakFolder(t)
	ran := map[string]bool{}
	keys := map[string]string{}
	for line := range strings.Lines(strings.TrimSpace(leakCourse)) {
		line = strings.TrimSpace(line)
		args, fails := strings.CutPrefix(line, "! ")
		args, shows := strings.CutPrefix(args, "> ")
		var out, errs bytes.Buffer
		if strings.Contains(args, "SLOT") {
			args = strings.ReplaceAll(args, "SLOT", passphraseSlot(t))
		}
		code := run(t.Context(), strings.Fields(args), strings.NewReader(canaryValue), &out, &errs)
		if (code != 0) != fails {
			t.Errorf("%s: exit code %d: %s", line, code, &errs)
		}
		ran[args] = true
		if args == "init --key-file k" {
			l.addKeyFile(t)
		}
		l.learn(t, keys)
		if what := l.seen(out.Bytes()); what != "" && !shows {
			t.Errorf("%s prints the %s", line, what)
		} else if what == "" && strings.HasPrefix(line, "> get") {
			t.Errorf("%s prints no value: the scan has no teeth", line)
		}
		if what := l.seen(errs.Bytes()); what != "" {
			t.Errorf("%s complains with the %s", line, what)
		}
	}
	scanFiles(t, l)
	everyCommandRan(t, ran)
	count := map[string]int{}
	for key, what := range keys {
		count[what]++
		if l.seen([]byte(hex.EncodeToString([]byte(key)))) != what {
			t.Errorf("the scan does not know a %s", what)
		}
	}
	t.Logf("%v looked for", count)
	if count["root key"] < 2 || count["master key"] < 4 || count["data key"] < 10 {
		t.Errorf("only %v were there to be found", count)
	}
}

// scanFiles looks into every file of the folder, but those that hold a secret
// because somebody asked for it.
func scanFiles(t *testing.T, l leakScan) {
	t.Helper()
	asked := map[string]bool{"p": true, "hook": true, "in.env": true, "in.json": true, "out": true, "out.env": true, "k": true}
	scanned, found := 0, 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		what := l.seen(data)
		switch {
		case asked[path] && what != "":
			found++
		case what != "":
			t.Errorf("%s holds the %s", path, what)
		}
		scanned++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < len(asked) || scanned < found+3 {
		t.Errorf("%d files scanned, a secret found in %d of the %d that hold one", scanned, found, len(asked))
	}
}

func everyCommandRan(t *testing.T, ran map[string]bool) {
	t.Helper()
	a := &app{stdin: strings.NewReader(""), stdout: &checkedWriter{w: new(bytes.Buffer)}, stderr: new(bytes.Buffer), now: time.Now}
	for _, leaf := range leaves(a.rootCommand(), "") {
		did := strings.HasPrefix(leaf, "completion ")
		for args := range ran {
			did = did || args == leaf || strings.HasPrefix(args, leaf+" ")
		}
		if !did {
			t.Errorf("%s has no turn", leaf)
		}
	}
}
