package main

import (
	"regexp"
	"strings"
)

// inWords says what cobra and strconv say in words of a user's.
func inWords(msg string) string {
	if m := requiredFlags.FindStringSubmatch(msg); m != nil {
		return "give " + dashed(m[1], `", "`, " and ")
	}
	if m := oneOfFlags.FindStringSubmatch(msg); m != nil {
		return "give one of " + dashed(m[1], " ", ", ")
	}
	if m := notTogetherFlags.FindStringSubmatch(msg); m != nil {
		return dashed(m[1], " ", " and ") + ": give one of them"
	}
	if before, _, ok := strings.Cut(msg, " flag: strconv."); ok {
		return before + ": it takes " + flagNumber(msg)
	}
	return msg
}

var (
	requiredFlags    = regexp.MustCompile(`^required flag\(s\) "(.*)" not set$`)
	oneOfFlags       = regexp.MustCompile(`^at least one of the flags in the group \[(.*)\] is required$`)
	notTogetherFlags = regexp.MustCompile(`^if any flags in the group \[.*\] are set none of the others can be; \[(.*)\] were all set$`)
)

func dashed(names, sep, between string) string {
	return "--" + strings.ReplaceAll(names, sep, between+"--")
}

func flagNumber(msg string) string {
	switch {
	case strings.Contains(msg, "ParseBool"):
		return "true or false"
	case strings.Contains(msg, "ParseUint"):
		return "a whole number, not negative"
	}
	return "a whole number"
}
