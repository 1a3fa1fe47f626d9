-- Version 6: entries that refer to a message.

ALTER TABLE former ADD COLUMN refers INTEGER NOT NULL DEFAULT 0;

-- What is displayed of the messages that others refer to.
CREATE TABLE folds (
	conversation TEXT    NOT NULL,
	seq          INTEGER NOT NULL, -- of the message
	newest       INTEGER NOT NULL, -- pim.Fold.Newest
	recalled     INTEGER NOT NULL, -- no payload of the message is kept
	data         BLOB    NOT NULL, -- encoded as on the wire
	PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;

ALTER TABLE entries ADD COLUMN refers INTEGER NOT NULL DEFAULT 0; -- the message that it refers to; 0: none

CREATE INDEX referring ON entries (conversation, refers) WHERE refers > 0;

ALTER TABLE conversations ADD COLUMN folded INTEGER NOT NULL DEFAULT 0; -- nothing in its folds is newer
ALTER TABLE conversations ADD COLUMN stale INTEGER NOT NULL DEFAULT 0;  -- folds up to this seq may lack something

ALTER TABLE outbox ADD COLUMN refers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN reaction TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 6;
