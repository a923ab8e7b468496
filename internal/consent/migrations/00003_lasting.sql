-- +goose Up
-- When the program asks: 'before' the two hear each other, or 'during' their
-- talk, when somebody wants to record.
ALTER TABLE consent_calls ADD COLUMN ask TEXT NOT NULL DEFAULT 'before';

-- A person's yes to later calls with one other person. It stands until lapses,
-- in calls under the same words, terms and rule.
CREATE TABLE consent_lasting (
    id           TEXT PRIMARY KEY,
    person       TEXT NOT NULL,
    other_person TEXT NOT NULL,
    program      TEXT NOT NULL,
    way          TEXT NOT NULL,
    event        TEXT NOT NULL,
    call         TEXT NOT NULL,
    words        TEXT NOT NULL,
    terms        TEXT NOT NULL,
    one_sided    BOOLEAN NOT NULL,
    at           BIGINT NOT NULL,
    used         BIGINT NOT NULL,
    lapses       BIGINT NOT NULL,
    UNIQUE (person, other_person, program, way)
);
CREATE INDEX consent_lasting_other ON consent_lasting (other_person);
CREATE INDEX consent_lasting_lapses ON consent_lasting (lapses);
