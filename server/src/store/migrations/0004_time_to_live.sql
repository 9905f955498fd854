-- Seconds for which a gateway serves the session without its server; 0: for ever.
ALTER TABLE sessions ADD COLUMN ttl_s BIGINT NOT NULL DEFAULT 0;
CREATE INDEX sessions_with_ttl ON sessions (gateway) WHERE ttl_s > 0;
