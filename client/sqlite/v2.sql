-- Version 2: what the client engine of November 2026 keeps besides.

ALTER TABLE conversations ADD COLUMN holes BLOB; -- see holes.go; NULL: none

ALTER TABLE outbox ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN failed_kind INTEGER; -- NULL: it has not failed
ALTER TABLE outbox ADD COLUMN failed_op TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN failed_text TEXT NOT NULL DEFAULT '';

CREATE TABLE settings (
	entity  TEXT    PRIMARY KEY,
	command BLOB    NOT NULL, -- the one in force, encoded as on the wire
	at      INTEGER NOT NULL, -- its seq; 0: none
	deleted INTEGER NOT NULL,
	by      TEXT    NOT NULL
) WITHOUT ROWID;

CREATE TABLE networks (
	name   TEXT    PRIMARY KEY,
	every  INTEGER NOT NULL, -- ms
	stable INTEGER NOT NULL,
	used   INTEGER NOT NULL
) WITHOUT ROWID;

PRAGMA user_version = 2;
