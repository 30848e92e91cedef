package main

import (
	"golang.org/x/sys/unix"
)

// sureLimit is less than any Go program's address space: where the system locks
// all of a program's memory although the limit is below it, it does not heed the
// limit.
const sureLimit = 256 << 20

// guardMemory keeps keys and values off the disk, as far as the system lets it:
// no core dumps, and no swapping. Neither is passed on to programs that are run.
// It fails quietly: docs/threats.md says what then remains.
func guardMemory() {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY && limit.Cur >= sureLimit {
		return // it might be reached later, and memory run out
	}
	unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}
