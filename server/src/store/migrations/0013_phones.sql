-- Whoever signed in on a phone until then must do so again; 0: nobody must.
ALTER TABLE subscribers ADD COLUMN phones_ms BIGINT NOT NULL DEFAULT 0;
