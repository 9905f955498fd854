-- The /64 of the line itself, beside the delegated prefix. Its leases have family 64.
ALTER TABLE sessions ADD COLUMN ipv6_line        TEXT;
ALTER TABLE sessions ADD COLUMN target_ipv6_line TEXT;
