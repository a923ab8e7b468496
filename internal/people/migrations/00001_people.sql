-- +goose Up
-- Names and numbers, sealed. The mask is stored, so that a list unseals nothing.
CREATE TABLE people (
    id      TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    blind   BYTEA NOT NULL,
    number  BYTEA NOT NULL,
    mask    TEXT NOT NULL,
    place   TEXT NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (program, blind)
);
