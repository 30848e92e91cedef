package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/reseal/reseal/store"
)

// Replacing a master key: the old one cannot be destroyed while any version of
// any secret needs it, one call moves them all, and then it can.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "reseal")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	now := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	cred := store.Passphrase([]byte("correct horse battery staple"))
	s, err := store.Create(ctx, filepath.Join(dir, "reseal.db"), cred, &store.Options{
		KDF: fastKDF, // of no use outside tests
		Now: func() time.Time { return now },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	// A secret with five versions under mk-1.
	check(s.CreateKey(ctx, "mk-1"))
	for _, label := range []string{"custom", "unlabelled", store.LabelCurrent, store.LabelCurrent, store.LabelPending} {
		_, err := s.Put(ctx, "sec-1", []byte("value for "+label), &store.PutOptions{Key: "mk-1", Label: label})
		check(err)
	}
	check(s.RemoveLabel(ctx, "sec-1", "unlabelled"))

	// Its key cannot go, not even while the secret is deleted.
	_, err = s.ScheduleKeyDeletion(ctx, "mk-1", 0)
	fmt.Println(err)
	_, err = s.Delete(ctx, "sec-1", 0)
	check(err)
	_, err = s.ScheduleKeyDeletion(ctx, "mk-1", 0)
	fmt.Println(err)
	_, err = s.Restore(ctx, "sec-1")
	check(err)

	// A disabled key says what it holds up, and what to do.
	_, err = s.DisableKey(ctx, "mk-1")
	check(err)
	_, err = s.Get(ctx, "sec-1")
	fmt.Println(err)
	var facts *store.Error
	if errors.As(err, &facts) {
		fmt.Println(facts.Remedy)
	}

	// Moving the secret needs no enabled key, and moves every version.
	check(s.CreateKey(ctx, "mk-2"))
	moved, err := s.SetKey(ctx, "sec-1", "mk-2")
	check(err)
	fmt.Println(moved.Rewrapped, "versions moved from", moved.From, "to", moved.To)
	info, err := s.Show(ctx, "sec-1")
	check(err)
	for _, v := range info.Versions {
		fmt.Println(v.Version, v.EffectiveKey, v.Labels)
	}

	// Now mk-1 can go, when its date has passed and somebody sweeps.
	at, err := s.ScheduleKeyDeletion(ctx, "mk-1", 7*24*time.Hour)
	check(err)
	now = at
	report, err := s.Sweep(ctx, false)
	check(err)
	fmt.Println("destroyed", report.DestroyedKeys)
	for n := uint64(1); n <= 5; n++ {
		v, err := s.Get(ctx, "sec-1", store.Version(n))
		check(err)
		fmt.Printf("%d %s\n", v.Version, v.Bytes())
		v.Clear()
	}

	// Output:
	// schedule deletion of key "mk-1": master key has dependents: needed by 1 secret, 5 versions (labelled 3, pending 1, unlabelled 1, of deleted secrets 0): sec-1; key is enabled
	// schedule deletion of key "mk-1": master key has dependents: needed by 1 deleted, restorable secret, 5 versions (labelled 3, pending 1, unlabelled 1, of deleted secrets 5): sec-1; key is enabled
	// get secret "sec-1" version 4 (current): master key is unavailable; configured key "mk-1"; effective key "mk-1" version 1; key is disabled
	// reseal key enable mk-1
	// 5 versions moved from mk-1 to mk-2
	// 1 mk-2 [custom]
	// 2 mk-2 []
	// 3 mk-2 [previous]
	// 4 mk-2 [current]
	// 5 mk-2 [pending]
	// destroyed [mk-1]
	// 1 value for custom
	// 2 value for unlabelled
	// 3 value for current
	// 4 value for current
	// 5 value for pending
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
