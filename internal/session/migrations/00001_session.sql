-- +goose Up
-- Tokens and cookies are 256 random bits; only their SHA-256 is here. A person
-- is '' for operators, whose name is then in name.
CREATE TABLE links (
    token_hash TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    program    TEXT NOT NULL,
    person     TEXT NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    used       BIGINT NOT NULL
);
CREATE INDEX links_expires ON links (expires);
CREATE INDEX links_person ON links (person);

CREATE TABLE sessions (
    cookie_hash TEXT PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    program     TEXT NOT NULL,
    person      TEXT NOT NULL,
    created     BIGINT NOT NULL,
    seen        BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    ended       BIGINT NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);
CREATE INDEX sessions_person ON sessions (person);

-- ha1 is sealed under the program's key with the device's id: 32 bytes for
-- SHA-256, and 16 more for MD5 if the device opted in.
CREATE TABLE devices (
    id       TEXT PRIMARY KEY,
    program  TEXT NOT NULL,
    person   TEXT NOT NULL,
    username TEXT NOT NULL UNIQUE,
    ha1      BYTEA NOT NULL,
    created  BIGINT NOT NULL,
    ended    BIGINT NOT NULL
);
CREATE INDEX devices_person ON devices (person);
