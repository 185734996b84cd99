ALTER TABLE circle
    ADD COLUMN title TEXT NOT NULL DEFAULT '',
    -- Whether anybody may join.
    ADD COLUMN open BOOLEAN NOT NULL DEFAULT false,
    -- What members see of the time before they joined: everything ('start') or nothing ('joining').
    ADD COLUMN history TEXT NOT NULL DEFAULT 'start';
ALTER TABLE member
    -- The last seq of the group's conversation before the member joined.
    ADD COLUMN since BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN muted_until BIGINT;
ALTER TABLE device ADD COLUMN label TEXT NOT NULL DEFAULT '';

CREATE TABLE block (
    person TEXT COLLATE "C" NOT NULL REFERENCES person (name),
    blocked TEXT COLLATE "C" NOT NULL REFERENCES person (name),
    PRIMARY KEY (person, blocked)
);
CREATE INDEX block_blocked ON block (blocked, person);
