-- Version 7: mentions.

ALTER TABLE conversations ADD COLUMN named INTEGER NOT NULL DEFAULT 0;     -- pim.Mentioned of the user
ALTER TABLE conversations ADD COLUMN all_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN own_all INTEGER NOT NULL DEFAULT 0;   -- all_count of the entry at own

ALTER TABLE outbox ADD COLUMN mentions TEXT NOT NULL DEFAULT ''; -- users, one a line
ALTER TABLE outbox ADD COLUMN mention_all INTEGER NOT NULL DEFAULT 0;

PRAGMA user_version = 7;
