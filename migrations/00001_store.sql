-- +goose Up

-- One row: what there is one of in a store. The tag authenticates the row
-- under the integrity key.
CREATE TABLE reseal_state (
  id           INTEGER PRIMARY KEY CHECK (id = 1),
  store_id     BLOB NOT NULL CHECK (length(store_id) = 16),
  root_id      BLOB NOT NULL CHECK (length(root_id) = 16),
  next_root_id BLOB CHECK (length(next_root_id) = 16 AND next_root_id <> root_id),
  default_key  INTEGER REFERENCES reseal_master_keys (id) ON DELETE RESTRICT,
  generation   INTEGER NOT NULL CHECK (generation >= 0),
  audit_count  INTEGER NOT NULL CHECK (audit_count >= 0),
  audit_head   BLOB NOT NULL CHECK (length(audit_head) = 32),
  created_at   INTEGER NOT NULL,
  tag          BLOB NOT NULL CHECK (length(tag) = 32)
) STRICT;

-- Root keys are stored only wrapped, once per unseal slot. There is one, and a
-- second one while a root rotation is under way.
CREATE TABLE reseal_root_keys (
  id                INTEGER PRIMARY KEY,
  root_id           BLOB NOT NULL UNIQUE CHECK (length(root_id) = 16),
  integrity_wrapped BLOB NOT NULL CHECK (length(integrity_wrapped) = 108),
  created_at        INTEGER NOT NULL
) STRICT;

CREATE TABLE reseal_unseal_slots (
  id         INTEGER PRIMARY KEY,
  slot_id    BLOB NOT NULL CHECK (length(slot_id) = 16),
  root_id    BLOB NOT NULL REFERENCES reseal_root_keys (root_id) ON DELETE RESTRICT,
  kind       TEXT NOT NULL CHECK (kind IN ('passphrase', 'key-file')),
  label      TEXT NOT NULL DEFAULT '' CHECK (length(label) <= 64 AND instr(label, char(0)) = 0),
  kdf        TEXT NOT NULL,
  time       INTEGER NOT NULL CHECK (time BETWEEN 0 AND 64),
  memory     INTEGER NOT NULL CHECK (memory BETWEEN 0 AND 2097152),
  threads    INTEGER NOT NULL CHECK (threads BETWEEN 0 AND 64),
  salt       BLOB NOT NULL,
  wrapped    BLOB NOT NULL CHECK (length(wrapped) = 108),
  created_at INTEGER NOT NULL,
  UNIQUE (slot_id, root_id),
  CHECK (CASE kind
    WHEN 'passphrase' THEN kdf = 'argon2id' AND time >= 1 AND threads >= 1 AND memory >= 8 * threads AND length(salt) = 16
    ELSE kdf = '' AND time = 0 AND memory = 0 AND threads = 0 AND length(salt) = 0
  END)
) STRICT;

-- A destroyed key keeps its row: names are never reused.
CREATE TABLE reseal_master_keys (
  id              INTEGER PRIMARY KEY,
  key_id          BLOB NOT NULL UNIQUE CHECK (length(key_id) = 16),
  name            TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64 AND name NOT GLOB '*[^A-Za-z0-9_+=.@-]*' AND instr(name, char(0)) = 0),
  state           TEXT NOT NULL CHECK (state IN ('enabled', 'disabled', 'pending deletion', 'destroyed')),
  primary_version INTEGER NOT NULL CHECK (primary_version >= 1),
  deletion_at     INTEGER,
  created_at      INTEGER NOT NULL,
  tag             BLOB NOT NULL CHECK (length(tag) = 32),
  CHECK ((state = 'pending deletion') = (deletion_at IS NOT NULL))
) STRICT;

-- A version's state is its key's, or 'destroyed'.
CREATE TABLE reseal_master_key_versions (
  id           INTEGER PRIMARY KEY,
  master_key   INTEGER NOT NULL REFERENCES reseal_master_keys (id) ON DELETE RESTRICT,
  number       INTEGER NOT NULL CHECK (number >= 1),
  created_at   INTEGER NOT NULL,
  destroyed_at INTEGER,
  UNIQUE (master_key, number)
) STRICT;

-- Append-only: a root rotation adds wraps under the new root beside the old
-- ones, and deletes the old ones when the new ones are proved.
CREATE TABLE reseal_master_key_wraps (
  id                 INTEGER PRIMARY KEY,
  master_key_version INTEGER NOT NULL REFERENCES reseal_master_key_versions (id) ON DELETE RESTRICT,
  root_id            BLOB NOT NULL REFERENCES reseal_root_keys (root_id) ON DELETE RESTRICT,
  wrapped            BLOB NOT NULL CHECK (length(wrapped) = 108),
  UNIQUE (master_key_version, root_id)
) STRICT;

-- A purged secret keeps its row as a tombstone (master_key is null), so that
-- version numbers go on if the name is used again.
CREATE TABLE reseal_secrets (
  id            INTEGER PRIMARY KEY,
  secret_id     BLOB NOT NULL UNIQUE CHECK (length(secret_id) = 16),
  name          TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 256 AND name NOT GLOB '*[^A-Za-z0-9/_+=.@-]*' AND instr(name, char(0)) = 0
    AND instr('/' || name || '/', '//') = 0 AND instr('/' || name || '/', '/./') = 0 AND instr('/' || name || '/', '/../') = 0),
  master_key    INTEGER REFERENCES reseal_master_keys (id) ON DELETE RESTRICT,
  next_number   INTEGER NOT NULL CHECK (next_number >= 1),
  version_count INTEGER NOT NULL CHECK (version_count >= 0 AND version_count < next_number),
  deleted_at    INTEGER,
  purge_at      INTEGER,
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL,
  description   TEXT NOT NULL DEFAULT '' CHECK (length(description) <= 1024 AND instr(description, char(0)) = 0),
  tag           BLOB NOT NULL CHECK (length(tag) = 32),
  CHECK ((deleted_at IS NULL) = (purge_at IS NULL)),
  CHECK (master_key IS NOT NULL OR (version_count = 0 AND deleted_at IS NULL AND description = ''))
) STRICT;

-- The sealed value comes last, so that what is before it can be read without
-- its overflow pages.
CREATE TABLE reseal_secret_versions (
  id         INTEGER PRIMARY KEY,
  version_id BLOB NOT NULL CHECK (length(version_id) = 16),
  secret     INTEGER NOT NULL REFERENCES reseal_secrets (id) ON DELETE RESTRICT,
  number     INTEGER NOT NULL CHECK (number >= 1),
  created_at INTEGER NOT NULL,
  token      TEXT CHECK (length(token) BETWEEN 1 AND 64 AND instr(token, char(0)) = 0),
  sealed     BLOB NOT NULL CHECK (length(sealed) > 76),
  UNIQUE (secret, number)
) STRICT;
CREATE UNIQUE INDEX reseal_secret_versions_token ON reseal_secret_versions (secret, token) WHERE token IS NOT NULL;

-- One row for each secret version, under the same id. Narrow and of constant
-- length, so that a rewrap overwrites in place and never touches values. There
-- is no index on master_key_version: a rewrap would have to maintain it, and
-- counting a million rows without it takes a tenth of a second.
CREATE TABLE reseal_data_keys (
  id                 INTEGER PRIMARY KEY REFERENCES reseal_secret_versions (id) ON DELETE RESTRICT,
  master_key_version INTEGER NOT NULL,
  wrapped            BLOB NOT NULL CHECK (length(wrapped) = 108)
) STRICT;

CREATE TABLE reseal_labels (
  secret         INTEGER NOT NULL REFERENCES reseal_secrets (id) ON DELETE RESTRICT,
  label          TEXT NOT NULL CHECK (length(label) BETWEEN 1 AND 64 AND label NOT GLOB '*[^A-Za-z0-9_+=.@-]*' AND instr(label, char(0)) = 0),
  secret_version INTEGER NOT NULL REFERENCES reseal_secret_versions (id) ON DELETE RESTRICT,
  PRIMARY KEY (secret, label)
) STRICT, WITHOUT ROWID;
CREATE INDEX reseal_labels_secret_version ON reseal_labels (secret_version);

CREATE TABLE reseal_tags (
  secret INTEGER NOT NULL REFERENCES reseal_secrets (id) ON DELETE RESTRICT,
  key    TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 128 AND instr(key, char(0)) = 0),
  value  TEXT NOT NULL CHECK (length(value) <= 256 AND instr(value, char(0)) = 0),
  PRIMARY KEY (secret, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE reseal_rotation_jobs (
  id           INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id       BLOB NOT NULL UNIQUE CHECK (length(job_id) = 16),
  mode         TEXT NOT NULL CHECK (mode IN ('rewrap', 'reencrypt')),
  from_key     INTEGER NOT NULL REFERENCES reseal_master_keys (id) ON DELETE RESTRICT,
  to_key       INTEGER NOT NULL REFERENCES reseal_master_keys (id) ON DELETE RESTRICT,
  to_version   INTEGER NOT NULL CHECK (to_version >= 1),
  prefix       TEXT NOT NULL DEFAULT '',
  state        TEXT NOT NULL CHECK (state IN ('running', 'paused', 'complete', 'cancelled')),
  total        INTEGER NOT NULL CHECK (total >= 0),
  done         INTEGER NOT NULL CHECK (done >= 0),
  lease_owner  TEXT NOT NULL DEFAULT '',
  lease_until  INTEGER NOT NULL DEFAULT 0,
  started_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  finished_at  INTEGER,
  receipt      TEXT CHECK (json_valid(receipt)),
  CHECK ((state IN ('complete', 'cancelled')) = (finished_at IS NOT NULL))
) STRICT;
-- One open job at a time for each from-key.
CREATE UNIQUE INDEX reseal_rotation_jobs_open ON reseal_rotation_jobs (from_key) WHERE state IN ('running', 'paused');

-- Names and ids are values, not references: a purge leaves them.
CREATE TABLE reseal_audit_events (
  seq    INTEGER PRIMARY KEY CHECK (seq >= 1),
  at     INTEGER NOT NULL,
  actor  TEXT NOT NULL CHECK (length(actor) <= 256),
  action TEXT NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
  secret TEXT,
  key    TEXT,
  detail TEXT NOT NULL CHECK (json_valid(detail)),
  mac    BLOB NOT NULL CHECK (length(mac) = 32)
) STRICT;

CREATE TABLE reseal_backups (
  id         INTEGER PRIMARY KEY,
  path       TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE reseal_backup_keys (
  backup             INTEGER NOT NULL REFERENCES reseal_backups (id) ON DELETE RESTRICT,
  master_key_version INTEGER NOT NULL,
  PRIMARY KEY (backup, master_key_version)
) STRICT, WITHOUT ROWID;

-- The triggers below are the promise that a key which is still needed cannot
-- be destroyed by accident, from any SQLite client. They do not rely on
-- foreign keys, which other connections leave off, and they see REPLACE, which
-- fires no delete trigger: what may not be replaced refuses the insert.

-- +goose StatementBegin
CREATE TRIGGER reseal_state_delete BEFORE DELETE ON reseal_state
BEGIN
  SELECT RAISE(ABORT, 'reseal: the store''s state row is never deleted');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_state_insert BEFORE INSERT ON reseal_state
WHEN EXISTS (SELECT 1 FROM reseal_state)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the store''s state row exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_state_update BEFORE UPDATE ON reseal_state
WHEN NEW.id IS NOT OLD.id OR NEW.store_id IS NOT OLD.store_id OR NEW.audit_count < OLD.audit_count OR NEW.generation < OLD.generation
BEGIN
  SELECT RAISE(ABORT, 'reseal: a store keeps its id, and its counts never go back');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_state_root BEFORE UPDATE ON reseal_state
WHEN NEW.root_id IS NOT OLD.root_id AND NOT EXISTS (SELECT 1 FROM reseal_unseal_slots WHERE root_id = NEW.root_id)
BEGIN
  SELECT RAISE(ABORT, 'reseal: no unseal slot opens that root key');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_root_keys_delete BEFORE DELETE ON reseal_root_keys
WHEN EXISTS (SELECT 1 FROM reseal_state WHERE root_id = OLD.root_id)
  OR EXISTS (SELECT 1 FROM reseal_unseal_slots WHERE root_id = OLD.root_id)
  OR EXISTS (SELECT 1 FROM reseal_master_key_wraps WHERE root_id = OLD.root_id)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the root key is in use');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_root_keys_update BEFORE UPDATE ON reseal_root_keys
BEGIN
  SELECT RAISE(ABORT, 'reseal: root keys are replaced by rotation, never changed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_root_keys_insert BEFORE INSERT ON reseal_root_keys
WHEN EXISTS (SELECT 1 FROM reseal_root_keys WHERE id = NEW.id OR root_id = NEW.root_id)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the root key exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_unseal_slots_delete BEFORE DELETE ON reseal_unseal_slots
WHEN EXISTS (SELECT 1 FROM reseal_state WHERE root_id = OLD.root_id)
  AND NOT EXISTS (SELECT 1 FROM reseal_unseal_slots WHERE root_id = OLD.root_id AND id <> OLD.id)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the last unseal slot cannot be removed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_unseal_slots_update BEFORE UPDATE ON reseal_unseal_slots
BEGIN
  SELECT RAISE(ABORT, 'reseal: unseal slots are added and removed, never changed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_unseal_slots_insert BEFORE INSERT ON reseal_unseal_slots
WHEN EXISTS (SELECT 1 FROM reseal_unseal_slots WHERE id = NEW.id OR (slot_id = NEW.slot_id AND root_id = NEW.root_id))
BEGIN
  SELECT RAISE(ABORT, 'reseal: the unseal slot exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_keys_delete BEFORE DELETE ON reseal_master_keys
BEGIN
  SELECT RAISE(ABORT, 'reseal: master keys are destroyed by state, their rows stay');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_keys_insert BEFORE INSERT ON reseal_master_keys
WHEN EXISTS (SELECT 1 FROM reseal_master_keys WHERE id = NEW.id OR key_id = NEW.key_id OR name = NEW.name)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the master key exists; key names are never reused');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_keys_identity BEFORE UPDATE ON reseal_master_keys
WHEN NEW.id IS NOT OLD.id OR NEW.key_id IS NOT OLD.key_id OR NEW.name IS NOT OLD.name OR NEW.created_at IS NOT OLD.created_at
BEGIN
  SELECT RAISE(ABORT, 'reseal: a master key keeps its identity');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_keys_destroyed_is_final BEFORE UPDATE ON reseal_master_keys
WHEN OLD.state = 'destroyed' AND NEW.state IS NOT 'destroyed'
BEGIN
  SELECT RAISE(ABORT, 'reseal: a destroyed master key stays destroyed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_keys_destroy BEFORE UPDATE ON reseal_master_keys
WHEN NEW.state = 'destroyed' AND OLD.state IS NOT 'destroyed' AND (
  EXISTS (SELECT 1 FROM reseal_secrets WHERE master_key = OLD.id)
  OR EXISTS (SELECT 1 FROM reseal_state WHERE default_key = OLD.id)
  OR EXISTS (SELECT 1 FROM reseal_rotation_jobs WHERE state IN ('running', 'paused') AND (from_key = OLD.id OR to_key = OLD.id))
  OR EXISTS (SELECT 1 FROM reseal_data_keys WHERE master_key_version IN (SELECT id FROM reseal_master_key_versions WHERE master_key = OLD.id)))
BEGIN
  SELECT RAISE(ABORT, 'reseal: the master key has dependents');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_versions_delete BEFORE DELETE ON reseal_master_key_versions
BEGIN
  SELECT RAISE(ABORT, 'reseal: master key versions are destroyed by state, their rows stay');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_versions_insert BEFORE INSERT ON reseal_master_key_versions
WHEN EXISTS (SELECT 1 FROM reseal_master_key_versions WHERE id = NEW.id OR (master_key = NEW.master_key AND number = NEW.number))
BEGIN
  SELECT RAISE(ABORT, 'reseal: the master key version exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_versions_identity BEFORE UPDATE ON reseal_master_key_versions
WHEN NEW.id IS NOT OLD.id OR NEW.master_key IS NOT OLD.master_key OR NEW.number IS NOT OLD.number OR NEW.created_at IS NOT OLD.created_at
BEGIN
  SELECT RAISE(ABORT, 'reseal: a master key version keeps its identity');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_versions_destroyed_is_final BEFORE UPDATE ON reseal_master_key_versions
WHEN OLD.destroyed_at IS NOT NULL AND NEW.destroyed_at IS NOT OLD.destroyed_at
BEGIN
  SELECT RAISE(ABORT, 'reseal: a destroyed master key version stays destroyed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_versions_destroy BEFORE UPDATE ON reseal_master_key_versions
WHEN OLD.destroyed_at IS NULL AND NEW.destroyed_at IS NOT NULL
  AND EXISTS (SELECT 1 FROM reseal_data_keys WHERE master_key_version = OLD.id)
BEGIN
  SELECT RAISE(ABORT, 'reseal: a data key still needs this master key version');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_wraps_update BEFORE UPDATE ON reseal_master_key_wraps
BEGIN
  SELECT RAISE(ABORT, 'reseal: wraps of master keys are added and deleted, never changed');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_wraps_insert BEFORE INSERT ON reseal_master_key_wraps
WHEN EXISTS (SELECT 1 FROM reseal_master_key_wraps WHERE id = NEW.id OR (master_key_version = NEW.master_key_version AND root_id = NEW.root_id))
BEGIN
  SELECT RAISE(ABORT, 'reseal: the wrap of the master key version exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_master_key_wraps_delete BEFORE DELETE ON reseal_master_key_wraps
WHEN NOT EXISTS (SELECT 1 FROM reseal_master_key_wraps WHERE master_key_version = OLD.master_key_version AND id <> OLD.id)
  AND EXISTS (SELECT 1 FROM reseal_data_keys WHERE master_key_version = OLD.master_key_version)
BEGIN
  SELECT RAISE(ABORT, 'reseal: a data key still needs this master key version');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_secrets_delete BEFORE DELETE ON reseal_secrets
BEGIN
  SELECT RAISE(ABORT, 'reseal: a purged secret leaves its row as a tombstone');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_secrets_insert BEFORE INSERT ON reseal_secrets
WHEN EXISTS (SELECT 1 FROM reseal_secrets WHERE id = NEW.id OR secret_id = NEW.secret_id OR name = NEW.name)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the secret exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_secrets_identity BEFORE UPDATE ON reseal_secrets
WHEN NEW.id IS NOT OLD.id OR NEW.secret_id IS NOT OLD.secret_id OR NEW.name IS NOT OLD.name OR NEW.next_number < OLD.next_number
BEGIN
  SELECT RAISE(ABORT, 'reseal: a secret keeps its identity, and version numbers never go back');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_secret_versions_delete BEFORE DELETE ON reseal_secret_versions
WHEN EXISTS (SELECT 1 FROM reseal_data_keys WHERE id = OLD.id) OR EXISTS (SELECT 1 FROM reseal_labels WHERE secret_version = OLD.id)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the secret version still has its data key or a label');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_secret_versions_insert BEFORE INSERT ON reseal_secret_versions
WHEN EXISTS (SELECT 1 FROM reseal_secret_versions WHERE id = NEW.id OR (secret = NEW.secret AND number = NEW.number))
  OR (NEW.token IS NOT NULL AND EXISTS (SELECT 1 FROM reseal_secret_versions WHERE secret = NEW.secret AND token = NEW.token))
BEGIN
  SELECT RAISE(ABORT, 'reseal: the secret version exists');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_secret_versions_identity BEFORE UPDATE ON reseal_secret_versions
WHEN NEW.id IS NOT OLD.id OR NEW.version_id IS NOT OLD.version_id OR NEW.secret IS NOT OLD.secret OR NEW.number IS NOT OLD.number
  OR NEW.created_at IS NOT OLD.created_at OR NEW.token IS NOT OLD.token
BEGIN
  SELECT RAISE(ABORT, 'reseal: a secret version keeps its identity');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_data_keys_insert BEFORE INSERT ON reseal_data_keys
WHEN EXISTS (SELECT 1 FROM reseal_data_keys WHERE id = NEW.id)
  OR NOT EXISTS (SELECT 1 FROM reseal_master_key_versions WHERE id = NEW.master_key_version AND destroyed_at IS NULL)
BEGIN
  SELECT RAISE(ABORT, 'reseal: the data key exists, or its master key version does not or is destroyed');
END;
-- +goose StatementEnd

-- SQLite matches the columns of UPDATE OF by the name that the statement uses,
-- so a rewrap, which names none of these, does not run it.
-- +goose StatementBegin
CREATE TRIGGER reseal_data_keys_identity BEFORE UPDATE OF id, rowid, oid, _rowid_ ON reseal_data_keys
WHEN NEW.id IS NOT OLD.id
BEGIN
  SELECT RAISE(ABORT, 'reseal: a data key stays with its secret version');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_audit_events_delete BEFORE DELETE ON reseal_audit_events
BEGIN
  SELECT RAISE(ABORT, 'reseal: audit events are only added');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_audit_events_update BEFORE UPDATE ON reseal_audit_events
BEGIN
  SELECT RAISE(ABORT, 'reseal: audit events are only added');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER reseal_audit_events_insert BEFORE INSERT ON reseal_audit_events
WHEN EXISTS (SELECT 1 FROM reseal_audit_events WHERE seq = NEW.seq)
BEGIN
  SELECT RAISE(ABORT, 'reseal: audit events are only added');
END;
-- +goose StatementEnd

-- +goose Down
-- Dropping the tables destroys every secret: the way back is the backup that
-- is made before each change of the schema.
DROP TABLE reseal_backup_keys;
DROP TABLE reseal_backups;
DROP TABLE reseal_audit_events;
DROP TABLE reseal_rotation_jobs;
DROP TABLE reseal_tags;
DROP TABLE reseal_labels;
DROP TABLE reseal_data_keys;
DROP TABLE reseal_secret_versions;
DROP TABLE reseal_secrets;
DROP TABLE reseal_master_key_wraps;
DROP TABLE reseal_master_key_versions;
DROP TABLE reseal_master_keys;
DROP TABLE reseal_unseal_slots;
DROP TABLE reseal_root_keys;
DROP TABLE reseal_state;
