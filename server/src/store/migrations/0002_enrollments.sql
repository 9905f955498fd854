-- One-time tokens of gateways, by their hash. Kept for a while after their end, so that whoever
-- comes with one can be told what is wrong with it.
CREATE TABLE enrollments (
    token_hash TEXT   NOT NULL PRIMARY KEY,
    gateway    TEXT   NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    used_ms    BIGINT
)/*sqlite: WITHOUT ROWID*/;

-- A gateway's certificates issued up to this time are void.
CREATE TABLE revocations (
    gateway         TEXT   NOT NULL PRIMARY KEY,
    issued_until_ms BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;
