//go:build !reseal_format2

package crypto

// writtenHeader is the header of new envelopes.
func writtenHeader() string { return header }

// readable reports whether an envelope with this header can be opened. A later
// format adds its header here, and stores hold both until the older one was
// moved on by a rotation that reencrypts.
func readable(h []byte) bool { return string(h) == header }
