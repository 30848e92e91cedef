package rotate

import (
	"time"

	"github.com/reseal/reseal/store"
)

// Phase says what a run is doing.
type Phase string

// The phases of a run, in order.
const (
	Moving   Phase = "moving"
	Paused   Phase = "paused" // by somebody else; it goes on when the job is resumed
	Checking Phase = "checking"
	Settling Phase = "settling" // emptying the write-ahead log, rebuilding the file
)

// Progress is how far a run is.
type Progress struct {
	Job       string
	Mode      Mode
	From, To  string
	Phase     Phase
	State     store.JobState
	Total     int64 // data keys; when checking, those too
	Done      int64 // data keys moved; when checking, versions looked at
	Remaining int64
	Failed    int64         // left where they are, in this pass
	Elapsed   time.Duration // of this run
	Rate      float64       // data keys a second, of this run
	Left      time.Duration // as estimated; 0 if unknown
}

// Report is what a run did.
type Report struct {
	Job         string // "" if there was nothing to do, or several keys had something
	Mode        Mode
	From, To    string
	ToVersion   uint64
	Prefix      string
	MadeBefore  time.Time      // as in Options, or from TouchedBy
	State       store.JobState // store.JobComplete, or what the job was left as
	Total       int64          // data keys
	Done        int64          // moved, by this run and those before it
	Moved       int64          // moved by this run
	Replaced    int64          // of those, by new data keys with newly sealed values
	Remaining   int64
	Checked     int64 // versions read back
	Verified    bool  // all of them opened under the target
	Elapsed     time.Duration
	Rate        float64 // data keys a second, of this run
	Batches     int
	LongestLock time.Duration // the longest that one batch held the write lock

	// Failures are what was left where it is, or did not open when read back:
	// the first 1,000. Failed counts them all.
	Failures []store.Failure
	Failed   int64

	// CheckpointBusy says that a reader kept the write-ahead log, and so old
	// wraps in it, from being emptied into the file.
	CheckpointBusy bool

	Warnings []string
	Receipt  *store.Receipt // nil unless a job was completed

	// Keys are the reports of each key, when several were rotated by age.
	Keys []Report
}
