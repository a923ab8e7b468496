-- +goose Up
-- One row a voice. Its key is not here but in the keys database.
CREATE TABLE vault_tracks (
    id        TEXT PRIMARY KEY,
    program   TEXT NOT NULL,
    call      TEXT NOT NULL,
    leg       TEXT NOT NULL,
    person    TEXT NOT NULL,
    codec     INTEGER NOT NULL,
    state     TEXT NOT NULL,            -- open closed recovered full destroyed
    floor     BIGINT NOT NULL,          -- seconds below this were durable when it was written
    sealed    BIGINT NOT NULL,          -- so many of them were sealed, the others absent
    seconds   BIGINT NOT NULL,          -- as the log says; meaningful with root
    root      BYTEA,                    -- as the log says; NULL until finished
    problem   TEXT NOT NULL,            -- what ended the recording, when it was not its end
    ref_db    TEXT NOT NULL,            -- the entry "track.closed"
    ref_leaf  TEXT NOT NULL,
    gone_db   TEXT NOT NULL,            -- the entry "track.destroyed"
    gone_leaf TEXT NOT NULL,
    created   BIGINT NOT NULL,          -- milliseconds
    closed    BIGINT NOT NULL,          -- 0 while open
    finished  BIGINT NOT NULL           -- 0 until all that follows the closing was set off
);
CREATE INDEX vault_tracks_call ON vault_tracks (call, created);
CREATE INDEX vault_tracks_person ON vault_tracks (person);
CREATE INDEX vault_tracks_open ON vault_tracks (id) WHERE state = 'open';

-- One row a derived object, under its track's key.
CREATE TABLE vault_renditions (
    object    TEXT PRIMARY KEY,         -- the blob's name
    track     TEXT NOT NULL,
    rendition TEXT NOT NULL,
    state     TEXT NOT NULL,            -- open closed
    ref_db    TEXT NOT NULL,            -- the entry "rendition.closed"
    ref_leaf  TEXT NOT NULL,
    created   BIGINT NOT NULL
);
CREATE INDEX vault_renditions_track ON vault_renditions (track);
CREATE UNIQUE INDEX vault_renditions_closed ON vault_renditions (track, rendition) WHERE state = 'closed';
