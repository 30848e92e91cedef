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
	return getAlone(c.name, c.n, func(ctx context.Context, _ string) (string, error) {
		_, dir, err := sharedFolder(ctx, c.n, smallValue)
		return dir, err
	})
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

// getAnalyzed reads a store in which ANALYZE was run, or was not.
func getAnalyzed(analyzed bool) Side {
	name := "before"
	if analyzed {
		name = "after"
	}
	return getAlone(name, readFrom, func(ctx context.Context, dir string) (string, error) {
		s, err := filledStore(ctx, dir, readFrom, valueSize)
		if err != nil {
			return dir, err
		}
		if err := s.Close(); err != nil || !analyzed {
			return dir, err
		}
		return dir, analyze(ctx, dir)
	})
}

func verifySide(c count) Side {
	return Side{Name: c.name, N: c.n, Rounds: rounds(c.n), Open: func(ctx context.Context, _ string) (*Work, error) {
		_, dir, err := sharedFolder(ctx, c.n, smallValue)
		return &Work{Do: func(ctx context.Context, _ int) (Sample, error) { return inChild(ctx, "verify", dir) }}, err
	}}
}
