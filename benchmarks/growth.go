package benchmarks

import (
	"context"
	"path/filepath"

	"github.com/reseal/reseal/store"
)

// growthCases do the same in stores of different sizes.
func growthCases() []Case {
	var gets, opens []Side
	for _, c := range counts {
		gets = append(gets, getOf(c))
		opens = append(opens, openOf(c))
	}
	return []Case{
		{ID: "growth/get", Title: "get 32 B by name, of so many secrets", Heavy: true, Sides: gets},
		{ID: "growth/open", Title: "open a store of so many secrets, key file", Heavy: true, Sides: opens},
		{ID: "growth/analyze", Title: "get 1 KiB by name, before and after ANALYZE", Sides: []Side{getAnalyzed(false), getAnalyzed(true)}},
		{ID: "verify/deep", Title: "verify --deep", Per: "version", Heavy: true, Sides: []Side{verifySide(counts[1]), verifySide(counts[2])}},
	}
}

func getOf(c count) Side {
	return Side{Name: c.name, Open: func(ctx context.Context, _ string) (*Work, error) {
		s, err := sharedStore(ctx, c.n, smallValue)
		if err != nil {
			return nil, err
		}
		i := 0
		return timed(func(ctx context.Context, n int) error {
			for range n {
				i = (i*21 + 17) % c.n
				if _, err := s.Get(ctx, secretName(i)); err != nil {
					return err
				}
			}
			return nil
		}, nil), nil
	}}
}

func openOf(c count) Side {
	return Side{Name: c.name, Open: func(ctx context.Context, _ string) (*Work, error) {
		_, dir, err := sharedFolder(ctx, c.n, smallValue)
		if err != nil {
			return nil, err
		}
		cred := store.KeyFile(filepath.Join(dir, "key"))
		return timed(func(ctx context.Context, n int) error {
			for range n {
				s, err := store.Open(ctx, filepath.Join(dir, "reseal.db"), cred, nil)
				if err != nil {
					return err
				}
				if err := s.Close(); err != nil {
					return err
				}
			}
			return nil
		}, nil), nil
	}}
}

// getAnalyzed is getSide in a store in which ANALYZE was run, or was not.
func getAnalyzed(analyzed bool) Side {
	side, name := getSide(1), "before"
	if analyzed {
		name = "after"
	}
	return Side{Name: name, Open: func(ctx context.Context, dir string) (*Work, error) {
		w, err := side.Open(ctx, dir)
		if err != nil || !analyzed {
			return w, err
		}
		return w, analyze(ctx, dir)
	}}
}

func verifySide(c count) Side {
	return Side{Name: c.name, N: c.n, Rounds: rounds(c.n), Open: func(ctx context.Context, _ string) (*Work, error) {
		_, dir, err := sharedFolder(ctx, c.n, smallValue)
		return &Work{Do: func(ctx context.Context, _ int) (Sample, error) { return inChild(ctx, "verify", dir) }}, err
	}}
}
