-- +goose Up
-- Messages that wait to be sent. The text is sealed, the number stands in people.
CREATE TABLE notify_outbox (
    id      TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    claim   TEXT NOT NULL,
    text    BYTEA NOT NULL,
    tries   INTEGER NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX notify_outbox_created ON notify_outbox (created);

-- What was asked for within the last hour. mark is equal for one number in one
-- program and tells nothing else.
CREATE TABLE notify_codes (
    id      TEXT PRIMARY KEY,
    claim   TEXT NOT NULL,
    mark    BYTEA NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX notify_codes_claim ON notify_codes (claim);
CREATE INDEX notify_codes_mark ON notify_codes (mark, created);
CREATE INDEX notify_codes_created ON notify_codes (created);

-- day: days since 1970, UTC.
CREATE TABLE notify_spent (
    program TEXT NOT NULL,
    day     BIGINT NOT NULL,
    sent    BIGINT NOT NULL,
    PRIMARY KEY (program, day)
);
