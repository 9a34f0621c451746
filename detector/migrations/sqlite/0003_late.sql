-- Corrections of buckets that every shard had committed are of kind 2; `passed` is the last such bucket when they came.
ALTER TABLE commit_log ADD COLUMN passed INTEGER;
CREATE INDEX commit_log_late ON commit_log (id) WHERE kind = 2;
