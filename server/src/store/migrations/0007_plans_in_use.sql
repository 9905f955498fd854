-- Which plans subscribers are on is read from the index alone.
CREATE INDEX subscribers_by_plan ON subscribers (plan) WHERE plan IS NOT NULL;
