-- Version 5: a server's store that went back.

ALTER TABLE meta ADD COLUMN store TEXT NOT NULL DEFAULT '';     -- its identity, as told last
ALTER TABLE meta ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;   -- the serial that it knew last
ALTER TABLE meta ADD COLUMN doubt INTEGER NOT NULL DEFAULT 0;   -- conversations are being compared

ALTER TABLE outbox ADD COLUMN again INTEGER NOT NULL DEFAULT 0; -- it was acknowledged once

-- What the user sent and the server has lost, until it is there again or in the outbox.
CREATE TABLE former (
	conversation TEXT    NOT NULL,
	id           BLOB    NOT NULL, -- client message ID
	seq          INTEGER NOT NULL, -- that it had
	data         BLOB    NOT NULL, -- encoded as on the wire
	PRIMARY KEY (conversation, id)
) WITHOUT ROWID;

PRAGMA user_version = 5;
