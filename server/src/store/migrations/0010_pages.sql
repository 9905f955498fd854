-- Lists of a gateway's or a prefix's sessions go on behind a key. The tables of SQLite have no rows but by
-- their keys, so that its indices hold the ids already, in their order, and its text is ordered by bytes
-- anyway. A location changes only when a move is over; a state, which changes with every
-- transition, is in no index.
/*sqlite:--*/ DROP INDEX sessions_by_gateway;
/*sqlite:--*/ CREATE INDEX sessions_by_gateway ON sessions (gateway, id);
/*sqlite:--*/ DROP INDEX sessions_by_location;
/*sqlite:--*/ ALTER TABLE sessions ALTER COLUMN location TYPE TEXT COLLATE "C";
/*sqlite:--*/ CREATE INDEX sessions_by_location ON sessions (location, id);
