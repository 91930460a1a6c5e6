-- +goose Up
-- What pages ask of a million runs is counted when a run is appended.
CREATE TABLE kernels (
    id         INTEGER PRIMARY KEY,
    identity   TEXT    NOT NULL UNIQUE,     -- digest; of older runs commit:SHA, or '' for not known
    release    TEXT    NOT NULL,
    digest     TEXT    NOT NULL,            -- of the image, '' for not known
    commit_sha TEXT    NOT NULL,            -- the first that gave it, '' for none
    runs       INTEGER NOT NULL DEFAULT 0,  -- that are evidence
    fails      INTEGER NOT NULL DEFAULT 0,
    last_at    TEXT    NOT NULL DEFAULT ''  -- of these and of skips; '' for none
);
CREATE INDEX kernels_last ON kernels (last_at, id);

CREATE TABLE tests (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    runs    INTEGER NOT NULL DEFAULT 0,
    fails   INTEGER NOT NULL DEFAULT 0,
    skips   INTEGER NOT NULL DEFAULT 0,
    kernels INTEGER NOT NULL DEFAULT 0,     -- rows in tests_on_kernels
    flaky   INTEGER NOT NULL DEFAULT 0,     -- known kernels on which it both passed and failed
    last_at TEXT    NOT NULL DEFAULT ''
);

CREATE TABLE tests_on_kernels (
    test    INTEGER NOT NULL REFERENCES tests (id),
    kernel  INTEGER NOT NULL REFERENCES kernels (id),
    runs    INTEGER NOT NULL,
    fails   INTEGER NOT NULL,
    skips   INTEGER NOT NULL,
    last_at TEXT    NOT NULL,
    PRIMARY KEY (test, kernel)
);
CREATE INDEX tests_on_kernels_kernel ON tests_on_kernels (kernel);

ALTER TABLE runs ADD COLUMN test       TEXT NOT NULL DEFAULT '';  -- or program, where it has several
ALTER TABLE runs ADD COLUMN commit_sha TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN kernel     INTEGER REFERENCES kernels (id);

INSERT INTO kernels (identity, release, digest, commit_sha)
SELECT CASE WHEN digest <> '' THEN digest WHEN commit_sha <> '' THEN 'commit:' || commit_sha ELSE '' END AS identity,
       MAX(release), MAX(digest), MIN(commit_sha)
FROM (SELECT COALESCE(json_extract(run, '$.release'), '') AS release,
             COALESCE(json_extract(run, '$.kernel'), '')  AS digest,
             COALESCE(json_extract(run, '$.commit'), '')  AS commit_sha FROM runs) AS r
GROUP BY 1;

UPDATE runs SET
    test = COALESCE(json_extract(run, '$.test'), ''),
    commit_sha = COALESCE(json_extract(run, '$.commit'), ''),
    kernel = (SELECT id FROM kernels WHERE identity = COALESCE(NULLIF(json_extract(run, '$.kernel'), ''),
                                                               'commit:' || NULLIF(json_extract(run, '$.commit'), ''), ''));

CREATE INDEX runs_test ON runs (test, id);
CREATE INDEX runs_job_test ON runs (job, test, id);
CREATE INDEX runs_commit ON runs (commit_sha, id);
CREATE INDEX runs_kernel ON runs (kernel, id);
CREATE INDEX runs_bad ON runs (id) WHERE outcome IN ('fail', 'crash', 'hang');
CREATE INDEX runs_bad_job ON runs (job, id) WHERE outcome IN ('fail', 'crash', 'hang');
CREATE INDEX runs_bad_test ON runs (test, id) WHERE outcome IN ('fail', 'crash', 'hang');

-- A program with several results counts as those, as in reports.
CREATE TABLE counted AS
SELECT test, kernel,
       SUM(CASE WHEN outcome <> 'skip' THEN 1 ELSE 0 END) AS runs,
       SUM(CASE WHEN outcome IN ('fail', 'crash', 'hang') THEN 1 ELSE 0 END) AS fails,
       SUM(CASE WHEN outcome = 'skip' THEN 1 ELSE 0 END) AS skips,
       MAX(at) AS last_at
FROM (
    SELECT test, kernel, outcome, at FROM runs
    WHERE json_extract(run, '$.tests[0].outcome') IS NULL AND id NOT IN (SELECT run FROM withdrawn)
    UNION ALL
    SELECT test || CASE WHEN json_extract(t.value, '$.name') = '' THEN '' ELSE '/' || json_extract(t.value, '$.name') END,
           kernel, json_extract(t.value, '$.outcome'), at
    FROM runs, json_each(run, '$.tests') AS t WHERE runs.id NOT IN (SELECT run FROM withdrawn)
) AS r
WHERE outcome IN ('pass', 'fail', 'crash', 'hang', 'skip')
GROUP BY test, kernel;

INSERT INTO tests (name) SELECT DISTINCT test FROM counted ORDER BY test;
INSERT INTO tests_on_kernels (test, kernel, runs, fails, skips, last_at)
SELECT t.id, c.kernel, c.runs, c.fails, c.skips, c.last_at FROM counted AS c JOIN tests AS t ON t.name = c.test;
DROP TABLE counted;

UPDATE tests SET (runs, fails, skips, kernels, flaky, last_at) = (
    SELECT SUM(o.runs), SUM(o.fails), SUM(o.skips), COUNT(*),
           SUM(CASE WHEN o.fails > 0 AND o.fails < o.runs AND k.identity <> '' THEN 1 ELSE 0 END), MAX(o.last_at)
    FROM tests_on_kernels AS o JOIN kernels AS k ON k.id = o.kernel WHERE o.test = tests.id);

UPDATE kernels SET
    runs    = (SELECT COUNT(*) FROM runs WHERE kernel = kernels.id AND outcome IN ('pass', 'fail', 'crash', 'hang')
               AND runs.id NOT IN (SELECT run FROM withdrawn)),
    fails   = (SELECT COUNT(*) FROM runs WHERE kernel = kernels.id AND outcome IN ('fail', 'crash', 'hang')
               AND runs.id NOT IN (SELECT run FROM withdrawn)),
    last_at = (SELECT COALESCE(MAX(at), '') FROM runs WHERE kernel = kernels.id AND outcome <> 'infra'
               AND runs.id NOT IN (SELECT run FROM withdrawn));

-- +goose Down
DROP INDEX runs_bad_test;
DROP INDEX runs_bad_job;
DROP INDEX runs_bad;
DROP INDEX runs_kernel;
DROP INDEX runs_commit;
DROP INDEX runs_job_test;
DROP INDEX runs_test;
ALTER TABLE runs DROP COLUMN kernel;
ALTER TABLE runs DROP COLUMN commit_sha;
ALTER TABLE runs DROP COLUMN test;
DROP TABLE tests_on_kernels;
DROP TABLE tests;
DROP TABLE kernels;
