-- +goose Up

-- When the data key was made, in Unix milliseconds: a rewrap keeps the data key
-- and its date, a reencryption makes another. Up to here each data key was made
-- with its secret version. 0 is unknown, and counts as older than everything.
ALTER TABLE reseal_data_keys ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0 CHECK (made_at >= 0);

UPDATE reseal_data_keys
SET made_at = max(0, v.created_at)
FROM reseal_secret_versions AS v
WHERE v.id = reseal_data_keys.id;

-- The data keys that a reencryption replaces: those made before this time, all
-- if it is 0. The others in its scope are rewrapped.
ALTER TABLE reseal_rotation_jobs ADD COLUMN made_before INTEGER NOT NULL DEFAULT 0
  CHECK (made_before >= 0 AND (made_before = 0 OR mode = 'reencrypt'));

-- +goose Down
ALTER TABLE reseal_rotation_jobs DROP COLUMN made_before;
ALTER TABLE reseal_data_keys DROP COLUMN made_at;
