package store

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reseal/reseal/crypto"
)

// leaseTime is how long a job stays its owner's without a batch. A dead
// process's job is free after that, or at once if it ran on this machine.
const leaseTime = 30 * time.Second

// newOwner names this process, and this run of it, as the owner of a lease:
// host, process number, nonce.
func newOwner() string {
	return fmt.Sprintf("%s %d %s", thisHost(), os.Getpid(), crypto.NewID().String()[:8])
}

// thisHost names the machine, and the process number space where there are
// several: a number says nothing in another container.
var thisHost = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil {
		host += "/" + ns
	}
	return strings.ReplaceAll(host, " ", "_")
})

// describeOwner says in words who holds a lease.
func describeOwner(owner string) string {
	host, pid, ok := splitOwner(owner)
	if !ok {
		return ""
	}
	host, _, _ = strings.Cut(host, "/")
	return fmt.Sprintf("process %d on %s", pid, host)
}

func splitOwner(owner string) (host string, pid int, ok bool) {
	parts := strings.Split(owner, " ")
	if len(parts) != 3 {
		return "", 0, false
	}
	pid, err := strconv.Atoi(parts[1])
	return parts[0], pid, err == nil && pid > 0
}

// leaseFree reports whether the job can be taken over: nobody holds it, its
// lease has run out, or its owner was a process of this machine that is dead.
func (j *jobRow) leaseFree(now int64) bool {
	if j.leaseOwner == "" || j.leaseUntil <= now {
		return true
	}
	host, pid, ok := splitOwner(j.leaseOwner)
	return ok && host == thisHost() && processDead(pid)
}
