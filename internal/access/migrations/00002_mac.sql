-- +goose Up

-- The mark of a row, so that nobody who can only write this database makes a
-- case. One from before this has none, and is no case any more.
ALTER TABLE cases ADD COLUMN mac TEXT NOT NULL DEFAULT '';
