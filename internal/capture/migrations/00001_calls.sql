-- +goose Up
-- A call and how it went. Nothing here tells a number: parties are people's ids.
CREATE TABLE calls (
	id        TEXT PRIMARY KEY,
	program   TEXT NOT NULL,
	started   BIGINT NOT NULL,           -- milliseconds
	ended     BIGINT NOT NULL DEFAULT 0, -- 0 while it lasts
	state     TEXT NOT NULL,             -- ringing, notice, asking, bridged, ended
	recording TEXT NOT NULL,             -- nobody, one, both
	reason    TEXT NOT NULL,             -- in words: why it is recorded or not
	ending    TEXT NOT NULL DEFAULT ''   -- in words: how it ended
);
CREATE INDEX calls_living ON calls (ended, started);

CREATE TABLE parties (
	leg      TEXT PRIMARY KEY,
	call     TEXT NOT NULL,
	person   TEXT NOT NULL,              -- '' once forgotten
	side     TEXT NOT NULL,              -- caller, callee
	device   TEXT NOT NULL,              -- '' for the callee
	track    TEXT NOT NULL DEFAULT '',   -- '' while nothing of this voice is kept
	started  BIGINT NOT NULL,            -- the call's, so that a person's list needs this index alone
	answered BIGINT NOT NULL DEFAULT 0,  -- when this party picked up
	ended    BIGINT NOT NULL DEFAULT 0,
	why      TEXT NOT NULL DEFAULT ''    -- why this voice is, or is not, recorded
);
CREATE INDEX parties_of_person ON parties (person, started, call);
CREATE INDEX parties_of_call ON parties (call);

-- +goose Down
DROP TABLE parties;
DROP TABLE calls;
