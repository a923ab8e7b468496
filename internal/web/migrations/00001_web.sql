-- +goose Up
-- Answers to requests with an Idempotency-Key, for a day: the same request
-- gets the same answer and is not done twice. Nothing here names a person:
-- id and holder are hashes over an API key's random id, and an answer that
-- has somebody's data in it is never kept.
CREATE TABLE web_answers (
    id      TEXT PRIMARY KEY,
    holder  TEXT NOT NULL,
    request TEXT NOT NULL,
    status  BIGINT NOT NULL,
    body    TEXT NOT NULL,
    born    BIGINT NOT NULL
);
CREATE INDEX web_answers_holder ON web_answers (holder);
CREATE INDEX web_answers_born ON web_answers (born);
