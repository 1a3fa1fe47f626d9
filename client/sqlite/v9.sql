-- Version 9: how far what a user wrote is erased.

CREATE TABLE erasures (
	conversation TEXT    NOT NULL,
	user         TEXT    NOT NULL,
	upto         INTEGER NOT NULL, -- pim.Erasure.UpTo
	PRIMARY KEY (conversation, user)
) WITHOUT ROWID;

PRAGMA user_version = 9;
