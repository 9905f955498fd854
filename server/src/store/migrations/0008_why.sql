-- When a session's counters were last seen to grow; 0: not under its present generation.
ALTER TABLE counters ADD COLUMN moved_ms BIGINT NOT NULL DEFAULT 0;
-- It changes with the gateway, when a move is over. What a move leads to changes when one begins, which
-- must leave every index alone: it is found through `waiting`, where each such session is.
CREATE INDEX sessions_by_location ON sessions (location);
