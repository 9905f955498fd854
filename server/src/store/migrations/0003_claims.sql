-- Who has which number: its index under every identity key that the registering server had. The key
-- makes it impossible to register a number twice, also by servers whose current keys differ.
CREATE TABLE claims (
    claim      BYTEA NOT NULL PRIMARY KEY,
    subscriber BYTEA NOT NULL
)/*sqlite: WITHOUT ROWID*/;
INSERT INTO claims SELECT phone_index, id FROM subscribers WHERE phone_index IS NOT NULL;
INSERT INTO claims SELECT id_card_index, id FROM subscribers WHERE id_card_index IS NOT NULL;

-- Identity keys that no row needed any more, once all had been renewed: the first server to see it
-- says so in the audit log.
CREATE TABLE identity_walks (
    key_id      BIGINT NOT NULL PRIMARY KEY,
    finished_ms BIGINT NOT NULL
)/*sqlite: WITHOUT ROWID*/;
