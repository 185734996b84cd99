-- Who shares the database. The lease is by the clock of the server.
CREATE TABLE node (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    expires TIMESTAMPTZ NOT NULL,
    -- It publishes no more: its part of the outbox is for whoever takes it.
    resigned BOOLEAN NOT NULL DEFAULT false
);

-- Whose it is to publish; 0 is nobody.
ALTER TABLE outbox ADD COLUMN node BIGINT NOT NULL DEFAULT 0;
CREATE INDEX outbox_node ON outbox (node, id);
CREATE INDEX outbox_conversation ON outbox (conversation, seq);

-- What other nodes store after `seq` is not published before this row is gone.
CREATE TABLE barrier (
    conversation BIGINT NOT NULL,
    node BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    PRIMARY KEY (conversation, node)
);

-- A device is filled by one node at a time.
CREATE TABLE seeding (
    person TEXT COLLATE "C" NOT NULL,
    device TEXT COLLATE "C" NOT NULL,
    node BIGINT NOT NULL,
    PRIMARY KEY (person, device)
);

-- Who has a session on which node; counts while the node's lease does.
CREATE TABLE online (
    person TEXT COLLATE "C" NOT NULL,
    node BIGINT NOT NULL,
    PRIMARY KEY (person, node)
);
CREATE INDEX online_node ON online (node);
CREATE TABLE last_seen (
    person TEXT COLLATE "C" PRIMARY KEY,
    time BIGINT NOT NULL
);
