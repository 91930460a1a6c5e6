-- +goose Up
-- A job that is asked for waits as queued until a service takes it.
-- seq is the order in which jobs were asked for: clocks jump, and rowids change
-- when a database is vacuumed.
ALTER TABLE jobs ADD COLUMN seq           INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN title         TEXT    NOT NULL DEFAULT '';  -- a short text for lists
ALTER TABLE jobs ADD COLUMN owner         TEXT    NOT NULL DEFAULT 'cli';
ALTER TABLE jobs ADD COLUMN dedup         TEXT    NOT NULL DEFAULT '';  -- digest of the request, '' for none
ALTER TABLE jobs ADD COLUMN priority      INTEGER NOT NULL DEFAULT 1;   -- 0 a person waits, 1 normal, 2 nightly
ALTER TABLE jobs ADD COLUMN attempt       INTEGER NOT NULL DEFAULT 0;   -- how often a service started it
ALTER TABLE jobs ADD COLUMN cancel_wanted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN error         TEXT    NOT NULL DEFAULT '';  -- why it failed, on one line
ALTER TABLE jobs ADD COLUMN started_at    TEXT    NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN ended_at      TEXT    NOT NULL DEFAULT '';
UPDATE jobs SET seq = rowid,
    started_at = created_at,
    title = CASE WHEN json_valid(request) THEN COALESCE(json_extract(request, '$.command'), '') ELSE '' END;
CREATE UNIQUE INDEX jobs_seq ON jobs (seq);
CREATE INDEX jobs_queue ON jobs (status, priority, seq);
CREATE INDEX jobs_dedup ON jobs (dedup) WHERE dedup <> '';

-- A result is long: a list of jobs must not read over it.
CREATE TABLE results (
    job    TEXT PRIMARY KEY REFERENCES jobs (id),
    result TEXT NOT NULL                       -- JSON: the result object, so far
);
INSERT INTO results (job, result) SELECT id, result FROM jobs WHERE result <> '';
ALTER TABLE jobs DROP COLUMN result;

-- +goose Down
ALTER TABLE jobs ADD COLUMN result TEXT NOT NULL DEFAULT '';
UPDATE jobs SET result = COALESCE((SELECT result FROM results WHERE job = id), '');
DROP TABLE results;
DROP INDEX jobs_dedup;
DROP INDEX jobs_queue;
DROP INDEX jobs_seq;
ALTER TABLE jobs DROP COLUMN ended_at;
ALTER TABLE jobs DROP COLUMN started_at;
ALTER TABLE jobs DROP COLUMN error;
ALTER TABLE jobs DROP COLUMN cancel_wanted;
ALTER TABLE jobs DROP COLUMN attempt;
ALTER TABLE jobs DROP COLUMN priority;
ALTER TABLE jobs DROP COLUMN dedup;
ALTER TABLE jobs DROP COLUMN owner;
ALTER TABLE jobs DROP COLUMN title;
ALTER TABLE jobs DROP COLUMN seq;
