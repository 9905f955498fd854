-- When what came back to a session was last seen to grow; 0: not under its present generation.
ALTER TABLE counters ADD COLUMN returned_ms BIGINT NOT NULL DEFAULT 0;
UPDATE counters SET returned_ms = moved_ms;
