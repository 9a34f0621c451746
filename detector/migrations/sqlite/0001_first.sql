-- What the store is: lineage, shape, assignment number, last bucket scored.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The leader's term; every writing transaction checks it first.
CREATE TABLE lease (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL
);
INSERT INTO lease (id, term) VALUES (1, 0);

-- How far each shard is committed, and under which epoch. `bucket` is NULL before the first commit.
CREATE TABLE shard (
    shard      INTEGER PRIMARY KEY,
    epoch      INTEGER NOT NULL,
    owner      TEXT    NOT NULL,
    assignment INTEGER NOT NULL,
    commit_no  INTEGER NOT NULL,
    bucket     INTEGER,
    digest     INTEGER NOT NULL
);

-- What is counted of each collector incarnation, per shard.
CREATE TABLE pair (
    shard       INTEGER NOT NULL,
    site        TEXT    NOT NULL,
    collector   TEXT    NOT NULL,
    incarnation BLOB    NOT NULL,
    bucket      INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    PRIMARY KEY (shard, site, collector, incarnation)
) WITHOUT ROWID;

-- The roster: collectors that a close waits for, and incarnations that were replaced.
CREATE TABLE member (
    site        TEXT    NOT NULL,
    collector   TEXT    NOT NULL,
    incarnation BLOB    NOT NULL,
    last_bucket INTEGER NOT NULL,
    retired     INTEGER NOT NULL,
    PRIMARY KEY (site, collector, incarnation)
) WITHOUT ROWID;

-- All commits in order. A row is one bucket's windows (kind 0) or corrections (kind 1) of one commit; it is never changed.
CREATE TABLE commit_log (
    id        INTEGER PRIMARY KEY,
    shard     INTEGER NOT NULL,
    commit_no INTEGER NOT NULL,
    bucket    INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    windows   INTEGER NOT NULL,
    blob      BLOB    NOT NULL
);
CREATE INDEX commit_log_bucket ON commit_log (bucket, kind);

-- Collectors that windows of a bucket miss.
CREATE TABLE missing (
    bucket    INTEGER NOT NULL,
    site      TEXT    NOT NULL,
    collector TEXT    NOT NULL,
    PRIMARY KEY (bucket, site, collector)
) WITHOUT ROWID;

CREATE TABLE anomaly_record (
    finalised    INTEGER PRIMARY KEY,
    finalised_ms INTEGER NOT NULL,
    bucket       INTEGER NOT NULL,
    job          TEXT    NOT NULL,
    score        REAL    NOT NULL,
    message      BLOB    NOT NULL
);
CREATE INDEX anomaly_record_bucket ON anomaly_record (bucket);

CREATE TABLE alert (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    bucket     INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    message    BLOB    NOT NULL
);

CREATE TABLE execution (
    number    INTEGER PRIMARY KEY,
    rule      TEXT    NOT NULL,
    at_ms     INTEGER NOT NULL,
    alerts    INTEGER NOT NULL,
    held_back INTEGER NOT NULL,
    expired   INTEGER NOT NULL,
    young     INTEGER NOT NULL,
    warning   TEXT
);
