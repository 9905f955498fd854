-- How the session comes up on its line: 'terminal' or 'dhcp'.
ALTER TABLE sessions ADD COLUMN establishment TEXT NOT NULL DEFAULT 'terminal';
