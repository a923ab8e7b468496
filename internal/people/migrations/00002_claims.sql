-- +goose Up
-- Somebody says that a number is theirs. It is nobody's until a code came back,
-- and the row goes after 15 minutes whatever came of it.
CREATE TABLE claims (
    id      TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    blind   BYTEA NOT NULL,
    number  BYTEA NOT NULL,
    mask    TEXT NOT NULL,
    person  TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX claims_program ON claims (program);
CREATE INDEX claims_expires ON claims (expires);
CREATE INDEX claims_blind ON claims (blind);
CREATE INDEX claims_person ON claims (person);

-- moved: when the number went on to somebody else. blind is then the row's own
-- id, which no number is found by.
ALTER TABLE people ADD COLUMN moved BIGINT NOT NULL DEFAULT 0;
ALTER TABLE people ADD COLUMN adult BOOLEAN NOT NULL DEFAULT FALSE;
