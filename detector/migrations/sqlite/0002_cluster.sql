-- Who leads. SQLite keeps the end of the lease in memory: one process has the file, and its lock says so.
ALTER TABLE lease ADD COLUMN holder TEXT NOT NULL DEFAULT '';
ALTER TABLE lease ADD COLUMN expires_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lease ADD COLUMN system TEXT NOT NULL DEFAULT '';

-- Single numbers: the newest assignment, the last bucket scored.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counter (name, value) SELECT key, value FROM meta WHERE typeof(value) = 'integer';
DELETE FROM meta WHERE typeof(value) = 'integer';

-- Every lineage this store had; the highest number counts. A new one begins whenever the store went back.
CREATE TABLE lineage (
    number   INTEGER PRIMARY KEY,
    id       BLOB    NOT NULL,
    began_ms INTEGER NOT NULL,
    reason   TEXT    NOT NULL
);
INSERT INTO lineage (number, id, began_ms, reason) SELECT 1, value, 0, 'made' FROM meta WHERE key = 'lineage';
DELETE FROM meta WHERE key = 'lineage';

-- Totals of each shard's commits; they outlive the log's retention.
ALTER TABLE shard ADD COLUMN windows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE shard ADD COLUMN corrections INTEGER NOT NULL DEFAULT 0;
UPDATE shard SET
    windows = (SELECT COALESCE(SUM(windows), 0) FROM commit_log l WHERE l.shard = shard.shard AND l.kind = 0),
    corrections = (SELECT COALESCE(SUM(windows), 0) FROM commit_log l WHERE l.shard = shard.shard AND l.kind = 1);

ALTER TABLE member ADD COLUMN absent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE member ADD COLUMN last_heard_ms INTEGER NOT NULL DEFAULT 0;

-- Running totals of a site in an open bucket; replaced, never added, and dropped when a newer epoch opens the shard.
CREATE TABLE site_total (
    shard   INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,
    site    TEXT    NOT NULL,
    message BLOB    NOT NULL,
    PRIMARY KEY (shard, bucket, site)
) WITHOUT ROWID;

-- Baselines as they stood after a bucket, in parts of bounded size. Usable once `parts` says how many there are.
CREATE TABLE snapshot (
    bucket  INTEGER NOT NULL,
    jobs    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    parts   INTEGER,
    PRIMARY KEY (bucket, jobs, version)
) WITHOUT ROWID;
CREATE TABLE snapshot_part (
    bucket  INTEGER NOT NULL,
    jobs    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    part    INTEGER NOT NULL,
    blob    BLOB    NOT NULL,
    PRIMARY KEY (bucket, jobs, version, part)
);

-- Alerts that wait for a sink: (alert_id, version) is the key that makes a repeat harmless. The message is the alert's.
CREATE TABLE outbox (
    number       INTEGER PRIMARY KEY,
    sink         TEXT    NOT NULL,
    alert_id     TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    created_ms   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    due_ms       INTEGER NOT NULL DEFAULT 0,
    claimed_term INTEGER NOT NULL DEFAULT 0,
    settled_ms   INTEGER,
    problem      TEXT,
    UNIQUE (sink, alert_id, version)
);
CREATE INDEX outbox_due ON outbox (sink, due_ms) WHERE settled_ms IS NULL;
CREATE INDEX alert_created ON alert (created_ms);
CREATE INDEX anomaly_record_finalised ON anomaly_record (finalised_ms);
