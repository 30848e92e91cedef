//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func commands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			all = append(all, commands(c)...)
		}
	}
	return all
}

func TestHelpEndsInAnExample(t *testing.T) {
	a := &app{stdout: &checkedWriter{w: &bytes.Buffer{}}, stderr: &bytes.Buffer{}}
	for _, c := range commands(a.rootCommand()) {
		if c.Example == "" || !strings.HasSuffix(c.UsageString(), "\nExample:\n"+c.Example+"\n") {
			t.Errorf("%s: help does not end in an example", c.CommandPath())
		}
		if c.Short == "" || c.HasParent() && len(c.Short) > 70 {
			t.Errorf("%s: no short help, or a long one", c.CommandPath())
		}
		for _, line := range strings.Split(c.UsageString()+c.Long, "\n") {
			if len(line) > 110 {
				t.Errorf("%s: a line of %d characters", c.CommandPath(), len(line))
			}
		}
	}
}

// exampleStore is a store on which every example does what it shows.
const exampleStore = `
	export RESEAL_KEY_FILE=reseal.key
	reseal init
	for k in mk-1 mk-2 unused going rotated; do reseal key create $k; done
	reseal key delete going
	reseal key rotate rotated
	for v in 1 2 3; do reseal random | reseal put app/db/password --key mk-1; done
	reseal random | reseal put old/token
	reseal delete old/token
	reseal random | reseal put env/TOKEN
	reseal random | reseal put damaged
	reseal random | reseal put damaged
	sqlite reseal.db "UPDATE reseal_secret_versions SET sealed = CAST(substr(sealed, 1, length(sealed) - 8) || x'0000000000000000' AS BLOB) WHERE number = 1 AND secret = (SELECT id FROM reseal_secrets WHERE name = 'damaged')"
	reseal backup reseal.backup`

// TestHelpExamplesWork pastes every example into a shell.
func TestHelpExamplesWork(t *testing.T) {
	dir := t.TempDir()
	shell := func(dir, script string) ([]byte, error) {
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RESEAL_DB=", "RESEAL_KEY_FILE=", "RESEAL_PASSPHRASE=", "RESEAL_PASSPHRASE_FILE=")
		return cmd.CombinedOutput()
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("SKIPPED: no bash to paste examples into")
	}
	if out, err := shell(dir, exampleStore); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// What an example needs before it, besides the store.
	before := map[string]string{
		"reseal":               "rm reseal.db reseal.key;",
		"reseal rotate pause":  openJobScript,
		"reseal rotate resume": openJobScript + "reseal rotate pause;",
		"reseal rotate cancel": openJobScript,
		"reseal rotate verify": "reseal rotate run --from mk-1 --to mk-2;",
		"reseal doctor":        "reseal discard damaged --version 1;",
		"reseal verify":        "reseal discard damaged --version 1;",
		"reseal unseal remove": "reseal unseal add --new-key-file spare.key; SLOT=$(reseal unseal list | sed -n '3s/ .*//p');",
	}
	a := &app{stdout: &checkedWriter{w: &bytes.Buffer{}}, stderr: &bytes.Buffer{}}
	for _, c := range commands(a.rootCommand()) {
		t.Run(strings.ReplaceAll(c.CommandPath(), " ", "_"), func(t *testing.T) {
			here := filepath.Join(t.TempDir(), "d")
			if out, err := exec.Command("cp", "-r", dir, here).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			example := strings.ReplaceAll(c.Example, "0a1b2c3d", `"$SLOT"`)
			out, err := shell(here, "export RESEAL_KEY_FILE=reseal.key; "+before[c.CommandPath()]+"\n"+example)
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, example, out)
			}
		})
	}
}

// openJobScript leaves a job open: one of its values does not unwrap.
const openJobScript = `sqlite reseal.db "UPDATE reseal_data_keys SET wrapped = CAST(substr(wrapped, 1, 100) || x'0000000000000000' AS BLOB) WHERE id = 1"
	reseal rotate run --from mk-1 --to mk-2 || true;`
