-- The last message of which not all was stored; 0 without one.
ALTER TABLE conversation ADD COLUMN gap BIGINT NOT NULL DEFAULT 0;

-- An entry of the outbox may be of a message that is not stored.
ALTER TABLE outbox DROP CONSTRAINT outbox_conversation_seq_fkey;
-- The whole message, where `message` has not all of it.
ALTER TABLE outbox ADD COLUMN copy BYTEA;
