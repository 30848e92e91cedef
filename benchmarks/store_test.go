package benchmarks

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// filled returns a store with n secrets of 1 KiB under the key "from".
func filled(b *testing.B, n int) *store.Store {
	b.Helper()
	ctx, dir := context.Background(), b.TempDir()
	cred, err := store.NewKeyFile(filepath.Join(dir, "key"))
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Create(ctx, filepath.Join(dir, "reseal.db"), cred, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if err := s.CreateKey(ctx, "from"); err != nil {
		b.Fatal(err)
	}
	value := make([]byte, 1<<10)
	for at := 0; at < n; at += 1000 {
		err := s.Update(ctx, func(tx *sql.Tx) error {
			for i := at; i < min(at+1000, n); i++ {
				if _, err := s.PutTx(ctx, tx, secretName(i), value, &store.PutOptions{Key: "from"}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func BenchmarkPut(b *testing.B) {
	s, ctx, value := filled(b, 0), context.Background(), make([]byte, 1<<10)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := s.Put(ctx, secretName(i), value, nil); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkPutInTransaction(b *testing.B) {
	s, ctx, value := filled(b, 0), context.Background(), make([]byte, 1<<10)
	b.ReportAllocs()
	b.ResetTimer()
	err := s.Update(ctx, func(tx *sql.Tx) error {
		for i := range b.N {
			if _, err := s.PutTx(ctx, tx, secretName(i), value, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkGet(b *testing.B) {
	const n = 10_000
	s, ctx := filled(b, n), context.Background()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i*31 + 17) % n
		if _, err := s.Get(ctx, secretName(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	s, ctx := filled(b, 1000), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if l, err := s.List(ctx, store.ListOptions{}); err != nil || len(l) != 1000 {
			b.Fatal(len(l), err)
		}
	}
}

func BenchmarkSetKey(b *testing.B) {
	s, ctx := filled(b, 1), context.Background()
	keys := []string{"default", "from"}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := s.SetKey(ctx, secretName(0), keys[i%2]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkRotate rewraps 10,000 secrets to the newest version of their key; an
// operation is the whole job with its verification.
func BenchmarkRotate(b *testing.B) {
	const n = 10_000
	s, ctx := filled(b, n), context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := s.RotateKey(ctx, "from"); err != nil {
			b.Fatal(err)
		}
		report, err := rotate.Run(ctx, s, rotate.Options{Key: "from"})
		if err != nil || report.Remaining != 0 {
			b.Fatal(report, err)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "rows/s")
}
