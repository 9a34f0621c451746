-- What an execution did, as the execution log shows it; empty in those of older versions.
ALTER TABLE execution ADD COLUMN message BYTEA;
CREATE INDEX execution_rule ON execution (rule, number);

-- What a rule knows between two executions.
CREATE TABLE rule_progress (
    rule    TEXT  PRIMARY KEY,
    message BYTEA NOT NULL
);
