ALTER TABLE message
    -- Of an edit, a recall or a reaction: the seq of the message that it changes.
    ADD COLUMN target BIGINT,
    -- Of a message that was edited: the seq of the last edit, whose headers and body stand in the row.
    ADD COLUMN edited BIGINT,
    -- Of a message that was recalled: the seq of the recall; headers and body are empty.
    ADD COLUMN recalled BIGINT,
    -- User and text of each reaction.
    ADD COLUMN reactions BYTEA;
CREATE INDEX message_id ON message (id);
CREATE INDEX message_target ON message (conversation, target) WHERE target IS NOT NULL;

-- Messages as they were before their first edit.
CREATE TABLE original (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    headers BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (conversation, seq),
    FOREIGN KEY (conversation, seq) REFERENCES message (conversation, seq) ON DELETE CASCADE
);

-- Messages that count as unread only until this time: those that expire, and those that were recalled (0).
CREATE TABLE fading (
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (conversation, seq),
    FOREIGN KEY (conversation, seq) REFERENCES message (conversation, seq) ON DELETE CASCADE
);
