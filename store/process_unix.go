//go:build unix

package store

import (
	"errors"
	"syscall"
)

// processDead reports whether there is certainly no process of that number.
func processDead(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
