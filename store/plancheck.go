package store

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"time"

	"github.com/reseal/reseal/crypto"
)

const (
	// Everything that would move is opened if it is not more than this.
	planAllVersions = 100_000
	planAllBytes    = 64 << 20

	// Otherwise the versions in so many places, of so many rows.
	planPlaces    = 64
	planPlaceRows = 256

	planPageRows    = 2048
	planPageSecrets = 128
)

// check opens what would move, with the code of this page and not the mover's,
// on readers' connections.
func (p *planner) check(ctx context.Context) error {
	p.plan.Check.All = p.o.Deep || p.plan.Versions <= planAllVersions && p.plan.ValueBytes <= planAllBytes
	p.plan.Check.Failures = []Failure{}
	p.keyPages.perPage = 30
	if n := p.plan.Replaced; n > 0 {
		p.valuePages.perPage = max(1, 4000/(p.plan.ValueBytes/n+60))
	}
	page, places := p.checkRows, int64(0)
	if !p.scope.version() {
		page = p.checkSecrets
	}
	c := &checkRun{limit: planPageRows}
	defer func() { clear(c.value[:cap(c.value)]) }()
	for {
		if !p.plan.Check.All {
			if places++; places > planPlaces {
				return nil
			}
			c.limit = planPlaceRows
			if err := p.randomPlace(ctx, c); err != nil {
				return err
			}
		}
		began := time.Now()
		err := p.s.snapshot(ctx, func(q querier) error { return page(p.s.newTx(ctx, q), c) })
		if err = firstError(err, ctx.Err()); err != nil {
			return err
		}
		p.opening += time.Since(began)
		if p.plan.Check.All && c.end {
			return nil
		}
	}
}

// checkRun is the place where the check is.
type checkRun struct {
	after int64 // row of the data key, or of the secret, that was looked at last
	limit int
	end   bool
	value []byte // room for the value that is opened
}

// randomPlace goes to a random row.
func (p *planner) randomPlace(ctx context.Context, c *checkRun) error {
	table := "reseal_data_keys"
	if !p.scope.version() {
		table = "reseal_secrets"
	}
	return p.s.snapshot(ctx, func(q querier) error {
		var last int64
		err := q.QueryRowContext(ctx, `SELECT COALESCE(max(id), 0) FROM `+table).Scan(&last)
		c.after = rand.Int64N(max(1, last))
		return err
	})
}

// reader returns what opens data keys where they are.
func (t *tx) reader(to *masterKey, kv keyVersion) *mover {
	return &mover{t: t, to: to, kv: kv, sources: map[int64]*source{}}
}

// checkRows opens the next data keys of a rotation to a key's newest version.
func (p *planner) checkRows(t *tx, c *checkRun) error {
	limit := int64(0)
	if p.scope.replaced.reencrypt {
		limit = p.scope.replaced.limit()
	}
	rows, err := t.q.QueryContext(t.ctx, `
		SELECT d.id, d.master_key_version, d.wrapped, v.version_id, v.number, s.secret_id, s.name, CASE WHEN d.made_at < ?5 THEN v.sealed END
		FROM reseal_data_keys AS d
		LEFT JOIN reseal_secret_versions AS v ON v.id = d.id
		LEFT JOIN reseal_secrets AS s ON s.id = v.secret
		WHERE d.id > ?2 AND d.master_key_version IN (`+p.sources()+`) AND (?4 = '' OR substr(s.name, 1, length(?4)) = ?4)
		ORDER BY d.id
		LIMIT ?3`, p.scope.from, c.after, c.limit, p.scope.prefix, limit)
	if err != nil {
		return err
	}
	m := t.reader(nil, keyVersion{})
	failed, n, err := p.scanRows(m, c, rows)
	if err != nil {
		return err
	}
	c.end = n < c.limit
	for _, f := range failed {
		failure, err := t.describeFailure(f.batchRow, m.source(f.source), f.err)
		if err != nil {
			return err
		}
		p.fail(failure, 1)
	}
	return nil
}

func (p *planner) scanRows(m *mover, c *checkRun, rows *sql.Rows) (failed []foundRow, n int, err error) {
	defer rows.Close()
	var wrapped, versionID, secretID, name, sealed sql.RawBytes
	var number sql.NullInt64
	for ; rows.Next(); n++ {
		var row foundRow
		if err := rows.Scan(&row.id, &row.source, &wrapped, &versionID, &number, &secretID, &name, &sealed); err != nil {
			return nil, n, err
		}
		c.after = row.id
		at := place{name: string(name), number: uint64(number.Int64)}
		copy(at.versionID[:], versionID)
		copy(at.secretID[:], secretID)
		if err := p.opens(m, c, row.id, m.source(row.source), at, sealed, wrapped); err != nil {
			row.err = err
			failed = append(failed, row)
		}
	}
	return failed, n, rows.Err()
}

// checkSecrets opens all versions of the next secrets of a rotation from key to
// key. A secret stays whole if one of them does not open.
func (p *planner) checkSecrets(t *tx, c *checkRun) error {
	to, err := t.key(p.scope.to)
	if err != nil {
		return err
	}
	kv, wrapper, err := t.wrapper(to)
	if err != nil {
		return err
	}
	m := t.reader(to, kv)
	m.wrapper = wrapper
	next, err := p.nextSecrets(t, c.after, planPageSecrets)
	if err != nil {
		return err
	}
	c.end = len(next) < planPageSecrets
	enough := p.plan.Check.Opened + planPlaceRows
	for _, sec := range next {
		if !p.plan.Check.All && p.plan.Check.Opened >= enough {
			break
		}
		c.after = sec.row
		err := p.checkSecret(m, c, sec)
		if failsAlone(err) {
			p.fail(failureOf(sec.name, err), max(1, sec.versionCount))
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) checkSecret(m *mover, c *checkRun, sec *secret) error {
	if err := p.s.keys.checkSecret(sec); err != nil {
		return err
	}
	versions, err := m.load(sec)
	if err != nil {
		return err
	}
	for _, d := range versions {
		from := m.source(d.keyVersion)
		if d.keyVersion == m.kv.row {
			err = m.prove(d)
		} else {
			var sealed []byte
			if p.scope.replaced.has(d.madeAt) {
				if err := m.t.queryRow(`SELECT sealed FROM reseal_secret_versions WHERE id = ?`, d.row).Scan(&sealed); err != nil {
					return err
				}
			}
			at := place{secretID: sec.id, name: sec.name, number: d.number, versionID: d.versionID}
			err = p.opens(m, c, d.row, from, at, sealed, d.wrapped)
		}
		if err != nil {
			return m.versionError(sec, d, from, err)
		}
	}
	return nil
}

// opens opens a data key, and a value if there is one.
func (p *planner) opens(m *mover, c *checkRun, row int64, from *source, at place, sealed, wrapped []byte) error {
	p.plan.Check.Opened++
	p.keyPages.add(row)
	if from.err != nil {
		return from.err
	}
	var buf [192]byte
	store := p.s.keys.storeID
	context := crypto.AppendDataKeyContext(buf[:0], store, at.versionID, from.key.id, from.version.number)
	switch {
	case at.versionID == (crypto.ID{}):
		return damaged("its secret version is missing")
	case sealed == nil:
		return from.material.CheckWrap(wrapped, context)
	case at.name == "":
		return damaged("its secret is missing")
	}
	p.valuePages.add(row)
	var long [384]byte
	value, err := from.material.OpenValue(c.value[:0], sealed, wrapped,
		crypto.AppendValueContext(long[:0], store, at.secretID, at.name, at.number, at.versionID), context)
	clear(value)
	if err == nil {
		c.value = value[:0]
	}
	return err
}

func (p *planner) fail(f Failure, versions int64) {
	p.plan.Check.Failing += versions
	if len(p.plan.Check.Failures) < maxFailures {
		p.plan.Check.Failures = append(p.plan.Check.Failures, f)
	}
}

// pageCounter tells how many pages the rows of a batch lie on, by their ids.
type pageCounter struct {
	perPage int64
	rows    int64
	pages   int64
	group   map[int64]struct{}
}

// pageGroup is after how many rows a page counts again: another batch writes it
// again.
const pageGroup = 500

func (c *pageCounter) add(row int64) {
	if c.rows%pageGroup == 0 {
		c.group = map[int64]struct{}{}
	}
	c.rows++
	page := row / c.perPage
	if _, ok := c.group[page]; !ok {
		c.group[page] = struct{}{}
		c.pages++
	}
}

// perRow is how many pages a row takes, at most 1.
func (c *pageCounter) perRow() float64 {
	if c.rows == 0 {
		return 0
	}
	return float64(c.pages) / float64(c.rows)
}
