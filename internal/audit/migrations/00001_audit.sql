-- +goose Up
-- All of this stands in each of the three databases, so that an entry is
-- written in the transaction of what it tells.

-- What waits for its number: one row for what was committed together, its
-- entries one after the other (internal/audit/journal.go). The sequencer takes
-- them out and writes leaves and parts.
CREATE TABLE audit_pending (
    id      TEXT PRIMARY KEY,
    entries BYTEA NOT NULL
);

-- mac is the house's own mark on the leaf and its parts with their index: who
-- can write here and has no key can neither add an entry nor hide one.
CREATE TABLE audit_leaves (
    seq  BIGINT PRIMARY KEY,
    id   TEXT NOT NULL UNIQUE,
    leaf BYTEA NOT NULL,
    mac  BYTEA NOT NULL
);

-- person: NULL for a part under the program's key, '' once forgotten.
CREATE TABLE audit_parts (
    leaf_id TEXT NOT NULL,
    part    INTEGER NOT NULL,
    program TEXT NOT NULL,
    person  TEXT,
    object  TEXT NOT NULL,
    at      BIGINT NOT NULL,
    sealed  BYTEA NOT NULL,
    PRIMARY KEY (leaf_id, part)
);
CREATE INDEX audit_parts_person ON audit_parts (person, at);
CREATE INDEX audit_parts_object ON audit_parts (object, at);

-- The tree is used in the content database only; the newest checkpoint is kept
-- in the other two as well.
CREATE TABLE audit_head (
    one  INTEGER PRIMARY KEY,
    size BIGINT NOT NULL
);
INSERT INTO audit_head (one, size) VALUES (1, 0);

CREATE TABLE audit_foreign (
    seq     BIGINT PRIMARY KEY,
    origin  TEXT NOT NULL,
    leaf_id TEXT NOT NULL,
    UNIQUE (origin, leaf_id)
);

CREATE TABLE audit_tiles (
    level  INTEGER NOT NULL,
    n      BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (level, n)
);

CREATE TABLE audit_checkpoints (
    size BIGINT PRIMARY KEY,
    note TEXT NOT NULL,
    at   BIGINT NOT NULL
);

-- Which entries a person holds a receipt of; in the content database only.
CREATE TABLE audit_receipts (
    id      TEXT PRIMARY KEY,
    person  TEXT NOT NULL,
    about   TEXT NOT NULL,
    origin  TEXT NOT NULL,
    leaf_id TEXT NOT NULL,
    at      BIGINT NOT NULL,
    UNIQUE (person, leaf_id)
);
CREATE INDEX audit_receipts_about ON audit_receipts (person, about);
