//! Slugs: a text as lower-case ASCII words joined by `-`, and the names `name`, `name-1`, `name-2`, … that follow it.

mod attachment;

pub use attachment::{Attachment, DEFAULT_LENGTH};

use deunicode::deunicode_char;
use std::collections::BTreeSet;

/// The word that stands in where a text has nothing to spell, unless the application has another.
pub const FALLBACK: &str = "item";

/// The longest slug that may be asked for.
pub const LONGEST: usize = 255;

/// A text as a slug of at most `max_length` characters; empty where it has no letter or digit in any script.
///
/// Apostrophes are part of a word (`don't` is `dont`); everything else that is no letter or digit separates words.
pub fn slugify(text: &str, max_length: usize) -> String {
    let mut slug = String::new();
    let mut apart = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            apart = true;
            continue;
        }
        for ascii in deunicode_char(c).unwrap_or(" ").chars() {
            if ascii.is_ascii_alphanumeric() {
                if apart && !slug.is_empty() {
                    slug.push('-');
                }
                apart = false;
                slug.push(ascii.to_ascii_lowercase());
            } else if ascii != '\'' {
                apart = true;
            }
        }
        if slug.len() > max_length {
            break;
        }
    }
    cut(&slug, max_length).to_owned()
}

/// The start of a slug, without a `-` at its end.
fn cut(slug: &str, length: usize) -> &str {
    slug.get(..length).unwrap_or(slug).trim_end_matches('-')
}

/// What an application wants of its slugs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Characters, suffix included.
    pub max_length: usize,
    /// Slugs that are never given.
    pub reserved: BTreeSet<String>,
    /// The slug of a text that has nothing to spell.
    pub fallback: String,
}

impl Rules {
    /// Rules with the default fallback and nothing reserved.
    pub fn new(max_length: usize) -> Self {
        Self {
            max_length,
            reserved: BTreeSet::new(),
            fallback: FALLBACK.to_owned(),
        }
    }

    /// Reserves the slugs of these words.
    pub fn reserve<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) {
        let slugs = words.into_iter().map(|word| slugify(word, LONGEST));
        self.reserved.extend(slugs.filter(|slug| !slug.is_empty()));
    }

    /// The names that a text may get.
    pub fn series(&self, text: &str) -> Series {
        let of = |text| slugify(text, self.max_length);
        let base = [text, &self.fallback, FALLBACK]
            .into_iter()
            .map(of)
            .find(|slug| !slug.is_empty())
            .unwrap_or_default();
        Series {
            base,
            max_length: self.max_length,
        }
    }
}

/// The names that one text may get, numbered: 0 is the slug itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Series {
    base: String,
    max_length: usize,
}

impl Series {
    /// The n-th name; none where no character of the text would be left beside the number.
    pub fn name(&self, number: u64) -> Option<String> {
        if number == 0 {
            return (!self.base.is_empty()).then(|| self.base.clone());
        }
        let suffix = format!("-{number}");
        let start = cut(&self.base, self.max_length.checked_sub(suffix.len())?);
        (!start.is_empty()).then(|| format!("{start}{suffix}"))
    }

    /// Which of the series' names this is. `news-20240101` is not what follows `news-20240100`: it is a name of `news`
    /// only as number 20240101.
    pub fn number_of(&self, name: &str) -> Option<u64> {
        if name == self.base {
            return Some(0);
        }
        let (_, digits) = name.rsplit_once('-')?;
        let number = digits.parse().ok().filter(|&number| number > 0)?;
        (self.name(number)? == name).then_some(number)
    }
}

/// From here on the search asks for the number that was last given, before it goes on by itself.
const SMALL: u64 = 8;

/// A number that is free, the first one from `from` on where the taken ones are dense: its predecessor is taken, so
/// numbers never run ahead of the names there are. Asks for a logarithmic number of names, and for a handful where
/// `likely`, the last number known to be taken, still holds. It is a hint and may be anything.
pub fn first_free<E>(from: u64, likely: Option<u64>, mut taken: impl FnMut(u64) -> Result<bool, E>) -> Result<u64, E> {
    if !taken(from)? {
        return Ok(from);
    }
    let mut likely = likely.filter(|&number| number > from.saturating_add(SMALL));
    let (mut low, mut start, mut step) = (from, from, 1);
    let mut high = loop {
        let hinted = if step >= SMALL { likely.take() } else { None };
        let next = hinted
            .filter(|&number| number > low)
            .unwrap_or_else(|| start.saturating_add(step));
        if !taken(next)? {
            break next;
        }
        low = next;
        if hinted.is_some() {
            (start, step) = (next, 1);
        } else {
            step = step.saturating_mul(2);
        }
        if next == u64::MAX {
            break next;
        }
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if taken(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(text: &str) -> String {
        slugify(text, 80)
    }

    #[test]
    fn words_are_spelled_in_ascii() {
        assert_eq!(slug("My Community"), "my-community");
        assert_eq!(slug("  --Crème   Brûlée!! "), "creme-brulee");
        assert_eq!(slug("Straße & Ærø"), "strasse-aero");
        assert_eq!(slug("Don’t can't"), "dont-cant");
        assert_eq!(slug("北京 Москва"), "bei-jing-moskva");
        assert_eq!(slug("news-20240101"), "news-20240101");
        assert_eq!(slug("a_b.c/d"), "a-b-c-d");
        assert_eq!(slug("???"), "");
        assert_eq!(slug(""), "");
        assert_eq!(slug("e\u{301}te\u{301}"), slug("été"));
    }

    #[test]
    fn a_slug_is_cut_without_a_dash_at_its_end() {
        assert_eq!(slugify("abc def", 4), "abc");
        assert_eq!(slugify("abc def", 5), "abc-d");
        assert_eq!(slugify("abc", 0), "");
    }

    #[test]
    fn names_are_numbered_and_never_too_long() {
        let series = Rules::new(6).series("ab cdef");
        assert_eq!(series.name(0).as_deref(), Some("ab-cde"));
        assert_eq!(series.name(1).as_deref(), Some("ab-c-1"));
        assert_eq!(series.name(10).as_deref(), Some("ab-10"));
        assert_eq!(series.name(1000).as_deref(), Some("a-1000"));
        assert_eq!(series.name(10_000), None);
        assert_eq!(Rules::new(1).series("a").name(1), None);
    }

    #[test]
    fn a_number_at_the_end_of_a_name_is_no_counter() {
        let series = Rules::new(80).series("News");
        assert_eq!(series.number_of("news"), Some(0));
        assert_eq!(series.number_of("news-7"), Some(7));
        for other in [
            "news-07", "news-0", "news-", "news-x", "news-7-7", "new-7", "news-+7", "", "-7",
        ] {
            assert_eq!(series.number_of(other), None, "{other}");
        }
        assert_eq!(Rules::new(80).series("news 2024").number_of("news-2024"), Some(0));
    }

    #[test]
    fn what_spells_nothing_falls_back() {
        let mut rules = Rules::new(3);
        assert_eq!(rules.series("???").name(0).as_deref(), Some("ite"));
        rules.fallback = "Ö!".to_owned();
        assert_eq!(rules.series("").name(0).as_deref(), Some("o"));
        rules.fallback = "!".to_owned();
        assert_eq!(rules.series("").name(0).as_deref(), Some("ite"));
    }

    #[test]
    fn reserved_words_are_compared_as_slugs() {
        let mut rules = Rules::new(80);
        rules.reserve([" Log In ", "", "!"]);
        assert_eq!(rules.reserved.into_iter().collect::<Vec<_>>(), ["log-in"]);
    }
}
