-- +goose Up
CREATE TABLE watches (
    subject  TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);
