-- The words of a text message and where they stand, and its conversation as a word of its own (@ and the number): so the
-- index finds what matches in some conversations without looking at the others. NULL for what is no text. The words are
-- taken apart before they come here; see search/terms.rs for what a word is.
ALTER TABLE message ADD COLUMN words TSVECTOR;
-- What was added of late is looked through one by one by each search: a short list of it, in kB.
CREATE INDEX message_words ON message USING gin (words) WITH (gin_pending_list_limit = 128)
WHERE words IS NOT NULL;
