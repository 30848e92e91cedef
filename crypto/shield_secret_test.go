//go:build goexperiment.runtimesecret

package crypto

import (
	"runtime/secret"
	"testing"
)

func TestShieldIsTheRuntimes(t *testing.T) {
	inside := false
	shield(func() { inside = secret.Enabled() })
	if !inside || secret.Enabled() {
		t.Errorf("shielded inside: %v, outside: %v", inside, secret.Enabled())
	}
}
