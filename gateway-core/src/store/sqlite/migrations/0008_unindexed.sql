-- Texts that the full-text index has yet to take, noted a batch at a time.
CREATE TABLE unindexed (
    id INTEGER PRIMARY KEY,
    -- The place of each, as eight octets, the lowest first.
    places BLOB NOT NULL,
    -- How much they and all before them count for.
    weight INTEGER NOT NULL
) STRICT;

-- The index is merged seldom, as each merge costs as much as the writing: a search looks through more parts instead. The
-- second is never reached; it would merge all at once.
INSERT INTO word (word, rank) VALUES ('automerge', 16), ('crisismerge', 64);
