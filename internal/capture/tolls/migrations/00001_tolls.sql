-- +goose Up
-- What was spent, and what is held for calls that last. purse is a program, a
-- person, "house" or "trunk:" and a name; day is days since 1970, UTC.
CREATE TABLE tolls_spent (
	purse  TEXT NOT NULL,
	day    BIGINT NOT NULL,
	micros BIGINT NOT NULL, -- millionths of a dollar
	PRIMARY KEY (purse, day)
);
CREATE INDEX tolls_spent_day ON tolls_spent (day);

-- The calls that last, with what is held for them. Nothing here is a number.
CREATE TABLE tolls_calls (
	id       TEXT PRIMARY KEY,
	program  TEXT NOT NULL,
	person   TEXT NOT NULL,              -- the purse that pays; '' once forgotten
	trunk    TEXT NOT NULL,
	day      BIGINT NOT NULL,
	price    BIGINT NOT NULL,            -- of a minute
	held     BIGINT NOT NULL,
	answered BIGINT NOT NULL DEFAULT 0,  -- milliseconds; 0: not yet
	until    BIGINT NOT NULL             -- it has ended by then, whatever happened
);
CREATE INDEX tolls_calls_until ON tolls_calls (until);

-- What was refused, by minute.
CREATE TABLE tolls_refused (
	minute  BIGINT NOT NULL,             -- milliseconds
	program TEXT NOT NULL,
	person  TEXT NOT NULL,
	word    TEXT NOT NULL,
	region  TEXT NOT NULL,
	times   BIGINT NOT NULL,
	PRIMARY KEY (minute, program, person, word, region)
);

-- +goose Down
DROP TABLE tolls_refused;
DROP TABLE tolls_calls;
DROP TABLE tolls_spent;
