-- +goose Up
-- What a forge such as GitHub told us. The body is emptied when it is dealt
-- with; the id stays, so that what is delivered twice counts once.
CREATE TABLE deliveries (
    seq     INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    event   TEXT NOT NULL,
    body    BLOB NOT NULL,                   -- zstd
    done    INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '',        -- why it could not be dealt with, on one line
    at      TEXT NOT NULL
);
CREATE INDEX deliveries_open ON deliveries (seq) WHERE done = 0;

-- Pull requests that are followed.
CREATE TABLE pulls (
    name TEXT PRIMARY KEY,                   -- OWNER/NAME#NUMBER
    open INTEGER NOT NULL,
    pull TEXT NOT NULL                       -- JSON
);
CREATE TABLE pull_jobs (                     -- two may want the same
    job  TEXT NOT NULL,
    pull TEXT NOT NULL REFERENCES pulls (name),
    PRIMARY KEY (job, pull)
);

-- How far repositories have been read that send no webhooks.
CREATE TABLE cursors (
    repo   TEXT PRIMARY KEY,
    cursor TEXT NOT NULL                     -- JSON
);

-- What is to be shown at the forge, one row for each place. The newest wish for
-- a place holds; what is there is known by its digest.
CREATE TABLE outbox (
    place      TEXT PRIMARY KEY,             -- such as: status OWNER/NAME SHA CONTEXT
    seq        INTEGER NOT NULL UNIQUE,      -- of the wish: the order of sending
    content    TEXT NOT NULL,                -- JSON
    digest     TEXT NOT NULL,                -- of what people see of the content
    sent       TEXT NOT NULL DEFAULT '',     -- digest of what is there
    sending    INTEGER NOT NULL DEFAULT 0,   -- begun, and not known whether it came
    remote     TEXT NOT NULL DEFAULT '',     -- its id there
    attempts   INTEGER NOT NULL DEFAULT 0,
    not_before TEXT NOT NULL DEFAULT '',
    problem    TEXT NOT NULL DEFAULT '',     -- of the last attempt
    given_up   INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX outbox_due ON outbox (seq) WHERE (sent <> digest OR sending = 1) AND given_up = 0;

-- +goose Down
DROP TABLE outbox;
DROP TABLE cursors;
DROP TABLE pull_jobs;
DROP TABLE pulls;
DROP TABLE deliveries;
