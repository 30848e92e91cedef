package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// days is a flag with a duration in which 30d is 30 days.
type days time.Duration

// Set parses a number of days like 30d, or what time.ParseDuration takes.
func (d *days) Set(s string) error {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		v, err := strconv.ParseFloat(n, 64)
		if err != nil || v < 0 || v > 36500 || math.IsNaN(v) {
			return errors.New("write it like 30d or 720h")
		}
		*d = days(v * float64(24*time.Hour))
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return errors.New("write it like 30d or 720h")
	}
	*d = days(v)
	return nil
}

func (d *days) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type names the flag's value in help.
func (d *days) Type() string { return "duration" }
