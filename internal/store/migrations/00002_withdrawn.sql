-- +goose Up
-- The log of runs is never changed: a run that is no evidence any more gets a
-- row here, and is read by no job from then on.
CREATE TABLE withdrawn (
    run INTEGER PRIMARY KEY REFERENCES runs (id),
    at  TEXT NOT NULL
);
CREATE INDEX runs_job ON runs (job, id);

-- +goose Down
DROP INDEX runs_job;
DROP TABLE withdrawn;
