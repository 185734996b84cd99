CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Names sort by their octets everywhere.
CREATE TABLE conversation (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    last_seq BIGINT NOT NULL DEFAULT 0,
    last_time BIGINT NOT NULL DEFAULT 0,
    -- How many of its messages count as unread for whoever has read none.
    counted BIGINT NOT NULL DEFAULT 0
);

-- The direct conversations of each user.
CREATE TABLE party (
    person TEXT COLLATE "C" NOT NULL,
    conversation BIGINT NOT NULL REFERENCES conversation (id),
    PRIMARY KEY (person, conversation)
);

CREATE TABLE message (
    conversation BIGINT NOT NULL REFERENCES conversation (id),
    seq BIGINT NOT NULL,
    id BYTEA NOT NULL,
    time BIGINT NOT NULL,
    sender TEXT COLLATE "C" NOT NULL,
    device TEXT COLLATE "C",
    kind TEXT NOT NULL,
    -- Octets, as a text of PostgreSQL takes no NUL.
    key BYTEA,
    -- conversation.counted as it was with this message.
    counted BIGINT NOT NULL,
    headers BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (conversation, seq)
);

CREATE TABLE mark (
    conversation BIGINT NOT NULL REFERENCES conversation (id),
    person TEXT COLLATE "C" NOT NULL,
    read BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    -- conversation.counted as it was at `read`.
    read_counted BIGINT NOT NULL,
    PRIMARY KEY (conversation, person)
);

-- What was stored and the broker has yet to confirm.
CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    targets BYTEA NOT NULL,
    FOREIGN KEY (conversation, seq) REFERENCES message (conversation, seq)
);

-- Outlives the message, so it has all that the answer to a repeated key needs.
CREATE TABLE dedupe (
    sender TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    conversation BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    message_id BYTEA NOT NULL,
    time BIGINT NOT NULL,
    outbox BIGINT,
    PRIMARY KEY (sender, key)
);
CREATE INDEX dedupe_time ON dedupe (time);

CREATE TABLE person (
    name TEXT COLLATE "C" PRIMARY KEY,
    password TEXT,
    created BIGINT NOT NULL
);

CREATE TABLE circle (
    name TEXT COLLATE "C" PRIMARY KEY,
    created BIGINT NOT NULL
);

CREATE TABLE member (
    -- Grows in the order of joining.
    place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    circle TEXT COLLATE "C" NOT NULL REFERENCES circle (name),
    person TEXT COLLATE "C" NOT NULL REFERENCES person (name),
    role TEXT NOT NULL,
    joined BIGINT NOT NULL,
    UNIQUE (circle, person)
);
CREATE INDEX member_person ON member (person, circle);

CREATE TABLE device (
    -- Grows in the order of registering.
    place BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person TEXT COLLATE "C" NOT NULL REFERENCES person (name),
    name TEXT COLLATE "C" NOT NULL,
    registered BIGINT NOT NULL,
    seeded BOOLEAN NOT NULL,
    UNIQUE (person, name)
);
