//go:build goexperiment.runtimesecret

package crypto

import "runtime/secret"

const shielded = true

func shield(f func()) { secret.Do(f) }
