//! Which weekdays a timetable's key names.

use super::{DAY_NAMES, DAYS_PER_WEEK};

const FULL_NAMES: [&str; DAYS_PER_WEEK] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

pub(super) const HINT: &str = "days are mon, tue, wed, thu, fri, sat, sun, ranges such as mon-fri, lists such as sat,sun, or daily, weekdays, weekends";

/// A set of weekdays, indexed from Monday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Days([bool; DAYS_PER_WEEK]);

impl Days {
    /// All of them.
    pub(super) const DAILY: Self = Self([true; DAYS_PER_WEEK]);

    /// Reads a day, a range (which may wrap around the week's end), a group, or several of them with commas
    /// between, in any case. `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut days = Self::default();
        for part in text.split(',') {
            days.add(&part.trim().to_ascii_lowercase())?;
        }
        Some(days)
    }

    /// The weekdays in the set, 0 is Monday.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        self.0
            .into_iter()
            .enumerate()
            .filter_map(|(day, named)| named.then_some(day))
    }

    fn add(&mut self, part: &str) -> Option<()> {
        let (first, last) = match part {
            "daily" => (0, 6),
            "weekdays" => (0, 4),
            "weekends" => (5, 6),
            _ => match part.split_once('-') {
                Some((first, last)) => (day(first.trim_end())?, day(last.trim_start())?),
                None => (day(part)?, day(part)?),
            },
        };
        for (weekday, named) in self.0.iter_mut().enumerate() {
            let inside = if first <= last {
                first <= weekday && weekday <= last
            } else {
                first <= weekday || weekday <= last
            };
            *named |= inside;
        }
        Some(())
    }
}

fn day(name: &str) -> Option<usize> {
    DAY_NAMES
        .iter()
        .position(|&short| short == name)
        .or_else(|| FULL_NAMES.iter().position(|&full| full == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<usize> {
        Days::parse(text).unwrap().iter().collect()
    }

    #[test]
    fn names_ranges_lists_and_groups() {
        assert_eq!(named("mon"), [0]);
        assert_eq!(named("Sunday"), [6]);
        assert_eq!(named("mon-fri"), [0, 1, 2, 3, 4]);
        assert_eq!(named("sat,sun"), [5, 6]);
        assert_eq!(named("MON-Wednesday, fri"), [0, 1, 2, 4]);
        assert_eq!(named("daily"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(named("weekdays"), [0, 1, 2, 3, 4]);
        assert_eq!(named("weekends,wed"), [2, 5, 6]);
        assert_eq!(named("tue-tue,tue"), [1]);
    }

    #[test]
    fn a_range_wraps_around_the_week() {
        assert_eq!(named("fri-mon"), [0, 4, 5, 6]);
        assert_eq!(named("tue-mon"), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn anything_else_is_no_day() {
        for text in [
            "",
            " ",
            "m",
            "montag",
            "mon-",
            "-mon",
            "mon,,tue",
            "mon,",
            "mon-tue-wed",
            "daily-fri",
            "mon..fri",
            "0",
        ] {
            assert_eq!(Days::parse(text), None, "{text}");
        }
    }
}
