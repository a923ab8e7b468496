-- +goose Up
-- What a person chose when they were shown the terms. A row is never changed:
-- a new choice is a new row, and the newest stands.
CREATE TABLE consent_terms (
    person   TEXT NOT NULL,
    n        BIGINT NOT NULL,
    program  TEXT NOT NULL,
    terms    TEXT NOT NULL,
    record   BOOLEAN NOT NULL,
    share    BOOLEAN NOT NULL,
    license  BOOLEAN NOT NULL,
    channel  TEXT NOT NULL,
    language TEXT NOT NULL,
    from_ms  BIGINT NOT NULL,
    to_ms    BIGINT NOT NULL,
    at_ms    BIGINT NOT NULL,
    kept     BIGINT NOT NULL,
    PRIMARY KEY (person, n)
);
