//go:build !linux

package main

// guardMemory has nothing to offer here.
func guardMemory() {}
