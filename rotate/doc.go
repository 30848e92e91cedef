// Package rotate moves secrets to another master key, or to the newest version
// of the one they have, while readers and writers go on.
//
//	report, err := rotate.Run(ctx, s, rotate.Options{From: "mk-1", To: "mk-2"})
//
// [Plan] says beforehand what that would move, take and leave.
//
// # The rules
//
// The target key is durable before the first secret moves. The old key is
// never deleted or disabled: that is a separate act, and store refuses it while
// anything is left.
//
// Progress is the data. What still has to move is what is still wrapped by the
// old key, found by asking, so that a run may be killed at any instant and the
// next one finishes it. Nothing is half: a data key is under one master key or
// the other, and from key to key a secret moves whole, its configured key and
// all its versions in one transaction.
//
// Each new wrap is opened in memory before it is written, and is written only
// over the bytes that were read. What does not open stays where it is, is
// reported with the command that helps, and keeps the job open.
//
// Batches are short transactions, so that nobody waits for long. The gentle
// gear, the default, does everything in the batch's transaction and pauses
// between batches. The fast gear reads and rewraps one batch ahead on another
// core.
//
// A secret that is put meanwhile takes its configured key's newest version. One
// that is made under the old key during a job away from it is made under the
// target, and the put says so. From key to key, a secret is moved if it is
// configured with the old key or if any version of it is wrapped by it, deleted
// ones included; all of it goes to the target.
//
// Done is a count of zero in the last transaction, after every version that
// belongs under the target was opened there by code that shares nothing with
// the mover, and leaves a receipt. Then the write-ahead log, which still holds
// the old wraps, is emptied into the file; the report says if a reader
// prevented that.
//
// # Which mode, and what none of them does
//
// [Rewrap] is for routine: a policy asks for new keys, a key's owner leaves, a
// key is to be retired. It changes which key is needed from now on, and costs
// about three microseconds a version.
//
// [Reencrypt] is for when a master key may have leaked together with a copy of
// the file: the data keys in the copy open the values of today, also after a
// rewrap. It gives each version a new data key and seals its value anew. What
// Options.MadeBefore or Options.TouchedBy leaves out is rewrapped. Both move
// what is under the old key or an older version: to reencrypt everything under
// one key, give it a new version first, store.Store.RotateKey.
//
// Neither helps against the copy: whoever holds it and the key can open it for
// ever. Change the passwords themselves (see [Value]).
package rotate
