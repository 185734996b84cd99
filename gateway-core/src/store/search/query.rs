use std::str::FromStr;

use super::terms::{looked_for, words};

/// The longest text of a query, in octets
pub const MAX_QUERY_OCTETS: usize = 512;

/// How many words and phrases a query may have
pub const MAX_PHRASES: usize = 16;

/// What is looked for: words and phrases that a text must have all of
///
/// Words stand apart by spaces, in any order; `"two words"` within quotation marks are looked for side by side, and
/// so are the parts of a word with other signs in it, such as `e-mail`. `wo*` finds what begins so, from two letters. Case is of no
/// matter. Of Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese any part of a text is found, also without spaces.
///
/// ```
/// use gateway_core::SearchTerms;
///
/// let terms: SearchTerms = r#"meeting "next week" 会议 pro*"#.parse()?;
/// assert!(terms.match_text("The PROJECT: 明天的会议, a meeting next week"));
/// assert!(!terms.match_text("next meeting of the project this week: 会议"));
/// # Ok::<(), gateway_core::InvalidSearch>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchTerms {
    phrases: Vec<Phrase>,
}

/// Words side by side
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Phrase {
    /// At least one
    pub(in crate::store) words: Vec<String>,
    /// Whether the last word is only the beginning of one
    pub(in crate::store) open: bool,
}

impl SearchTerms {
    /// Whether `text` has all words and phrases
    ///
    /// Of a very long text the first 64 KiB count.
    #[must_use]
    pub fn match_text(&self, text: &str) -> bool {
        let words = words(text);
        let words: Vec<&str> = words.split_ascii_whitespace().collect();
        self.phrases.iter().all(|phrase| phrase.is_in(&words))
    }

    /// Whether of some word only the beginning is known
    #[cfg(feature = "sqlite")]
    pub(in crate::store) fn is_open(&self) -> bool {
        self.phrases.iter().any(|phrase| phrase.open)
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(in crate::store) fn phrases(&self) -> &[Phrase] {
        &self.phrases
    }
}

impl Phrase {
    fn new(text: &str, open: bool) -> Option<Self> {
        let (words, single) = looked_for(text);
        // What begins with one letter of a script with spaces would be half of everything.
        let begins = open && words.last().is_some_and(|last| last.chars().nth(1).is_some());
        (!words.is_empty()).then_some(Self { words, open: begins || single })
    }

    fn is_in(&self, text: &[&str]) -> bool {
        let Some((last, first)) = self.words.split_last() else { return true };
        text.windows(self.words.len()).any(|found| {
            let Some((end, start)) = found.split_last() else { return false };
            start == first && if self.open { end.starts_with(last) } else { *end == last }
        })
    }
}

impl FromStr for SearchTerms {
    type Err = InvalidSearch;

    fn from_str(text: &str) -> Result<Self, InvalidSearch> {
        if text.len() > MAX_QUERY_OCTETS {
            return Err(InvalidSearch::TooLong);
        }
        let mut phrases = Vec::new();
        for (index, part) in text.split('"').enumerate() {
            // What stands between two quotation marks is every second part.
            if index % 2 == 1 {
                phrases.extend(Phrase::new(part, false));
            } else {
                let word = |word: &str| Phrase::new(word, word.ends_with('*'));
                phrases.extend(part.split_whitespace().filter_map(word));
            }
        }
        match phrases.len() {
            0 => Err(InvalidSearch::Empty),
            1..=MAX_PHRASES => Ok(Self { phrases }),
            _ => Err(InvalidSearch::TooMany),
        }
    }
}

/// Why a text is no query
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSearch {
    /// It has no letter and no digit
    #[error("must have a letter or a digit")]
    Empty,
    /// It has more than [`MAX_QUERY_OCTETS`]
    #[error("has at most {MAX_QUERY_OCTETS} octets")]
    TooLong,
    /// It has more than [`MAX_PHRASES`]
    #[error("has at most {MAX_PHRASES} words and phrases")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(query: &str, text: &str) -> bool {
        query.parse::<SearchTerms>().unwrap().match_text(text)
    }

    #[test]
    fn words_are_found_whole_in_any_order_and_case() {
        let text = "The Quick brown fox, e-mail: fox@example.org (42)";
        for query in ["quick", "FOX quick", "42", "e-mail", "example.org", "fox@example", "bro*"] {
            assert!(finds(query, text), "{query}");
        }
        for query in ["quic", "quick cat", "mail-e", "example.com", "rown*", "4"] {
            assert!(!finds(query, text), "{query}");
        }
    }

    #[test]
    fn a_phrase_is_found_side_by_side() {
        let text = "see you next week, not next year";
        for query in ["\"next week\"", "\"not next year\"", "week \"you next\"", "\"next year"] {
            assert!(finds(query, text), "{query}");
        }
        for query in ["\"week next\"", "\"you week\"", "\"nex week\"", "\"see next\""] {
            assert!(!finds(query, text), "{query}");
        }
    }

    #[test]
    fn any_part_of_a_text_without_spaces_is_found() {
        let text = "明天下午在東京タワーで会議があります。Bring 電腦 please";
        for query in [
            "明天",
            "天下午",
            "東",
            "タワー",
            "会議",
            "す",
            "bring電腦",
            "電 please",
            "\"腦 please\"",
        ] {
            assert!(finds(query, text), "{query}");
        }
        for query in ["下天", "東ワ", "会議室", "\"電 please\"", "京東"] {
            assert!(!finds(query, text), "{query}");
        }
        assert!(finds("안녕", "친구야 안녕하세요"));
        assert!(finds("녕하세", "안녕하세요"));
        assert!(finds("ประชุม", "พรุ่งนี้มีประชุมตอนเช้า"));
        assert!(finds("𠮷野", "𠮷野家"));
    }

    #[test]
    fn other_spellings_of_the_same_letters_are_found() {
        assert!(finds("abc123", "ＡＢＣ１２３"));
        assert!(finds("cafe", "cafe\u{301}"));
        assert!(finds("привет", "ПРИВЕТ!"));
    }

    #[test]
    fn what_has_no_words_or_too_many_is_refused() {
        let parse = |text: &str| text.parse::<SearchTerms>().unwrap_err();
        for empty in ["", "  ", "\"\"", "*", "!? -"] {
            assert_eq!(parse(empty), InvalidSearch::Empty, "{empty}");
        }
        assert_eq!(parse(&"a".repeat(MAX_QUERY_OCTETS + 1)), InvalidSearch::TooLong);
        assert_eq!(parse(&"a ".repeat(MAX_PHRASES + 1)), InvalidSearch::TooMany);
        assert!("a ".repeat(MAX_PHRASES).parse::<SearchTerms>().is_ok());
    }

    #[test]
    fn a_long_text_is_searched_as_far_as_the_limit() {
        let text = format!("first {} last", "x".repeat(super::super::terms::MAX_TEXT));
        assert!(finds("first", &text));
        assert!(!finds("last", &text));
        assert!(finds(&"x".repeat(100), &text), "a very long word by its beginning");
        let many = "字".repeat(30_000);
        assert_eq!(words(&many).split(' ').count(), 16_001);
    }
}
