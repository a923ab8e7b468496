-- +goose Up
-- More rows have a mark. What was made without one is nothing any more: a
-- claim lasts 15 minutes, staff is appointed anew.
DELETE FROM signups;
ALTER TABLE signups ADD COLUMN state TEXT NOT NULL DEFAULT 'asked';
ALTER TABLE signups ADD COLUMN mac TEXT NOT NULL DEFAULT '';

-- Marked under the house's key, over the end too.
ALTER TABLE staff ADD COLUMN mac TEXT NOT NULL DEFAULT '';

-- An API key that ended is gone.
DELETE FROM api_keys WHERE ended <> 0;
DROP INDEX api_keys_account;
ALTER TABLE api_keys DROP COLUMN ended;
CREATE INDEX api_keys_account ON api_keys (account, created);
CREATE INDEX api_keys_expires ON api_keys (expires);

-- What is sealed is bound to the whole row now, and a phone that ended is gone.
DELETE FROM devices;
ALTER TABLE devices DROP COLUMN ended;
