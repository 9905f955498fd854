-- What sessions may do. Rates are bits per second, 0: unlimited.

-- NULL: the default plan.
ALTER TABLE subscribers ADD COLUMN plan TEXT;

-- The plan that the service follows; NULL: none.
ALTER TABLE sessions ADD COLUMN plan                 TEXT;
ALTER TABLE sessions ADD COLUMN up_bps               BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN down_bps             BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN shape_down           BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN priority             BIGINT NOT NULL DEFAULT 0;
-- Grows with each change; the newest that the present gateway has acknowledged.
ALTER TABLE sessions ADD COLUMN service_revision     BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN service_acknowledged BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN service_problem      TEXT   NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN up_policed           BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN down_policed         BIGINT NOT NULL DEFAULT 0;
CREATE INDEX sessions_by_plan ON sessions (plan, state);
CREATE INDEX sessions_behind ON sessions (gateway, state)
    WHERE service_acknowledged < service_revision;

ALTER TABLE receipts ADD COLUMN up_policed   BIGINT NOT NULL DEFAULT 0;
ALTER TABLE receipts ADD COLUMN down_policed BIGINT NOT NULL DEFAULT 0;
