-- The last message of which not all was stored; 0 without one.
ALTER TABLE conversation ADD COLUMN gap INTEGER NOT NULL DEFAULT 0;

-- An entry of the outbox may be of a message that is not stored.
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL,
    targets BLOB NOT NULL,
    -- The whole message, where `message` has not all of it.
    copy BLOB
) STRICT;
INSERT INTO waiting (id, place, targets) SELECT id, place, targets FROM outbox;
-- Ids are never used twice.
DELETE FROM sqlite_sequence WHERE name = 'waiting';
INSERT INTO sqlite_sequence (name, seq) SELECT 'waiting', seq FROM sqlite_sequence WHERE name = 'outbox';
DROP TABLE outbox;
ALTER TABLE waiting RENAME TO outbox;
