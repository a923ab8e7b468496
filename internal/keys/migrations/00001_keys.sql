-- +goose Up
-- The only place of wrapped keys. Deleting a row is destroying what it opens.
CREATE TABLE house_keys (
    one     INTEGER PRIMARY KEY,
    house   TEXT NOT NULL,
    proof   BYTEA NOT NULL,
    signer  BYTEA NOT NULL,
    audit   BYTEA NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE program_keys (
    program TEXT NOT NULL,
    purpose TEXT NOT NULL,
    version INTEGER NOT NULL,
    wrapped BYTEA NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (program, purpose, version)
);

-- epoch 0: not wrapped by an epoch key. vouched is the house's signature that
-- public is this person's: what is sealed to it, the house can open.
CREATE TABLE person_keys (
    person  TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    epoch   BIGINT NOT NULL,
    wrapped BYTEA NOT NULL,
    audit   BYTEA NOT NULL,
    public  BYTEA,
    vouched BYTEA,
    private BYTEA,
    created BIGINT NOT NULL
);
CREATE INDEX person_keys_program ON person_keys (program);

-- sealed to the person's public key while the call lives, wrapped under the
-- person's symmetric key once the track is closed.
CREATE TABLE track_keys (
    track   TEXT PRIMARY KEY,
    program TEXT NOT NULL,
    person  TEXT NOT NULL,
    sealed  BYTEA,
    wrapped BYTEA,
    created BIGINT NOT NULL
);
CREATE INDEX track_keys_person ON track_keys (person);
