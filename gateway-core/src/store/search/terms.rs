//! Taking texts apart, the same way for all stores.
//!
//! Letters and digits between other characters are a word, folded to lower case. Scripts that write without spaces
//! between words (Chinese, Japanese, Thai; Korean, where a word carries its particles) have no words to find without a
//! dictionary: there each pair of neighbouring characters is a word, and the last character of a run one by itself.
//! So any part of a run is found as a phrase of its pairs, and a single character as the beginning of a pair; a
//! pair is rare enough to be looked up, which a single character often is not.

/// The longest word, in characters; the rest of a longer one is not looked at
const MAX_WORD: usize = 64;

/// How much of a text is searched, in octets
pub(super) const MAX_TEXT: usize = 64 * 1024;

/// How many words of a text are searched: PostgreSQL counts positions to 16,383
const MAX_WORDS: usize = 16_000;

/// The words of a text, in order, with a space between each and the next
pub(in crate::store) fn words(text: &str) -> String {
    let text = beginning(text);
    if text.is_ascii() {
        return ascii_words(text);
    }
    let mut words = Words { done: String::with_capacity(text.len()), ..Words::default() };
    for part in text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()) {
        if part.is_ascii() {
            words.push_ascii_word(part);
        } else {
            for c in part.chars() {
                if words.count >= MAX_WORDS {
                    break;
                }
                words.push(c);
            }
            words.end_word();
            words.end_run();
        }
        if words.count >= MAX_WORDS {
            break;
        }
    }
    words.done
}

/// The same, for what most texts consist of
fn ascii_words(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let (mut count, mut length) = (0, 0);
    for octet in text.bytes() {
        if !octet.is_ascii_alphanumeric() {
            length = 0;
            continue;
        }
        if length == 0 {
            if count == MAX_WORDS {
                break;
            }
            if count > 0 {
                words.push(' ');
            }
            count += 1;
        }
        if length < MAX_WORD {
            words.push(octet.to_ascii_lowercase().into());
        }
        length += 1;
    }
    words
}

/// As much of a text as is searched
fn beginning(text: &str) -> &str {
    let end = (MAX_TEXT..text.len()).find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The words of what is looked for: as [`words`], but for a last run of dense script, whose last character is only
/// looked for by itself if there is no other
///
/// Also says whether the last word is such a single character.
pub(super) fn looked_for(text: &str) -> (Vec<String>, bool) {
    let mut words = Words::default();
    text.chars().for_each(|c| words.push(c));
    let single = words.previous.is_some() && !words.paired;
    let paired = words.paired;
    let words = words.finish(!paired);
    (words.split_ascii_whitespace().map(str::to_owned).collect(), single)
}

/// The text being taken apart
#[derive(Default)]
struct Words {
    /// With the word under way, of a script with spaces, at the end
    done: String,
    /// Words that are complete
    count: usize,
    /// Characters in the word under way
    length: usize,
    /// The last character of the run under way, of a dense script
    previous: Option<char>,
    /// Whether that run has a pair already
    paired: bool,
}

impl Words {
    fn push(&mut self, c: char) {
        let c = plain(c);
        if is_accent(c) {
            return;
        }
        if is_dense(c) {
            self.end_word();
            if let Some(previous) = self.previous.replace(c) {
                self.start();
                self.done.extend([previous, c]);
                self.count += 1;
                self.paired = true;
            }
        } else if c.is_alphanumeric() {
            self.end_run();
            self.extend(c.to_lowercase());
        } else {
            self.end_word();
            self.end_run();
        }
    }

    /// Adds a word of ASCII letters and digits, which most texts consist of; nothing if it is empty
    fn push_ascii_word(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        self.start();
        let start = self.done.len();
        self.done.push_str(word.get(..MAX_WORD).unwrap_or(word));
        if let Some(word) = self.done.get_mut(start..) {
            word.make_ascii_lowercase();
        }
        self.count += 1;
    }

    /// Starts a word
    fn start(&mut self) {
        if !self.done.is_empty() {
            self.done.push(' ');
        }
    }

    /// Adds a character to the word under way
    fn extend(&mut self, lower: impl IntoIterator<Item = char>) {
        if self.length == 0 {
            self.start();
        }
        if self.length < MAX_WORD {
            self.done.extend(lower);
            self.length += 1;
        }
    }

    fn end_word(&mut self) {
        if self.length > 0 {
            self.length = 0;
            self.count += 1;
        }
    }

    fn end_run(&mut self) {
        if let Some(last) = self.previous.take() {
            self.start();
            self.done.push(last);
            self.count += 1;
            self.paired = false;
        }
    }

    fn finish(mut self, with_last: bool) -> String {
        self.end_word();
        if with_last {
            self.end_run();
        }
        self.done
    }
}

/// ASCII for its full-width forms, which East Asian keyboards write
fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// An accent that stands after its letter
const fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

/// Whether a character belongs to a script that is searched by pairs
const fn is_dense(c: char) -> bool {
    matches!(c,
        '\u{e01}'..='\u{e3a}' | '\u{e40}'..='\u{e4e}' // Thai
        | '\u{e81}'..='\u{ece}' // Lao
        | '\u{1000}'..='\u{1049}' // Burmese
        | '\u{1100}'..='\u{11ff}' | '\u{ac00}'..='\u{d7af}' // Korean
        | '\u{1780}'..='\u{17d3}' // Khmer
        | '\u{3005}'..='\u{3007}' | '\u{3041}'..='\u{309f}' | '\u{30a1}'..='\u{30fa}'
        | '\u{30fc}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' // Japanese
        | '\u{3105}'..='\u{312f}' // Bopomofo
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{323af}' // Han
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_of_ascii_are_taken_apart_as_all_others(
            text in "([a-zA-Z0-9]{0,70}|[ .\\-Ａé\u{301}]|[会議す녕]{1,3}){0,9}",
        ) {
            let mut one_by_one = Words::default();
            text.chars().for_each(|c| one_by_one.push(c));
            prop_assert_eq!(words(&text), one_by_one.finish(true));
        }
    }
}
