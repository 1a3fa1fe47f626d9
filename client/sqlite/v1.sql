-- What a device knows. Version 1, the first; see migrations in sqlite.go.

CREATE TABLE meta (
	one        INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
	user       TEXT    NOT NULL,
	device     TEXT    NOT NULL,
	ack_serial INTEGER NOT NULL,
	full_sync  INTEGER NOT NULL,
	last_local INTEGER NOT NULL,
	number     INTEGER NOT NULL
);

CREATE TABLE conversations (
	id       TEXT    PRIMARY KEY,
	known    INTEGER NOT NULL,
	newest   INTEGER NOT NULL,
	count    INTEGER NOT NULL,
	last     BLOB,             -- encoded as on the wire; NULL: it is among the entries
	last_cut INTEGER NOT NULL,
	gone     INTEGER NOT NULL  -- the user has left
) WITHOUT ROWID;

CREATE TABLE entries (
	conversation TEXT    NOT NULL,
	seq          INTEGER NOT NULL,
	anchor       INTEGER NOT NULL, -- with place, the clamped local time, and seq: the display order
	place        INTEGER NOT NULL,
	data         BLOB    NOT NULL, -- encoded as on the wire
	PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;

CREATE INDEX display ON entries (conversation, anchor, place, seq);

CREATE TABLE outbox (
	id           BLOB    PRIMARY KEY,
	number       INTEGER NOT NULL,
	conversation TEXT    NOT NULL,
	kind         INTEGER NOT NULL,
	members      TEXT    NOT NULL, -- user IDs, one a line
	payload      BLOB    NOT NULL,
	local        INTEGER NOT NULL
) WITHOUT ROWID;

PRAGMA user_version = 1;
