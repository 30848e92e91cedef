//go:build reseal_format2

package crypto

import "sync/atomic"

// This file is not part of any release: the build tag adds a second format, by
// which the tests show that a store can go from one to the next. It is format 1
// under another suite byte, which goes into every derivation, so that neither
// format's bytes open as the other's.
const header2 = "RS1\x7f"

var writes2 atomic.Bool

// WriteFormat2 makes new envelopes ones of format 2, or of format 1 again.
func WriteFormat2(on bool) { writes2.Store(on) }

func writtenHeader() string {
	if writes2.Load() {
		return header2
	}
	return header
}

func readable(h []byte) bool { return string(h) == header || string(h) == header2 }
