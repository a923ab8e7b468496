-- +goose Up
-- When people are asked, and where calls may go besides the program's country.
ALTER TABLE programs ADD COLUMN ask TEXT NOT NULL DEFAULT 'before';
ALTER TABLE programs ADD COLUMN international TEXT NOT NULL DEFAULT '';
