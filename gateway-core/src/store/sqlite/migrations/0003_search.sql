-- The words of each text message, by its place; see search/terms.rs for what a word is. They are taken apart before they
-- come here, so the tokenizer has only to cut at the spaces: it takes every octet beyond ASCII for part of a word.
CREATE VIRTUAL TABLE word USING fts5 (
    words, content = '', contentless_delete = 1, tokenize = 'ascii'
);
