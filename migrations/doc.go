// Package migrations holds the schema of a reseal store as numbered SQL files
// and takes a database from one version of it to the next.
//
// It knows SQL and files, and nothing of keys or secrets: a migration changes
// tables and triggers and never rewrites a ciphertext.
//
// A store may be a file of its own or some tables in a host application's
// database. Everything runs on one connection borrowed from the caller's
// *sql.DB, so the host's driver options, virtual file system and connection
// limit stay in force, and every setting that is changed for the duration of a
// migration is put back. The host may use goose for its own tables: reseal
// records its versions in a table of its own, [Table].
//
// # What a migration promises
//
// Only [Up], [UpTo], [Down] and [Restore] write. The others read, and can be
// used on read-only files and on files that are not stores.
//
// A change of the schema is one transaction, however many migrations it takes:
// after a crash, a full disk or a failed check the file is as it was. Before
// the commit the foreign keys of reseal's tables are checked and the schema is
// compared with the one that this build expects. A file with a newer schema is
// refused before anything is written to it, and so are an altered one, one whose
// versions were not recorded one after the other, and a file without a store
// unless [Options].Create is set.
//
// Before a store that exists is changed, a complete copy is made beside it,
// readable by its owner only, which has its name when it is whole and checked. That copy is the way back: [Down] drops tables
// and what is in them, [Restore] puts the copy back in place.
//
// Processes that start at once take turns by a lock file beside the database.
// With nothing to do there is no lock and no write.
//
// # With a tool of your own
//
// [Script] has each migration as SQL for golang-migrate, atlas, goose or the
// sqlite3 shell, with the statements that record the version. [Validate] tells
// whether what was applied is what this build expects.
//
// # Writing a migration
//
// Number it one after the last, give it an Up and a Down part, and add it with
// its checksums to the list in released.go; the tests print the line to add.
// A released file is never edited. [Lint] and [LintAll] know the mistakes that
// have cost others their data: statements outside the transaction, a table
// rebuilt while foreign keys cascade, a CHECK that can never refuse.
package migrations
