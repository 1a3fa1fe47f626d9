-- Version 10: for how long messages are kept.

ALTER TABLE outbox ADD COLUMN retain INTEGER NOT NULL DEFAULT 0; -- pim.Entry.Retain

PRAGMA user_version = 10;
