-- conversation.counted as it was with the last message that was forgotten.
ALTER TABLE conversation ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
