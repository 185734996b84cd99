-- All sessions of the person on this node are away.
ALTER TABLE online ADD COLUMN away BOOLEAN NOT NULL DEFAULT false;
