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
    let mut words =
        Words { done: String::with_capacity(text.len().min(MAX_TEXT)), ..Words::default() };
    for (index, c) in text.char_indices() {
        if index >= MAX_TEXT || words.count >= MAX_WORDS {
            break;
        }
        words.push(c);
    }
    words.finish(true)
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
        if c.is_ascii() {
            return self.push_ascii(c);
        }
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

    /// As [`push`](Self::push), for what most texts consist of
    fn push_ascii(&mut self, c: char) {
        self.end_run();
        if !c.is_ascii_alphanumeric() {
            self.end_word();
        } else {
            self.extend([c.to_ascii_lowercase()]);
        }
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
