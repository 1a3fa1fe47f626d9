-- Version 3.

ALTER TABLE outbox ADD COLUMN first INTEGER NOT NULL DEFAULT 0; -- of one sent again by hand; 0: it was not

PRAGMA user_version = 3;
