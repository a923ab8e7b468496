-- +goose Up
CREATE TABLE consent_calls (
    call      TEXT PRIMARY KEY,
    program   TEXT NOT NULL,
    one_sided BOOLEAN NOT NULL,
    why       TEXT NOT NULL,
    revision  BIGINT NOT NULL
);

-- What stands now.
CREATE TABLE consent_standings (
    call    TEXT NOT NULL,
    person  TEXT NOT NULL,
    purpose TEXT NOT NULL,
    state   TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (call, person, purpose)
);
CREATE INDEX consent_standings_person ON consent_standings (person);

-- What was said, with its evidence. Nothing is ever changed here.
CREATE TABLE consent_events (
    id            TEXT PRIMARY KEY,
    call          TEXT NOT NULL,
    person        TEXT NOT NULL,
    leg           TEXT NOT NULL,
    purpose       TEXT NOT NULL,
    what          TEXT NOT NULL,
    kind          TEXT NOT NULL,
    channel       TEXT NOT NULL,
    prompt        TEXT NOT NULL,
    prompt_sha256 TEXT NOT NULL,
    language      TEXT NOT NULL,
    from_ms       BIGINT NOT NULL,
    to_ms         BIGINT NOT NULL,
    at_ms         BIGINT NOT NULL,
    keys          TEXT NOT NULL
);
CREATE INDEX consent_events_call ON consent_events (call, at_ms);
CREATE INDEX consent_events_person ON consent_events (person);
