-- +goose Up

-- Which rows there are: how many of each kind, and a masked digest of their
-- ids. The tag is under the integrity key. A store that was made before has
-- none until it is first opened unsealed.
ALTER TABLE reseal_state ADD COLUMN rows_nonce BLOB CHECK (length(rows_nonce) = 24);
ALTER TABLE reseal_state ADD COLUMN rows_digest BLOB CHECK (length(rows_digest) = 32);
ALTER TABLE reseal_state ADD COLUMN rows_tag BLOB CHECK (length(rows_tag) = 32);
ALTER TABLE reseal_state ADD COLUMN secret_rows INTEGER NOT NULL DEFAULT 0 CHECK (secret_rows >= 0);
ALTER TABLE reseal_state ADD COLUMN version_rows INTEGER NOT NULL DEFAULT 0 CHECK (version_rows >= 0);
ALTER TABLE reseal_state ADD COLUMN master_key_rows INTEGER NOT NULL DEFAULT 0 CHECK (master_key_rows >= 0);
ALTER TABLE reseal_state ADD COLUMN tag_rows INTEGER NOT NULL DEFAULT 0 CHECK (tag_rows >= 0);
ALTER TABLE reseal_state ADD COLUMN job_rows INTEGER NOT NULL DEFAULT 0 CHECK (job_rows >= 0);

-- +goose Down
ALTER TABLE reseal_state DROP COLUMN rows_nonce;
ALTER TABLE reseal_state DROP COLUMN rows_digest;
ALTER TABLE reseal_state DROP COLUMN rows_tag;
ALTER TABLE reseal_state DROP COLUMN secret_rows;
ALTER TABLE reseal_state DROP COLUMN version_rows;
ALTER TABLE reseal_state DROP COLUMN master_key_rows;
ALTER TABLE reseal_state DROP COLUMN tag_rows;
ALTER TABLE reseal_state DROP COLUMN job_rows;
