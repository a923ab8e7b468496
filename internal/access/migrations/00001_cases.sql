-- +goose Up

-- What staff asked to open, and what became of it. A case that nobody answered
-- or whose time is over keeps its last word here; reading says expired.
CREATE TABLE cases (
    id        TEXT PRIMARY KEY,
    program   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    object    TEXT NOT NULL,
    asker     TEXT NOT NULL,
    approver  TEXT NOT NULL,
    reason    TEXT NOT NULL,
    number    TEXT NOT NULL,
    state     TEXT NOT NULL,
    asked_at  BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    until_at  BIGINT NOT NULL
);
CREATE INDEX cases_asked ON cases (asked_at);
CREATE INDEX cases_program ON cases (program, asked_at);
CREATE INDEX cases_state ON cases (state, until_at);
CREATE INDEX cases_asker ON cases (asker, state);
CREATE INDEX cases_object ON cases (object);

-- Whom a case touches, and who therefore is told.
CREATE TABLE case_people (
    case_id   TEXT NOT NULL,
    person    TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    PRIMARY KEY (case_id, person)
);
CREATE INDEX case_people_person ON case_people (person, opened_at);
