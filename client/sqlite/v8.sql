-- Version 8: retention removes what is old.

ALTER TABLE conversations ADD COLUMN front INTEGER NOT NULL DEFAULT 0; -- the first seq that is left; 0: nothing was removed
ALTER TABLE conversations ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;  -- what is kept aside from this seq on may be lost; 0: nothing
ALTER TABLE conversations ADD COLUMN gone_at INTEGER NOT NULL DEFAULT 0; -- when the newest of the removed entries was written; 0: not known

PRAGMA user_version = 8;
