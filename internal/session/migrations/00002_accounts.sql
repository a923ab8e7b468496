-- +goose Up
-- An account is a person (per_) or somebody of the staff (stf_). A mac is made
-- under the program's session key over what a row grants, so that whoever can
-- write this database cannot let themselves in; ending a row takes its mac away.
ALTER TABLE links ADD COLUMN claim TEXT NOT NULL DEFAULT '';
ALTER TABLE links ADD COLUMN mac TEXT NOT NULL DEFAULT '';

ALTER TABLE sessions ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN label TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN device TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN proved BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN mac TEXT NOT NULL DEFAULT '';
UPDATE sessions SET account = person WHERE person <> '';
UPDATE sessions SET account = name WHERE person = '';
CREATE INDEX sessions_account ON sessions (account, ended, created);

-- credential and handle are the authenticator's words for the passkey and the
-- account, in base64url. flags are those of the last use.
CREATE TABLE passkeys (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    program    TEXT NOT NULL,
    credential TEXT NOT NULL UNIQUE,
    public_key BYTEA NOT NULL,
    handle     TEXT NOT NULL,
    transports TEXT NOT NULL,
    sign_count BIGINT NOT NULL,
    flags      BIGINT NOT NULL,
    name       TEXT NOT NULL,
    created    BIGINT NOT NULL,
    used       BIGINT NOT NULL,
    mac        TEXT NOT NULL
);
CREATE INDEX passkeys_account ON passkeys (account);

-- The challenges of ceremonies that succeeded, until they are surely too old.
CREATE TABLE spent_challenges (
    challenge TEXT PRIMARY KEY,
    expires   BIGINT NOT NULL
);
CREATE INDEX spent_challenges_expires ON spent_challenges (expires);

-- Under this key challenges are made. Who reads it can make challenges, as
-- anybody can by asking for one; it lets nobody in.
CREATE TABLE challenge_keys (
    id  BIGINT PRIMARY KEY,
    key BYTEA NOT NULL
);

CREATE TABLE recovery_codes (
    code_hash TEXT PRIMARY KEY,
    account   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    program   TEXT NOT NULL,
    created   BIGINT NOT NULL,
    mac       TEXT NOT NULL
);
CREATE INDEX recovery_codes_account ON recovery_codes (account);

CREATE TABLE api_keys (
    id       TEXT PRIMARY KEY,
    key_hash TEXT NOT NULL UNIQUE,
    account  TEXT NOT NULL,
    kind     TEXT NOT NULL,
    program  TEXT NOT NULL,
    name     TEXT NOT NULL,
    scopes   TEXT NOT NULL,
    created  BIGINT NOT NULL,
    used     BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    ended    BIGINT NOT NULL,
    mac      TEXT NOT NULL
);
CREATE INDEX api_keys_account ON api_keys (account, ended, created);

CREATE TABLE staff (
    id           TEXT PRIMARY KEY,
    role         TEXT NOT NULL,
    program      TEXT NOT NULL,
    created      BIGINT NOT NULL,
    ended        BIGINT NOT NULL,
    appointed_by TEXT NOT NULL
);
CREATE INDEX staff_program ON staff (program, created);

-- Somebody who is signing up. code is a MAC of the code that was sent, and ''
-- once it was given.
CREATE TABLE signups (
    cookie_hash TEXT PRIMARY KEY,
    claim       TEXT NOT NULL UNIQUE,
    program     TEXT NOT NULL,
    code        TEXT NOT NULL,
    tries       BIGINT NOT NULL,
    terms       TEXT NOT NULL,
    choices     TEXT NOT NULL,
    expires     BIGINT NOT NULL
);
CREATE INDEX signups_expires ON signups (expires);
