-- How many rows there are of a kind, kept by whoever writes them, in the same transaction: nobody has to
-- walk over a million rows to count them. Each server adds to rows of its own, so that none waits for
-- another's; what all have added together is the count, whoever has counted it.
CREATE TABLE tallies (
    -- Empty: from before there were any.
    server BYTEA  NOT NULL,
    -- A state of sessions, 'subscriber' or 'audit'.
    what   TEXT   NOT NULL,
    -- The sessions' gateway, nothing, or the entries' action.
    part   TEXT   NOT NULL,
    count  BIGINT NOT NULL,
    PRIMARY KEY (server, what, part)
)/*sqlite: WITHOUT ROWID*/;
INSERT INTO tallies SELECT CAST('' AS BYTEA), state, gateway, COUNT(*) FROM sessions GROUP BY state, gateway;
INSERT INTO tallies SELECT CAST('' AS BYTEA), 'subscriber', '', COUNT(*) FROM subscribers HAVING COUNT(*) > 0;
INSERT INTO tallies SELECT CAST('' AS BYTEA), 'audit', action, COUNT(*) FROM audit GROUP BY action;
