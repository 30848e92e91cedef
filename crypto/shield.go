//go:build !goexperiment.runtimesecret

package crypto

// shielded says whether shield does more than call.
const shielded = false

// shield calls f, whose work is on keys and values. Built with
// GOEXPERIMENT=runtimesecret it also erases the registers and the stack that f
// used, and what f left on the heap once that is garbage. This build relies on
// what the package clears itself.
func shield(f func()) { f() }
