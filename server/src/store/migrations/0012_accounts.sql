-- People who sign in to the console. A password is only ever here as a hash, a PHC string.
CREATE TABLE accounts (
    name          TEXT   NOT NULL PRIMARY KEY,
    -- Grows with every write: a write names the version that it was decided from.
    version       BIGINT NOT NULL,
    role          TEXT   NOT NULL,
    password_hash TEXT   NOT NULL,
    -- When the password was set: whoever signed in before must do so again.
    password_ms   BIGINT NOT NULL,
    disabled      BIGINT NOT NULL,
    created_ms    BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;
