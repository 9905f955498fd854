-- One text for SQLite and PostgreSQL: BYTEA becomes BLOB, and `/*sqlite: X*/` becomes X, where
-- SQLite is meant, and `--postgres: X` becomes X for PostgreSQL. Times are Unix milliseconds. Ids are UUIDs of 16 bytes. What is sealed or
-- indexed by the identity keys is never readable here. Rows refer to each other by id, without
-- foreign keys: each check would be a read and a lock of another row in every transition.

CREATE TABLE subscribers (
    id             BYTEA  NOT NULL PRIMARY KEY,
    -- Grows with every write: a write names the version that it was decided from.
    version        BIGINT NOT NULL,
    generation     BIGINT NOT NULL,
    phone_index    BYTEA  UNIQUE,
    phone_sealed   BYTEA,
    id_card_index  BYTEA  UNIQUE,
    id_card_sealed BYTEA,
    secret_hash    BYTEA  NOT NULL,
    -- NULL: the default plan.
    plan           TEXT,
    created_ms     BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;

CREATE TABLE sessions (
    id                   BYTEA  NOT NULL PRIMARY KEY,
    version              BIGINT NOT NULL,
    subscriber           BYTEA  NOT NULL,
    generation           BIGINT NOT NULL,
    state                TEXT   NOT NULL,
    location             TEXT   NOT NULL,
    gateway              TEXT   NOT NULL,
    place                BIGINT,
    ipv4                 TEXT,
    ipv6                 TEXT,
    -- The /64 of the line itself, beside the delegated prefix.
    ipv6_line            TEXT,
    session_key          BYTEA  NOT NULL,
    target_generation    BIGINT,
    target_location      TEXT,
    target_gateway       TEXT,
    target_place         BIGINT,
    target_ipv4          TEXT,
    target_ipv6          TEXT,
    target_ipv6_line     TEXT,
    target_session_key   BYTEA,
    -- The plan that the service follows; NULL: none. Rates are bits per second, 0: unlimited.
    plan                 TEXT,
    up_bps               BIGINT NOT NULL,
    down_bps             BIGINT NOT NULL,
    shape_down           BIGINT NOT NULL,
    priority             BIGINT NOT NULL,
    -- Grows with each change; the newest that the present gateway has acknowledged.
    service_revision     BIGINT NOT NULL,
    service_acknowledged BIGINT NOT NULL,
    service_problem      TEXT   NOT NULL,
    detail               TEXT   NOT NULL,
    since_ms             BIGINT NOT NULL,
    created_ms           BIGINT NOT NULL,
    terminal_mac         TEXT   NOT NULL,
    line                 TEXT   NOT NULL,
    route                TEXT   NOT NULL,
    -- The newest step of its history.
    last_step            BYTEA
)/*sqlite: WITHOUT ROWID*/;
-- Neither index names what changes with a transition: PostgreSQL then leaves them alone (HOT).
CREATE INDEX sessions_by_subscriber ON sessions (subscriber);
CREATE INDEX sessions_by_gateway ON sessions (gateway);
CREATE INDEX sessions_by_plan ON sessions (plan) WHERE plan IS NOT NULL;

-- Sessions whose gateway has not answered yet: what the rows of `sessions` say, where it is found
-- quickly. Written in the same transaction, always.
CREATE TABLE waiting (
    session  BYTEA  NOT NULL PRIMARY KEY,
    gateway  TEXT   NOT NULL,
    -- The receipt is overdue when it has not come long after this; NULL: none is awaited.
    receipt_since_ms BIGINT
)/*sqlite: WITHOUT ROWID*/;
CREATE INDEX waiting_by_gateway ON waiting (gateway);

-- The history of sessions. Ids are UUIDs of version 7, so that steps lie in the order of time; each
-- names the one before of the same session, so that no second order has to be kept.
CREATE TABLE steps (
    id         BYTEA  NOT NULL PRIMARY KEY,
    previous   BYTEA,
    session    BYTEA  NOT NULL,
    generation BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    gateway    TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    who        TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;

-- An answered request: the same id again gives the same answer.
CREATE TABLE requests (
    request_id  BYTEA  NOT NULL,
    subscriber  BYTEA  NOT NULL,
    digest      BYTEA  NOT NULL,
    session     BYTEA  NOT NULL,
    generation  BIGINT NOT NULL,
    session_key BYTEA  NOT NULL,
    at_ms       BIGINT NOT NULL,
    PRIMARY KEY (request_id, subscriber)
)/*sqlite: WITHOUT ROWID*/;

-- A gateway that lost its own records numbers from one again: the whole row tells receipts apart.
CREATE TABLE receipts (
    session      BYTEA  NOT NULL,
    generation   BIGINT NOT NULL,
    gateway      TEXT   NOT NULL,
    number       BIGINT NOT NULL,
    up_packets   BIGINT NOT NULL,
    up_bytes     BIGINT NOT NULL,
    down_packets BIGINT NOT NULL,
    down_bytes   BIGINT NOT NULL,
    up_policed   BIGINT NOT NULL,
    down_policed BIGINT NOT NULL,
    at_ms        BIGINT NOT NULL,
    recorded_ms  BIGINT NOT NULL,
    PRIMARY KEY (session, generation, gateway, number)
)/*sqlite: WITHOUT ROWID*/;

-- What a gateway last counted for a session, beside the session: it changes far more often.
CREATE TABLE counters (
    session      BYTEA  NOT NULL PRIMARY KEY,
    gateway      TEXT   NOT NULL,
    generation   BIGINT NOT NULL,
    up_packets   BIGINT NOT NULL,
    up_bytes     BIGINT NOT NULL,
    down_packets BIGINT NOT NULL,
    down_bytes   BIGINT NOT NULL,
    up_policed   BIGINT NOT NULL,
    down_policed BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;

-- Places in a gateway's pools: the key makes it impossible to give one out twice.
CREATE TABLE leases (
    gateway TEXT   NOT NULL,
    place   BIGINT NOT NULL,
    session BYTEA  NOT NULL,
    PRIMARY KEY (gateway, place)
)/*sqlite: WITHOUT ROWID*/;

CREATE TABLE gateways (
    id               TEXT   NOT NULL PRIMARY KEY,
    software_version TEXT   NOT NULL,
    peer             TEXT   NOT NULL,
    seen_ms          BIGINT NOT NULL,
    -- As of when its last stream ended.
    last_receipt     BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;

-- The pools that the places of `leases` count in.
CREATE TABLE pools (
    gateway TEXT NOT NULL PRIMARY KEY,
    pools   TEXT NOT NULL
)/*sqlite: WITHOUT ROWID*/;

-- Servers that share this database.
CREATE TABLE servers (
    id      BYTEA  NOT NULL PRIMARY KEY,
    seen_ms BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;

-- What may be asked about later: forced transitions, operator's actions, legacy seals. Each entry is
-- linked to the one before (docs/adr/0015-audit-chain.md).
CREATE TABLE audit (
    number     BIGINT NOT NULL PRIMARY KEY,
    at_ms      BIGINT NOT NULL,
    who        TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    subscriber BYTEA,
    session    BYTEA,
    detail     TEXT   NOT NULL,
    link       BYTEA  NOT NULL
)/*sqlite: WITHOUT ROWID*/;
CREATE INDEX audit_by_action ON audit (action, at_ms);

-- Its end, one row.
CREATE TABLE audit_head (
    id       BIGINT NOT NULL PRIMARY KEY,
    count    BIGINT NOT NULL,
    -- The count that this one was made from: a write names it.
    previous BIGINT NOT NULL,
    link     BYTEA  NOT NULL,
    seal     BYTEA  NOT NULL
)/*sqlite: WITHOUT ROWID*/;
