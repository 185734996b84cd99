ALTER TABLE circle ADD COLUMN title TEXT NOT NULL DEFAULT '';
-- Whether anybody may join.
ALTER TABLE circle ADD COLUMN open INTEGER NOT NULL DEFAULT 0;
-- What members see of the time before they joined: everything ('start') or nothing ('joining').
ALTER TABLE circle ADD COLUMN history TEXT NOT NULL DEFAULT 'start';
-- The last seq of the group's conversation before the member joined.
ALTER TABLE member ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE member ADD COLUMN muted_until INTEGER;
ALTER TABLE device ADD COLUMN label TEXT NOT NULL DEFAULT '';

CREATE TABLE block (
    person TEXT NOT NULL REFERENCES person (name),
    blocked TEXT NOT NULL REFERENCES person (name),
    PRIMARY KEY (person, blocked)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_blocked ON block (blocked, person);
