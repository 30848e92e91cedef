package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"time"
)

// RotationPlan is what a rotation would move now, what of it cannot be moved,
// and what its parts cost on this machine. Package rotate makes a forecast of it.
type RotationPlan struct {
	Spec      RotationSpec // with MadeBefore in place of TouchedBy
	ToVersion uint64       // the version of To that everything would be under
	Job       string       // the open job that the rotation would go on with, or ""

	// NewVersion says that the key would get that version first, by its age.
	NewVersion bool

	Versions   int64 // data keys that would move
	Labelled   int64 // of Versions: with a label other than pending
	Pending    int64 // of Versions: labelled pending and nothing else
	Unlabelled int64 // of Versions: without a label
	OfDeleted  int64 // of Versions: of deleted secrets, whatever their labels
	Replaced   int64 // of Versions: those that would get a new data key and sealed value
	ValueBytes int64 // of the sealed values of Replaced

	Secrets        int64 // live secrets with one of Versions, or configured with the key to leave
	DeletedSecrets int64 // deleted, restorable secrets with the same need
	Configured     int64 // of both, those that are configured with the key to leave and have no data key under it

	Concerned   int64 // versions that are read back at the end: those, and what is under the target already
	AllVersions int64 // versions in the store
	FileBytes   int64 // size of the database file

	Check PlanCheck
	Cost  PlanCost
	Disk  PlanDisk
}

// PlanCheck is what was found when the data keys that would move were opened,
// and with ModeReencrypt the values of those that would be replaced.
type PlanCheck struct {
	All      bool      // all were opened; otherwise some in random places
	Opened   int64     // versions
	Failing  int64     // of them, those that would stay where they are
	Failures []Failure // the first 1,000, with what helps
}

// PlanOptions are options of PlanRotation; nil is the same as the zero value.
type PlanOptions struct {
	// Deep opens everything that would move. Defaults to all if it is at most
	// 100,000 versions and 64 MiB of values, and otherwise some in random places.
	Deep bool

	// OlderThan plans as if the key first had a new version, which everything
	// would go to, if its newest is older. It applies to rotations to a key's
	// newest version. Defaults to not doing so.
	OlderThan time.Duration
}

// planner makes one plan.
type planner struct {
	Rotation
	o    PlanOptions
	plan RotationPlan

	// What the check saw, to tell how many pages a batch writes.
	keyPages, valuePages pageCounter
	opening              time.Duration
}

// PlanRotation says what StartRotation and what follows it would do. It changes
// nothing: what it measures it does in transactions that it rolls back, and in a
// file of its own beside the store's, which it removes.
//
// Errors are those of StartRotation; ErrBusy.
func (s *Store) PlanRotation(ctx context.Context, spec RotationSpec, opts *PlanOptions) (RotationPlan, error) {
	if err := firstError(s.needUnsealed(), spec.check()); err != nil {
		return RotationPlan{}, err
	}
	p := &planner{Rotation: Rotation{s: s, spec: spec, owner: newOwner()}}
	if opts != nil {
		p.o = *opts
	}
	for _, step := range []func(context.Context) error{p.scopeOf, p.countAll, p.check, p.measure} {
		if err := step(ctx); err != nil {
			return p.plan, err
		}
	}
	return p.plan, nil
}

// scopeOf resolves the keys and refuses what StartRotation would.
func (p *planner) scopeOf(ctx context.Context) error {
	return p.s.snapshot(ctx, func(q querier) error {
		t := p.s.newTx(ctx, q)
		from, to, err := p.spec.resolve(t)
		if err != nil {
			return err
		}
		kv, _, err := t.wrapper(to)
		if err != nil {
			return err
		}
		p.scope = scope{from: from.row, to: to.row, prefix: p.spec.Prefix, replaced: replacedBy(p.spec.Mode, p.spec.MadeBefore)}
		p.plan.Spec, p.plan.ToVersion = p.spec, kv.number
		p.plan.Spec.TouchedBy = 0
		if age := p.o.OlderThan; age > 0 && p.scope.version() && t.now-kv.createdAt >= age.Milliseconds() {
			p.plan.NewVersion = true
			p.plan.ToVersion++
		}
		jobs, err := loadJobs(ctx, q, whereOpen)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if j.fromRow == from.row {
				p.plan.Job = j.ID
				return p.refuseTakeUp(j, t.now)
			}
		}
		return p.refuseCrossing(jobs)
	})
}

// sources selects the key versions that data keys would leave.
func (p *planner) sources() string {
	if p.scope.version() && !p.plan.NewVersion {
		return oldVersions
	}
	return `
		SELECT kv.id
		FROM reseal_master_key_versions AS kv
		WHERE kv.master_key = ?1`
}

// countAll counts, in one snapshot.
func (p *planner) countAll(ctx context.Context) error {
	return p.s.snapshot(ctx, func(q querier) error {
		return firstError(p.countVersions(ctx, q), p.countSecrets(ctx, q), p.countRest(ctx, q))
	})
}

func (p *planner) countVersions(ctx context.Context, q querier) error {
	out, limit := &p.plan, int64(0)
	if p.scope.replaced.reencrypt {
		limit = p.scope.replaced.limit()
	}
	return q.QueryRowContext(ctx, `
		WITH moving AS (
			SELECT
				COALESCE(s.deleted_at, 0) <> 0 AS deleted,
				EXISTS (SELECT 1 FROM reseal_labels AS l WHERE l.secret_version = v.id AND l.label <> 'pending') AS labelled,
				EXISTS (SELECT 1 FROM reseal_labels AS l WHERE l.secret_version = v.id AND l.label = 'pending') AS pending,
				d.made_at < ?3 AS replaced,
				length(v.sealed) AS bytes
			FROM reseal_data_keys AS d
			LEFT JOIN reseal_secret_versions AS v ON v.id = d.id
			LEFT JOIN reseal_secrets AS s ON s.id = v.secret
			WHERE d.master_key_version IN (`+p.sources()+`) AND (?2 = '' OR substr(s.name, 1, length(?2)) = ?2)
		)
		SELECT
			count(*),
			COALESCE(sum(labelled), 0),
			COALESCE(sum(pending AND NOT labelled), 0),
			COALESCE(sum(NOT pending AND NOT labelled), 0),
			COALESCE(sum(deleted), 0),
			COALESCE(sum(replaced), 0),
			COALESCE(sum(bytes) FILTER (WHERE replaced), 0)
		FROM moving`, p.scope.from, p.scope.prefix, limit).Scan(
		&out.Versions, &out.Labelled, &out.Pending, &out.Unlabelled, &out.OfDeleted, &out.Replaced, &out.ValueBytes)
}

func (p *planner) countSecrets(ctx context.Context, q querier) error {
	return q.QueryRowContext(ctx, `
		WITH needing AS (
			SELECT DISTINCT v.secret
			FROM reseal_data_keys AS d
			JOIN reseal_secret_versions AS v ON v.id = d.id
			WHERE d.master_key_version IN (`+p.sources()+`)
		)
		SELECT
			count(*) FILTER (WHERE COALESCE(deleted_at, 0) = 0),
			count(*) FILTER (WHERE COALESCE(deleted_at, 0) <> 0),
			count(*) FILTER (WHERE id NOT IN (SELECT secret FROM needing))
		FROM reseal_secrets
		WHERE (id IN (SELECT secret FROM needing) OR (?3 AND master_key = ?1)) AND substr(name, 1, length(?2)) = ?2`,
		p.scope.from, p.scope.prefix, !p.scope.version()).Scan(&p.plan.Secrets, &p.plan.DeletedSecrets, &p.plan.Configured)
}

// countRest counts what is read at the end.
func (p *planner) countRest(ctx context.Context, q querier) error {
	var pages, size int64
	err := q.QueryRowContext(ctx, `
		SELECT
			(SELECT count(*) FROM reseal_secret_versions),
			(SELECT count(*) FROM reseal_data_keys WHERE master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key IN (?, ?)))`,
		p.scope.from, p.scope.to).Scan(&p.plan.AllVersions, &p.plan.Concerned)
	if err != nil {
		return err
	}
	err = q.QueryRowContext(ctx, `
		SELECT page_count, page_size
		FROM pragma_page_count, pragma_page_size`).Scan(&pages, &size)
	p.plan.FileBytes = pages * size
	return err
}

// folder returns the folder of the database file, or "" if it has none.
func (s *Store) folder(ctx context.Context) (string, error) {
	path := s.path
	if path == "" {
		err := s.read(ctx, func(q querier) error {
			return q.QueryRowContext(ctx, `SELECT COALESCE(file, '') FROM pragma_database_list WHERE name = 'main'`).Scan(&path)
		})
		if errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		if err != nil || path == "" {
			return "", err
		}
	}
	return filepath.Dir(path), nil
}
