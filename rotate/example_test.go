package rotate_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// Rotation at start-up: each start gives master keys that are older than 90 days
// a new version and moves their secrets to it. Most starts find nothing to do.
// Several processes may start at once, and one that is killed leaves the rest to
// the next.
func ExampleRun_atStart() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "reseal")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	now := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	opts := &store.Options{Now: func() time.Time { return now }}
	cred, err := store.NewKeyFile(filepath.Join(dir, "reseal.key"))
	if err != nil {
		log.Fatal(err)
	}
	s, err := store.Create(ctx, filepath.Join(dir, "secrets.db"), cred, opts)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"app/db", "app/mail", "app/token"} {
		if _, err := s.Put(ctx, name, []byte("value of "+name), nil); err != nil {
			log.Fatal(err)
		}
	}

	start := func() {
		report, err := rotate.Run(ctx, s, rotate.Options{OlderThan: 90 * 24 * time.Hour})
		if err != nil {
			log.Print(err) // every secret can still be read, and the next start goes on
			return
		}
		fmt.Printf("%s: %d moved, verified %t\n", now.Format(time.DateOnly), report.Done, report.Verified)
	}
	start()
	now = now.Add(100 * 24 * time.Hour)
	start()
	start()

	// Output:
	// 2026-01-01: 0 moved, verified true
	// 2026-04-11: 3 moved, verified true
	// 2026-04-11: 0 moved, verified true
}

// After a leak: a new version of the key, a plan, and new data keys for
// everything that is under the older versions.
func ExamplePlan() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "reseal")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cred, err := store.NewKeyFile(filepath.Join(dir, "reseal.key"))
	if err != nil {
		log.Fatal(err)
	}
	s, err := store.Create(ctx, filepath.Join(dir, "secrets.db"), cred, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"app/db", "app/mail", "app/token"} {
		if _, err := s.Put(ctx, name, []byte("value of "+name), nil); err != nil {
			log.Fatal(err)
		}
	}

	if _, err := s.RotateKey(ctx, store.DefaultKeyName); err != nil {
		log.Fatal(err)
	}
	o := rotate.Options{Key: store.DefaultKeyName, Mode: rotate.Reencrypt}
	plan, err := rotate.Plan(ctx, s, o, rotate.PlanOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if fits, known := plan.DiskFits(); known && !fits || plan.Check.Failing > 0 {
		log.Fatal("see to the disk and to what does not open first: ", plan.Check.Failures)
	}
	fmt.Printf("%d of %d data keys to replace\n", plan.Replaced, plan.Versions)
	report, err := rotate.Run(ctx, s, o)
	if err != nil {
		log.Fatal(err) // what was not reached yet can still be read; the same again goes on
	}
	fmt.Printf("%d replaced, %d left, verified %t\n", report.Replaced, report.Remaining, report.Verified)

	// Output:
	// 3 of 3 data keys to replace
	// 3 replaced, 0 left, verified true
}
