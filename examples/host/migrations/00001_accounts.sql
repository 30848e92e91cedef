-- +goose Up
CREATE TABLE accounts (
  name TEXT PRIMARY KEY,
  host TEXT NOT NULL
) STRICT;

-- +goose Down
DROP TABLE accounts;
