package storetest

import "github.com/reseal/reseal/resealtest"

// What is in package resealtest now, under the names that tests knew.
const Passphrase = resealtest.Passphrase

type (
	Store   = resealtest.Store
	Options = resealtest.Options
	Clock   = resealtest.Clock
)

var (
	New        = resealtest.New
	NewClock   = resealtest.NewClock
	Check      = resealtest.Check
	KDF        = resealtest.KDF
	Credential = resealtest.Credential
)
