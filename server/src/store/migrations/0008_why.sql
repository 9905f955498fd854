-- When a session's counters were last seen to grow; 0: not under its present generation.
ALTER TABLE counters ADD COLUMN moved_ms BIGINT NOT NULL DEFAULT 0;
-- Who is, or is to be, at a location. Both change with moves alone.
CREATE INDEX sessions_by_location ON sessions (location);
CREATE INDEX sessions_by_target ON sessions (target_location) WHERE target_location IS NOT NULL;
