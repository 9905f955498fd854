-- Sessions on a plan are gone through in the order of their ids.
DROP INDEX sessions_by_plan;
CREATE INDEX sessions_by_plan ON sessions (plan, id) WHERE plan IS NOT NULL;
