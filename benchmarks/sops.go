package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"filippo.io/age"
)

// SOPSInstall installs the version of SOPS that was tried. Its packages import
// the SDKs of several clouds, so that the command is run instead, if it is there.
const SOPSInstall = "go install github.com/getsops/sops/v3/cmd/sops@v3.10.2"

// sopsFrom is how many secrets the file has: what encrypting and reading it takes
// grows with the square, to a minute for 10,000.
const sopsFrom = 2000

// sops is one file of secrets, whose data key is encrypted to the first of two
// age keys.
type sops struct {
	command string
	dir     string
	to      [2]string // recipients
	at      int       // the secret that was read last
}

// sopsSides are sides of SOPS, or none where it is not on the PATH.
func sopsSides(side Side, do func(s *sops, ctx context.Context, n int) error) []Side {
	command, err := exec.LookPath("sops")
	if err != nil {
		return nil
	}
	side.Open = func(ctx context.Context, dir string) (*Work, error) {
		s := &sops{command: command, dir: dir}
		if err := s.prepare(ctx); err != nil {
			return nil, err
		}
		return timed(func(ctx context.Context, n int) error { return do(s, ctx, n) }, nil), nil
	}
	return []Side{side}
}

func sopsPut() []Side {
	return sopsSides(Side{Name: "SOPS, 2,000 into one file", N: sopsFrom, Rounds: 2},
		func(s *sops, ctx context.Context, _ int) error { return s.encrypt(ctx) })
}

func sopsGet() []Side {
	return sopsSides(Side{Name: "SOPS, one file of 2,000, decrypt --extract", N: 1, Rounds: 3}, (*sops).get)
}

// sopsMove is what SOPS has for it: updatekeys encrypts the file's one data key to
// another key, as a rewrap does, and rotate replaces it and every value besides.
func sopsMove() []Side {
	move := func(name string, do func(s *sops, ctx context.Context, n int) error) []Side {
		return sopsSides(Side{Name: "SOPS, one file of 2,000, " + name, N: sopsFrom, Rounds: 2}, do)
	}
	return append(move("updatekeys", (*sops).updateKeys), move("rotate (values too)", (*sops).rotate)...)
}

// prepare makes the keys and the file.
func (s *sops) prepare(ctx context.Context) error {
	var keys strings.Builder
	for i := range s.to {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		s.to[i] = id.Recipient().String()
		fmt.Fprintln(&keys, id)
	}
	plain := make(map[string]string, sopsFrom)
	for i := range sopsFrom {
		plain[secretName(i)] = sopsValue
	}
	text, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	if err := first(os.WriteFile(s.path("keys.txt"), []byte(keys.String()), 0o600), os.WriteFile(s.path("plain.json"), text, 0o600)); err != nil {
		return err
	}
	return s.encrypt(ctx)
}

// sopsValue is a value of as many bytes as elsewhere, as text.
var sopsValue = strings.Repeat("x", valueSize)

func (s *sops) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sops) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.command, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "SOPS_AGE_KEY_FILE="+s.path("keys.txt"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("sops %s: %w: %s", args[0], err, stderr.String())
	}
	return out, nil
}

func (s *sops) encrypt(ctx context.Context) error {
	_, err := s.run(ctx, "encrypt", "--age", s.to[0], "--output", "secrets.json", "plain.json")
	return err
}

func (s *sops) get(ctx context.Context, n int) error {
	for range n {
		s.at = (s.at*21 + 17) % sopsFrom
		out, err := s.run(ctx, "decrypt", "--extract", fmt.Sprintf("[%q]", secretName(s.at)), "secrets.json")
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(out)) != sopsValue {
			return fmt.Errorf("sops gave another value")
		}
	}
	return nil
}

func (s *sops) updateKeys(ctx context.Context, _ int) error {
	s.to[0], s.to[1] = s.to[1], s.to[0]
	rules := fmt.Sprintf("creation_rules:\n  - age: %s\n", s.to[0])
	if err := os.WriteFile(s.path(".sops.yaml"), []byte(rules), 0o600); err != nil {
		return err
	}
	_, err := s.run(ctx, "updatekeys", "-y", "secrets.json")
	return first(err, s.isTo(s.to[0]))
}

func (s *sops) rotate(ctx context.Context, _ int) error {
	s.to[0], s.to[1] = s.to[1], s.to[0]
	_, err := s.run(ctx, "rotate", "-i", "--add-age", s.to[0], "--rm-age", s.to[1], "secrets.json")
	return first(err, s.isTo(s.to[0]))
}

// isTo checks that the file's data key is encrypted to one recipient only.
func (s *sops) isTo(recipient string) error {
	text, err := os.ReadFile(s.path("secrets.json"))
	if err != nil {
		return err
	}
	var file struct {
		SOPS struct {
			Age []struct{ Recipient string }
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return err
	}
	if a := file.SOPS.Age; len(a) != 1 || a[0].Recipient != recipient {
		return fmt.Errorf("sops left the file encrypted to %v", a)
	}
	return nil
}
