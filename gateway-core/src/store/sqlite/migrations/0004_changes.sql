-- Of an edit, a recall or a reaction: the place of the message that it changes.
ALTER TABLE message ADD COLUMN target INTEGER;
-- Of a message that was edited: the seq of the last edit, whose headers and body stand in the row.
ALTER TABLE message ADD COLUMN edited INTEGER;
-- Of a message that was recalled: the seq of the recall; headers and body are empty.
ALTER TABLE message ADD COLUMN recalled INTEGER;
-- User and text of each reaction.
ALTER TABLE message ADD COLUMN reactions BLOB;
CREATE INDEX message_id ON message (id);
CREATE INDEX message_target ON message (target) WHERE target IS NOT NULL;

-- Messages as they were before their first edit.
CREATE TABLE original (
    place INTEGER PRIMARY KEY REFERENCES message (place) ON DELETE CASCADE,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- Messages that count as unread only until this time: those that expire, and those that were recalled (0).
CREATE TABLE fading (
    place INTEGER PRIMARY KEY REFERENCES message (place) ON DELETE CASCADE,
    until INTEGER NOT NULL
) STRICT;
