-- +goose Up
CREATE TABLE programs (
    id        TEXT PRIMARY KEY,
    name      TEXT NOT NULL,
    one_sided BOOLEAN NOT NULL,
    country   TEXT NOT NULL,
    created   BIGINT NOT NULL
);
