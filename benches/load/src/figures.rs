//! Figures, as pages show them.

use std::fmt;

use crate::LoadError;

/// Three digits that mean something, blanks between thousands.
#[must_use]
pub fn number(value: f64) -> String {
    if value >= 1000.0 {
        let step = 10_f64.powf(value.log10().floor() - 2.0);
        let digits = format!("{:.0}", (value / step).round() * step);
        let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
        let groups: Vec<_> = groups.into_iter().map(String::from_utf8_lossy).collect();
        groups.join(" ")
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The middle of some numbers, and how far they spread
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spread {
    /// The middle one, or between the two in the middle
    pub median: f64,
    /// The least
    pub least: f64,
    /// The most
    pub most: f64,
}

impl Spread {
    /// Of these, if there are any.
    #[must_use]
    pub fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let (low, high) = ((numbers.len() - 1) / 2, numbers.len() / 2);
        let median = (numbers.get(low)? + numbers.get(high)?) / 2.0;
        Some(Self { median, least, most })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, least, most } = *self;
        write!(f, "{} ({} to {})", number(median), number(least), number(most))
    }
}

/// A page with other text between its marks `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
///
/// # Errors
///
/// Where the page lacks them.
pub fn insert(page: &str, name: &str, text: &str) -> Result<String, LoadError> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let missing = || LoadError::Plan(format!("the page lacks {begin} and {end}"));
    let (before, after) = parts.ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        let shown = [0.333, 9.87, 12.34, 123.4, 1234.0, 98_765.0, 1_234_567.0].map(number);
        assert_eq!(shown, ["0.33", "9.87", "12.3", "123", "1 230", "98 800", "1 230 000"]);
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(vec![]), None);
        let odd = Spread::of(vec![3.0, 1.0, 9.0]).expect("some");
        assert_eq!((odd.least, odd.median, odd.most), (1.0, 3.0, 9.0));
        assert_eq!(Spread::of(vec![4.0, 1.0]).expect("some").median, 2.5);
    }

    #[test]
    fn text_goes_between_the_marks_and_nowhere_else() {
        let page = "a\n<!-- t: begin -->\nold\n<!-- t: end -->\nb\n";
        let new = insert(page, "t", "new\n").unwrap();
        assert!(new.starts_with("a\n") && new.ends_with("\nb\n"), "{new}");
        assert!(new.contains("new") && !new.contains("old"), "{new}");
        assert_eq!(insert(&new, "t", "new\n").unwrap(), new, "again changes nothing");
        assert!(insert(page, "other", "new").is_err());
    }
}
