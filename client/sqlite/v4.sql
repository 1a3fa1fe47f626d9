-- Version 4.

ALTER TABLE entries ADD COLUMN number INTEGER NOT NULL DEFAULT 0; -- in the order in which they were stored; 0: before this version
ALTER TABLE entries ADD COLUMN late INTEGER NOT NULL DEFAULT 0;   -- it filled a hole

CREATE INDEX stored ON entries (number) WHERE number > 0;

ALTER TABLE meta ADD COLUMN stored INTEGER NOT NULL DEFAULT 0;    -- the last entry's number
ALTER TABLE meta ADD COLUMN confirms INTEGER NOT NULL DEFAULT 0;  -- the app confirms entries
ALTER TABLE meta ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0; -- up to this number
ALTER TABLE meta ADD COLUMN key BLOB NOT NULL DEFAULT x'00000000000000000000000000000000'; -- a secret, for the IDs of answers

ALTER TABLE conversations ADD COLUMN own INTEGER NOT NULL DEFAULT 0;       -- seq of the newest message of the user's own; 0: none
ALTER TABLE conversations ADD COLUMN own_count INTEGER NOT NULL DEFAULT 0; -- counting messages up to it

PRAGMA user_version = 4;
