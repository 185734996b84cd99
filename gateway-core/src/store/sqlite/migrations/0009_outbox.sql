-- Messages that are stored together are one entry of the outbox, in octets: of each its place in the row, its own place
-- and the lengths of what follows, all with the highest octet first; see outbox.rs.
CREATE TABLE waiting (
    -- The number of the last message; that of each is never used twice.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The number of the first.
    first INTEGER NOT NULL,
    messages BLOB NOT NULL
) STRICT;
INSERT INTO waiting (id, first, messages) SELECT id, id, unhex(
    printf('%08x%016x%08x', 0, place, length(targets)) || hex(targets)
    || iif(copy IS NULL, 'ffffffff', printf('%08x', length(copy)) || hex(copy))
) FROM outbox;
DELETE FROM sqlite_sequence WHERE name = 'waiting';
INSERT INTO sqlite_sequence (name, seq) SELECT 'waiting', seq FROM sqlite_sequence WHERE name = 'outbox';
DROP TABLE outbox;
ALTER TABLE waiting RENAME TO outbox;
