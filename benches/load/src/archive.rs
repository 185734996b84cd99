//! Archives that im-server imports: groups with their members, and what people have said to each other.

/// Words that texts are made of
const WORDS: u64 = 30_000;
/// The beginning of time in archives, in milliseconds since 1970
const START: u64 = 1_700_000_000_000;

/// A group of these people, the first of whom owns it.
pub(crate) fn group(name: &str, members: impl Iterator<Item = String>) -> String {
    let settings = r#"{"title":"","open":false,"history":"start"}"#;
    let mut lines = format!(
        "{{\"record\":\"conversation\",\"id\":\"group:{name}\",\"first\":null,\"group\":{settings}}}\n"
    );
    for (number, user) in members.enumerate() {
        let role = if number == 0 { "owner" } else { "member" };
        lines.push_str(&format!(
            "{{\"record\":\"member\",\"user\":\"{user}\",\"role\":\"{role}\",\"since\":0,\"muted_until\":null}}\n"
        ));
    }
    lines
}

/// What two people have said to each other, and read
///
/// Which one of all conversations it is decides about the texts and the times.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub(crate) number: u64,
    pub(crate) people: [String; 2],
    pub(crate) messages: u64,
}

impl Talk {
    pub(crate) fn conversation(&self) -> String {
        let mut names = self.people.clone();
        names.sort_unstable();
        format!("direct:{}", names.join(":"))
    }

    pub(crate) fn lines(&self) -> String {
        let id = self.conversation();
        let mut lines = format!(
            "{{\"record\":\"conversation\",\"id\":\"{id}\",\"first\":{{\"seq\":1,\"id\":\"{}\"}}}}\n",
            self.id(1)
        );
        for seq in 1..=self.messages {
            let [one, other] = &self.people;
            let from = if seq % 2 == 0 { one } else { other };
            lines.push_str(&format!(
                "{{\"id\":\"{}\",\"conversation\":\"{id}\",\"seq\":{seq},\"from\":\"{from}\",\"timestamp\":{},\
                 \"kind\":\"message\",\"body\":\"",
                self.id(seq),
                self.time(seq)
            ));
            text(&mut lines, self.place(seq));
            lines.push_str(
                "\",\"body_encoding\":\"utf8\",\"content_type\":null,\"headers\":{},\"edited\":null,\
                 \"recalled\":null,\"reactions\":{}}\n",
            );
        }
        for user in &self.people {
            lines.push_str(&format!(
                "{{\"record\":\"marker\",\"user\":\"{user}\",\"read\":{0},\"delivered\":{0}}}\n",
                self.messages
            ));
        }
        lines
    }

    /// Which message it is of all.
    const fn place(&self, seq: u64) -> u64 {
        self.number << 24 | seq
    }

    const fn time(&self, seq: u64) -> u64 {
        START + self.number * 1000 + seq
    }

    /// Ordered by time, as those that a server makes.
    fn id(&self, seq: u64) -> String {
        format!("{:012x}7000{:016x}", self.time(seq), 2 << 62 | self.place(seq))
    }
}

/// Appends 8 to 40 words, some often, most seldom, as in any language: 128 octets in the middle.
fn text(out: &mut String, seed: u64) {
    let mut random = seed;
    for number in 0..8 + next(&mut random) % 33 {
        if number > 0 {
            out.push(' ');
        }
        // The second word is half as frequent as the first, the third a third.
        let share = (next(&mut random) >> 11) as f64 / (1_u64 << 53) as f64;
        word(out, (WORDS as f64).powf(share) as u64);
    }
}

/// Appends a word of two syllables and more, another one for each rank.
fn word(out: &mut String, rank: u64) {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 5] = b"aeiou";
    let mut rest = rank + 80;
    while rest > 0 {
        let syllable = (rest % 80) as usize;
        out.extend([CONSONANTS[syllable % 16], VOWELS[syllable / 16]].map(char::from));
        rest /= 80;
    }
}

/// The next number of splitmix64.
const fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value;

    use super::*;

    fn talk(number: u64, messages: u64) -> Vec<Value> {
        let people = ["person0", "friend0"].map(str::to_owned);
        let talk = Talk { number, people, messages };
        talk.lines().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn every_message_of_every_talk_has_an_id_and_a_text_of_its_own() {
        let all: Vec<Value> = [0, 1].into_iter().flat_map(|number| talk(number, 2000)).collect();
        let all: Vec<&Value> = all.iter().filter(|line| line["record"].is_null()).collect();
        let different = |field| all.iter().map(|line| &line[field]).collect::<HashSet<_>>().len();
        assert_eq!((all.len(), different("id")), (4000, 4000));
        assert!(different("body") > 3990, "{}", different("body"));
        assert_eq!(talk(1, 20)[..10], talk(1, 20)[..10], "the same again is the same");
    }

    #[test]
    fn texts_are_about_as_long_as_what_is_measured_and_of_words_of_which_most_are_seldom() {
        let mut all = String::new();
        for seed in 0..1000 {
            text(&mut all, seed);
            all.push(' ');
        }
        let mean = all.len() / 1000;
        assert!((100..160).contains(&mean), "{mean} octets");
        let mut counts: HashMap<&str, usize> = HashMap::new();
        all.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
        let once = counts.values().filter(|count| **count == 1).count();
        let most = counts.values().max().copied().unwrap_or_default();
        assert!(once > counts.len() / 4 && most > 300, "{once} of {} once, {most}", counts.len());
    }

    #[test]
    fn ranks_are_different_words() {
        let words = (0..WORDS).map(|rank| {
            let mut out = String::new();
            word(&mut out, rank);
            out
        });
        assert_eq!(words.collect::<HashSet<_>>().len() as u64, WORDS);
    }
}
