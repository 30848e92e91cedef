// Package faultvfs is a file system for SQLite that passes every call on to the
// real one, and on request makes one fail, or records what a power loss could
// do. Only tests import it.
//
// [Install] makes it the file system of every database that the process opens
// from then on, whoever opens it. [Count] lists the calls that some work makes,
// [Inject] makes the k-th of them fail, and [Record] keeps them in a [Log],
// whose [Log.Crash] gives the files as they may be found after the power failed
// at any of its events.
//
// It is one for the whole process: tests that use it do not run in parallel.
package faultvfs
