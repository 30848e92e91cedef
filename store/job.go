package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/reseal/reseal/crypto"
)

// The rotation modes. ModeRewrap gives each data key a new wrap and leaves the
// sealed values as they are. ModeReencrypt gives each secret version a new data
// key and seals its value anew; what a limit by date leaves out of that is
// rewrapped.
const (
	ModeRewrap    = "rewrap"
	ModeReencrypt = "reencrypt"
)

// JobState is the state of a rotation job.
type JobState string

// The states of a rotation job. Running, incomplete and paused jobs are open:
// they hold their from-key.
const (
	JobRunning    JobState = "running"    // a process is at work on it
	JobIncomplete JobState = "incomplete" // nobody is; running it again goes on
	JobPaused     JobState = "paused"
	JobComplete   JobState = "complete"
	JobCancelled  JobState = "cancelled"
)

// Open reports whether the job is unfinished.
func (s JobState) Open() bool { return s == JobRunning || s == JobIncomplete || s == JobPaused }

// Job is a rotation job.
type Job struct {
	ID        string // 32 hexadecimal digits; "" if there was nothing to do
	Mode      string
	From      string // the master key that is left
	To        string // the one that is gone to; From again for its newest version
	ToVersion uint64 // the version of To that wraps what was moved last
	Prefix    string // only secrets whose names begin with it
	// MadeBefore limits ModeReencrypt to data keys that were made before it; the
	// others are rewrapped. It is zero without a limit.
	MadeBefore time.Time
	State      JobState
	Total      int64 // data keys to move, as known by now
	Done       int64 // data keys moved
	Remaining  int64 // data keys still to move, counted
	Verified   bool  // everything moved was read back under its new wrap
	Owner      string
	StartedAt  time.Time
	UpdatedAt  time.Time
	// FinishedAt is zero while the job is open.
	FinishedAt time.Time
	Receipt    *Receipt // nil unless complete
}

// Command returns the command line that goes on with the job.
func (j Job) Command() string {
	var b strings.Builder
	b.WriteString("reseal rotate run")
	if j.From == j.To {
		b.WriteString(" --key " + j.From)
	} else {
		b.WriteString(" --from " + j.From + " --to " + j.To)
	}
	if j.Mode != ModeRewrap {
		b.WriteString(" --mode " + j.Mode)
	}
	if !j.MadeBefore.IsZero() {
		b.WriteString(" --made-before " + j.MadeBefore.UTC().Format(time.RFC3339Nano))
	}
	if j.Prefix != "" {
		b.WriteString(" --prefix " + j.Prefix)
	}
	return b.String()
}

// jobRow is a job as it lies in its row.
type jobRow struct {
	Job
	row        int64
	id         crypto.ID
	fromRow    int64
	toRow      int64
	leaseOwner string
	leaseUntil int64
}

const selectJob = `
	SELECT
		j.id,
		j.job_id,
		j.mode,
		j.from_key,
		f.name,
		j.to_key,
		k.name,
		j.to_version,
		j.prefix,
		j.made_before,
		j.state,
		j.total,
		j.done,
		j.lease_owner,
		j.lease_until,
		j.started_at,
		j.updated_at,
		COALESCE(j.finished_at, 0),
		COALESCE(j.receipt, '')
	FROM reseal_rotation_jobs AS j
	JOIN reseal_master_keys AS f ON f.id = j.from_key
	JOIN reseal_master_keys AS k ON k.id = j.to_key`

func scanJob(scan func(...any) error) (*jobRow, error) {
	var j jobRow
	var id []byte
	var madeBefore, started, updated, finished int64
	var receipt string
	err := scan(
		&j.row,
		&id,
		&j.Mode,
		&j.fromRow,
		&j.From,
		&j.toRow,
		&j.To,
		&j.ToVersion,
		&j.Prefix,
		&madeBefore,
		&j.State,
		&j.Total,
		&j.Done,
		&j.leaseOwner,
		&j.leaseUntil,
		&started,
		&updated,
		&finished,
		&receipt,
	)
	if err != nil {
		return nil, err
	}
	copy(j.id[:], id)
	j.ID = j.id.String()
	j.Owner = describeOwner(j.leaseOwner)
	j.MadeBefore = fromMillis(madeBefore)
	j.StartedAt, j.UpdatedAt, j.FinishedAt = fromMillis(started), fromMillis(updated), fromMillis(finished)
	if receipt == "" {
		return &j, nil
	}
	j.Receipt = new(Receipt)
	if err := json.Unmarshal([]byte(receipt), j.Receipt); err != nil {
		return nil, damaged("receipt of job %s: %v", j.ID, err)
	}
	j.Verified = j.Receipt.Verified
	return &j, nil
}

// loadJobs reads the jobs that a condition chooses, oldest first.
func loadJobs(ctx context.Context, q querier, where string, args ...any) ([]*jobRow, error) {
	rows, err := q.QueryContext(ctx, selectJob+where+` ORDER BY j.id`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*jobRow
	for rows.Next() {
		j, err := scanJob(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, rows.Err()
}

const whereOpen = ` WHERE j.state IN ('running', 'paused')`

// loadJob reads the job of that id. Part of the id will do if it is at least
// six digits and only one job's.
func loadJob(ctx context.Context, q querier, id string) (*jobRow, error) {
	unknown := &Error{Op: "find job " + id, Err: ErrNotFound, Remedy: "reseal rotate status"}
	if _, err := hex.DecodeString(id + strings.Repeat("0", len(id)%2)); err != nil || len(id) < 6 || len(id) > 32 {
		return nil, unknown
	}
	jobs, err := loadJobs(ctx, q, ` WHERE substr(lower(hex(j.job_id)), 1, length(?1)) = ?1`, strings.ToLower(id))
	if err != nil {
		return nil, err
	}
	if len(jobs) != 1 {
		return nil, unknown
	}
	return jobs[0], nil
}

// Jobs returns all rotation jobs, oldest first. What remains is counted for
// those that are open.
func (s *Store) Jobs(ctx context.Context) ([]Job, error) {
	var out []Job
	err := s.snapshot(ctx, func(q querier) error {
		jobs, err := loadJobs(ctx, q, "")
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if j.State.Open() {
				if err := j.count(ctx, q); err != nil {
					return err
				}
			}
			j.State = j.stateAt(s.now())
			out = append(out, j.Job)
		}
		return nil
	})
	return out, err
}

// count counts what remains and corrects the total by it.
func (j *jobRow) count(ctx context.Context, q querier) error {
	n, err := j.scope().remaining(ctx, q)
	if err != nil {
		return err
	}
	j.Remaining, j.Total = n, j.Done+n
	return nil
}

func (j *jobRow) stateAt(now int64) JobState {
	if j.State == JobRunning && (j.leaseOwner == "" || j.leaseFree(now)) {
		return JobIncomplete
	}
	return j.State
}

// scope is which data keys a job is about, and what it does with them.
type scope struct {
	from, to int64 // rows of master keys
	prefix   string
	replaced replaced
}

func (j *jobRow) scope() scope {
	return scope{from: j.fromRow, to: j.toRow, prefix: j.Prefix, replaced: replacedBy(j.Mode, j.MadeBefore)}
}

// version reports whether the job goes from the older versions of a master key
// to its newest.
func (sc scope) version() bool { return sc.from == sc.to }

// remaining counts what the job still has to move: data keys, and secrets that
// are configured with the from-key without having a data key under it.
func (sc scope) remaining(ctx context.Context, q querier) (int64, error) {
	if sc.version() {
		return sc.countWraps(ctx, q, `
			SELECT kv.id
			FROM reseal_master_key_versions AS kv
			JOIN reseal_master_keys AS k ON k.id = kv.master_key
			WHERE k.id = ? AND kv.number <> k.primary_version`)
	}
	n, err := sc.countWraps(ctx, q, `
		SELECT id
		FROM reseal_master_key_versions
		WHERE master_key = ?`)
	if err != nil {
		return 0, err
	}
	var configured int64
	err = q.QueryRowContext(ctx, `
		SELECT count(*)
		FROM reseal_secrets AS s
		WHERE s.master_key = ?1 AND substr(s.name, 1, length(?2)) = ?2 AND NOT EXISTS (
			SELECT 1
			FROM reseal_secret_versions AS v
			JOIN reseal_data_keys AS d ON d.id = v.id
			JOIN reseal_master_key_versions AS kv ON kv.id = d.master_key_version
			WHERE v.secret = s.id AND kv.master_key = ?1)`, sc.from, sc.prefix).Scan(&configured)
	return n + configured, err
}

// countWraps counts the data keys under the master key versions that sources
// selects. Without a prefix it touches only the narrow table.
func (sc scope) countWraps(ctx context.Context, q querier, sources string) (n int64, err error) {
	var row *sql.Row
	if sc.prefix == "" {
		row = q.QueryRowContext(ctx, `
			SELECT count(*)
			FROM reseal_data_keys
			WHERE master_key_version IN (`+sources+`)`, sc.from)
	} else {
		row = q.QueryRowContext(ctx, `
			SELECT count(*)
			FROM reseal_data_keys AS d
			JOIN reseal_secret_versions AS v ON v.id = d.id
			JOIN reseal_secrets AS s ON s.id = v.secret
			WHERE d.master_key_version IN (`+sources+`) AND substr(s.name, 1, length(?2)) = ?2`, sc.from, sc.prefix)
	}
	err = row.Scan(&n)
	return n, err
}

func errNotOpen(j *jobRow, op string) error {
	return &Error{Op: op + " job " + j.ID, Err: ErrNotFound, Detail: "the job is " + string(j.State), Remedy: "reseal rotate status"}
}

// RotationRemaining counts what a rotation would have to move now.
func (s *Store) RotationRemaining(ctx context.Context, spec RotationSpec) (n int64, err error) {
	if err := spec.check(); err != nil {
		return 0, err
	}
	err = s.snapshot(ctx, func(q querier) error {
		from, err := loadKeyByName(ctx, q, spec.From)
		if err != nil {
			return err
		}
		to, err := loadKeyByName(ctx, q, spec.To)
		if err != nil {
			return err
		}
		n, err = scope{from: from.row, to: to.row, prefix: spec.Prefix}.remaining(ctx, q)
		return err
	})
	return n, err
}
