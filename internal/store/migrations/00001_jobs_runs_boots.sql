-- +goose Up
CREATE TABLE jobs (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,              -- check, series, bisect
    status     TEXT NOT NULL,              -- running, interrupted, done
    request    TEXT NOT NULL,              -- JSON: what was asked for
    result     TEXT NOT NULL DEFAULT '',   -- JSON: the result object, so far
    created_at TEXT NOT NULL               -- RFC 3339, UTC
);

-- Runs are appended and never changed. A cell is a digest of everything that
-- may influence a run: kernel image, machine, guest image, program.
CREATE TABLE runs (
    id      INTEGER PRIMARY KEY,
    job     TEXT NOT NULL REFERENCES jobs (id),
    cell    TEXT NOT NULL,
    outcome TEXT NOT NULL,
    run     TEXT NOT NULL,                 -- JSON: kernel.Run without its texts
    output  BLOB NOT NULL,                 -- zstd
    console BLOB NOT NULL,                 -- zstd
    at      TEXT NOT NULL
);
CREATE INDEX runs_cell ON runs (cell, id);

CREATE TABLE boots (
    id   INTEGER PRIMARY KEY,
    job  TEXT NOT NULL REFERENCES jobs (id),
    cell TEXT NOT NULL,
    boot TEXT NOT NULL,                    -- JSON: kernel.Boot
    at   TEXT NOT NULL
);
CREATE INDEX boots_cell ON boots (cell, id);

-- +goose Down
DROP TABLE boots;
DROP TABLE runs;
DROP TABLE jobs;
