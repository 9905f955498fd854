-- Times are Unix milliseconds. Ids are UUIDs as text. What is sealed or indexed by the identity
-- keys is BLOB and never readable here.

CREATE TABLE subscribers (
    id              TEXT   NOT NULL PRIMARY KEY,
    generation      BIGINT NOT NULL,
    phone_index     BLOB   UNIQUE,
    phone_sealed    BLOB,
    id_card_index   BLOB   UNIQUE,
    id_card_sealed  BLOB,
    secret_hash     BLOB   NOT NULL,
    created_ms      BIGINT NOT NULL
);

CREATE TABLE sessions (
    id                 TEXT   NOT NULL PRIMARY KEY,
    subscriber         TEXT   NOT NULL REFERENCES subscribers (id),
    generation         BIGINT NOT NULL,
    state              TEXT   NOT NULL,
    location           TEXT   NOT NULL,
    gateway            TEXT   NOT NULL,
    ipv4               TEXT,
    ipv6               TEXT,
    session_key        BLOB   NOT NULL,
    target_generation  BIGINT,
    target_location    TEXT,
    target_gateway     TEXT,
    target_ipv4        TEXT,
    target_ipv6        TEXT,
    target_session_key BLOB,
    detail             TEXT   NOT NULL,
    since_ms           BIGINT NOT NULL,
    created_ms         BIGINT NOT NULL,
    terminal_mac       TEXT   NOT NULL DEFAULT '',
    line               TEXT   NOT NULL DEFAULT '',
    route              TEXT   NOT NULL DEFAULT '',
    up_packets         BIGINT,
    up_bytes           BIGINT,
    down_packets       BIGINT,
    down_bytes         BIGINT
);
CREATE INDEX sessions_by_subscriber ON sessions (subscriber, state);
CREATE INDEX sessions_by_gateway ON sessions (gateway, state);
CREATE INDEX sessions_by_state ON sessions (state, since_ms);

-- Every step of every session, in the order of seq.
CREATE TABLE steps (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    session    TEXT    NOT NULL REFERENCES sessions (id),
    generation BIGINT  NOT NULL,
    state      TEXT    NOT NULL,
    gateway    TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    who        TEXT    NOT NULL,
    at_ms      BIGINT  NOT NULL
);
CREATE INDEX steps_by_session ON steps (session, seq);

-- An answered request: the same id again gives the same answer.
CREATE TABLE requests (
    subscriber  TEXT   NOT NULL REFERENCES subscribers (id),
    request_id  TEXT   NOT NULL,
    digest      BLOB   NOT NULL,
    session     TEXT   NOT NULL REFERENCES sessions (id),
    generation  BIGINT NOT NULL,
    session_key BLOB   NOT NULL,
    at_ms       BIGINT NOT NULL,
    PRIMARY KEY (subscriber, request_id)
);

-- A gateway that lost its own records numbers from one again: the whole row tells receipts apart.
CREATE TABLE receipts (
    gateway      TEXT   NOT NULL,
    number       BIGINT NOT NULL,
    session      TEXT   NOT NULL,
    generation   BIGINT NOT NULL,
    up_packets   BIGINT NOT NULL,
    up_bytes     BIGINT NOT NULL,
    down_packets BIGINT NOT NULL,
    down_bytes   BIGINT NOT NULL,
    at_ms        BIGINT NOT NULL,
    recorded_ms  BIGINT NOT NULL,
    PRIMARY KEY (gateway, number, session, generation)
);
CREATE INDEX receipts_by_session ON receipts (session, recorded_ms);

-- Addresses given out at a gateway. A row without a session is free and given out first.
CREATE TABLE leases (
    gateway    TEXT   NOT NULL,
    family     INTEGER NOT NULL,
    first      BIGINT NOT NULL,
    last       BIGINT NOT NULL,
    session    TEXT   REFERENCES sessions (id),
    PRIMARY KEY (gateway, family, first)
);
CREATE INDEX leases_free ON leases (gateway, family, first) WHERE session IS NULL;
CREATE UNIQUE INDEX leases_by_session ON leases (session, gateway, family) WHERE session IS NOT NULL;

CREATE TABLE gateways (
    id               TEXT   NOT NULL PRIMARY KEY,
    software_version TEXT   NOT NULL,
    peer             TEXT   NOT NULL,
    seen_ms          BIGINT NOT NULL
);

-- What may be asked about later: forced transitions, operator's actions, legacy seals.
CREATE TABLE audit (
    seq        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_ms      BIGINT NOT NULL,
    who        TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    subscriber TEXT,
    session    TEXT,
    detail     TEXT   NOT NULL
);
CREATE INDEX audit_by_action ON audit (action, at_ms);
