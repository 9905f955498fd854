-- Since when packets of a session leave and none has come back to it; 0: the last ones were answered.
ALTER TABLE counters ADD COLUMN unanswered_ms BIGINT NOT NULL DEFAULT 0;
