-- +goose Up
-- How many milliseconds of a voice are speech, as the entry "rendition.closed"
-- of its waveform says. NULL until it is counted; it is never counted of a voice
-- whose waveform is older than this.
ALTER TABLE vault_tracks ADD COLUMN speech BIGINT;
