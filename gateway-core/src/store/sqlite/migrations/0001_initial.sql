CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE conversation (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last_seq INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    -- How many of its messages count as unread for whoever has read none.
    counted INTEGER NOT NULL
) STRICT;

-- The direct conversations of each user.
CREATE TABLE party (
    user TEXT NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    PRIMARY KEY (user, conversation)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    -- conversation << 32 | seq: the messages of a conversation lie side by side, in order, without a second index.
    place INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    time INTEGER NOT NULL,
    sender TEXT NOT NULL,
    device TEXT,
    kind TEXT NOT NULL,
    key TEXT,
    -- conversation.counted as it was with this message.
    counted INTEGER NOT NULL,
    headers BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE mark (
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    user TEXT NOT NULL,
    read INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    -- conversation.counted as it was at `read`.
    read_counted INTEGER NOT NULL,
    PRIMARY KEY (conversation, user)
) STRICT, WITHOUT ROWID;

-- What was stored and the broker has yet to confirm. Ids are never used twice.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place INTEGER NOT NULL REFERENCES message (place),
    targets BLOB NOT NULL
) STRICT;

-- Outlives the message, so it has all that the answer to a repeated key needs.
CREATE TABLE dedupe (
    sender TEXT NOT NULL,
    key TEXT NOT NULL,
    place INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    time INTEGER NOT NULL,
    outbox INTEGER,
    PRIMARY KEY (sender, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX dedupe_time ON dedupe (time);

CREATE TABLE person (
    name TEXT PRIMARY KEY,
    password TEXT,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE circle (
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE member (
    -- Grows in the order of joining.
    place INTEGER PRIMARY KEY,
    circle TEXT NOT NULL REFERENCES circle (name),
    person TEXT NOT NULL REFERENCES person (name),
    role TEXT NOT NULL,
    joined INTEGER NOT NULL,
    UNIQUE (circle, person)
) STRICT;
CREATE INDEX member_person ON member (person, circle);

CREATE TABLE device (
    -- Grows in the order of registering.
    place INTEGER PRIMARY KEY,
    person TEXT NOT NULL REFERENCES person (name),
    name TEXT NOT NULL,
    registered INTEGER NOT NULL,
    seeded INTEGER NOT NULL,
    UNIQUE (person, name)
) STRICT;
