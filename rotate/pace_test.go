package rotate_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reseal/reseal/rotate"
	"github.com/reseal/reseal/store"
)

// In a bubble only waiting takes time, so that what a run lasts is what the rate
// asks for.
func TestRunKeepsToItsRate(t *testing.T) {
	for name, c := range map[string]struct {
		o        rotate.Options
		versions int
		want     time.Duration
	}{
		"gentle":            {rotate.Options{Key: "mk-1", Rate: 50}, 1, 6 * time.Second},
		"fast":              {rotate.Options{Key: "mk-1", Rate: 50, Fast: true}, 1, 6 * time.Second},
		"key to key":        {rotate.Options{From: "mk-1", To: "mk-2", Rate: 50}, 1, 6 * time.Second},
		"whole secrets":     {rotate.Options{From: "mk-1", To: "mk-2", Rate: 10}, 5, 150 * time.Second},
		"one key a second":  {rotate.Options{Key: "mk-1", Rate: 1}, 1, 300 * time.Second},
		"more than a batch": {rotate.Options{Key: "mk-1", Rate: 1000, Batch: 10}, 1, 300 * time.Millisecond},
		"no limit":          {rotate.Options{Key: "mk-1", Pause: -1}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				defer s.Close()
				fill(t, s, "app", 300, c.versions, 32)
				rotateKey(t, s, "mk-1")
				began := time.Now()
				if rep := runOK(t, s, c.o); rep.Moved != int64(300*c.versions) {
					t.Errorf("report: %+v", rep)
				}
				took := time.Since(began)
				if off := took - c.want; off < -c.want/10-100*time.Millisecond || off > c.want/10 {
					t.Errorf("%d data keys at %d a second took %v, want %v", 300*c.versions, c.o.Rate, took, c.want)
				}
			})
		})
	}
}

// A pause, however long, is no credit for the time after it.
func TestRateAfterPauseIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		defer s.Close()
		fill(t, s, "app", 300, 1, 32)
		var resumed time.Time
		var before int64
		o := rotate.Options{From: "mk-1", To: "mk-2", Rate: 50}
		o.Progress = func(p rotate.Progress) {
			var err error
			switch {
			case p.Phase == rotate.Moving && before == 0:
				before = p.Done
				err = rotate.Pause(t.Context(), s, p.Job)
			case p.Phase == rotate.Paused && resumed.IsZero():
				resumed = time.Now().Add(time.Hour)
				time.AfterFunc(time.Hour, func() {
					if err := rotate.Resume(t.Context(), s, p.Job); err != nil {
						t.Error(err)
					}
				})
			}
			if err != nil {
				t.Error(err)
			}
		}
		rep := runOK(t, s, o)
		want := time.Duration(300-before) * time.Second / 50
		if took := time.Since(resumed); took < want*9/10-100*time.Millisecond || took > want*11/10+time.Second {
			t.Errorf("after the pause %d data keys took %v, want %v", 300-before, took, want)
		}
		if rep.Rate < 40 || rep.Rate > 60 {
			t.Errorf("the report's rate is %.1f a second with the pause left out, want 50", rep.Rate)
		}
	})
}

func TestNegativeRateIsRefused(t *testing.T) {
	if _, err := rotate.Run(t.Context(), newStore(t), rotate.Options{Key: "mk-1", Rate: -1}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Run = %v", err)
	}
}
