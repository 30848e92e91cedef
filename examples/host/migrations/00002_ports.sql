-- +goose Up
ALTER TABLE accounts ADD COLUMN port INTEGER NOT NULL DEFAULT 993;

-- +goose Down
ALTER TABLE accounts DROP COLUMN port;
