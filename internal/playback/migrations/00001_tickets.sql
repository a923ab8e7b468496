-- +goose Up
-- The keys that sign tickets, sealed under their program's key. The one with
-- until = 0 signs; the others are accepted until then, in milliseconds.
CREATE TABLE ticket_keys (
    id      TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    sealed  BYTEA NOT NULL,
    created BIGINT NOT NULL,
    until   BIGINT NOT NULL
);
CREATE UNIQUE INDEX ticket_keys_current ON ticket_keys (program) WHERE until = 0;

-- What was recalled. A row ends the tickets whose chain began before its epoch
-- and at or after since; '' stands for any program, track or holder. It goes
-- when the longest chain that it could end is over.
CREATE TABLE ticket_revocations (
    epoch   BIGINT NOT NULL,
    program TEXT NOT NULL,
    track   TEXT NOT NULL,
    holder  TEXT NOT NULL,
    since   BIGINT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (epoch, track)
);
CREATE INDEX ticket_revocations_created ON ticket_revocations (created);

-- Epochs count recalls and never go back, also when all rows above are gone.
CREATE TABLE ticket_epoch (
    one   BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL
);
INSERT INTO ticket_epoch (one, epoch) VALUES (1, 0);
