//! A queue's weekly timetable, read from JSON and checked.

mod days;
mod parse;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use crate::invalid::Invalid;
use crate::{MINUTES_PER_DAY, SECS_PER_DAY};

/// Monday to Sunday.
pub(crate) const DAYS_PER_WEEK: usize = 7;

const DAY_NAMES: [&str; DAYS_PER_WEEK] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Whose clocks a timetable's times are read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Those of the queue's zone.
    Local,
    /// UTC, whatever the queue's zone (Postiz's form).
    Utc,
}

/// One time of a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Minutes since midnight, below 1440.
    pub minute: u16,
    /// Seats, 1 to 1000.
    pub capacity: u16,
    /// The application's own id of the slot.
    pub slot_ref: Option<Arc<str>>,
}

/// The times of each day of the week.
///
/// Within a day they ascend strictly, and over the week, Sunday to Monday included, they are at least the granule
/// apart. Days with equal times share them, and a clone shares everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    clock: Clock,
    days: [Arc<[Rule]>; DAYS_PER_WEEK],
}

impl Timetable {
    /// Reads a timetable in any of its forms: an object of days, an object with `every`, Postiz's array, or `{}`.
    /// Slots closer than `granule_secs` are refused.
    pub fn parse(json: &Value, granule_secs: i64) -> Result<Self, Invalid> {
        let timetable = parse::timetable(json)?;
        timetable.check_spacing(granule_secs)?;
        Ok(timetable)
    }

    /// The times of a weekday (0 is Monday), ascending; none for a number above 6.
    pub fn rules_of(&self, weekday: usize) -> &[Rule] {
        self.days.get(weekday).map_or(&[], |rules| rules)
    }

    /// Whose clocks the times are read on.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// How far its slots are apart, on average over a week. At least 1 second.
    pub fn mean_distance_secs(&self) -> i64 {
        let slots: usize = (0..DAYS_PER_WEEK).map(|day| self.rules_of(day).len()).sum();
        (DAYS_PER_WEEK as i64 * SECS_PER_DAY / (slots as i64).max(1)).max(1)
    }

    /// Whether the timetable has no slot at all: every booking names its own instant.
    pub fn is_free_form(&self) -> bool {
        self.days.iter().all(|rules| rules.is_empty())
    }

    /// A timetable of the given days' rules, in any order. Rules of one time become one: the largest capacity, the
    /// first ref.
    fn new(clock: Clock, days: [Vec<Rule>; DAYS_PER_WEEK]) -> Self {
        let mut shared: Vec<Arc<[Rule]>> = Vec::new();
        let days = days.map(|rules| {
            let rules = united(rules);
            if let Some(same) = shared.iter().find(|known| ***known == *rules) {
                return Arc::clone(same);
            }
            let rules = Arc::from(rules);
            shared.push(Arc::clone(&rules));
            rules
        });
        Self { clock, days }
    }

    fn check_spacing(&self, granule_secs: i64) -> Result<(), Invalid> {
        let times = || {
            (0..DAYS_PER_WEEK).flat_map(|day| {
                self.rules_of(day).iter().map(move |rule| WeekTime {
                    day,
                    minute: rule.minute,
                })
            })
        };
        // The first time follows the last one again, a week later.
        let next_week = times().next().map(|first| (first, DAYS_PER_WEEK as i64 * SECS_PER_DAY));
        let later = times().skip(1).map(|time| (time, 0)).chain(next_week);
        for (one, (next, weeks)) in times().zip(later) {
            let apart = next.secs() + weeks - one.secs();
            if apart < granule_secs {
                let problem = format!(
                    "{one} and {next} are {} minutes apart, closer than the granule of {granule_secs} seconds",
                    apart / 60
                );
                return Err(Invalid::new("timetable", problem)
                    .with_hint("move the slots apart, give one slot a capacity, or make options.granule smaller"));
            }
        }
        Ok(())
    }
}

/// Whether a text names days, as a timetable's key does.
pub(crate) fn are_days(key: &str) -> bool {
    days::Days::parse(key).is_some()
}

/// Unites a day's rules, wherever they come from.
fn united(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by_key(|rule| rule.minute);
    rules.dedup_by(|later, first| {
        let same = later.minute == first.minute;
        if same {
            first.capacity = first.capacity.max(later.capacity);
            first.slot_ref = first.slot_ref.take().or_else(|| later.slot_ref.take());
        }
        same
    });
    rules
}

/// A minute of the week, for messages and distances.
#[derive(Clone, Copy)]
struct WeekTime {
    day: usize,
    minute: u16,
}

impl WeekTime {
    fn secs(self) -> i64 {
        self.day as i64 * SECS_PER_DAY + i64::from(self.minute) * 60
    }
}

impl fmt::Display for WeekTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = DAY_NAMES.get(self.day).unwrap_or(&"");
        write!(f, "{day} {:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

/// The minute of the day that `HH:MM` names, 00:00 to 24:00; `None` for any other text.
fn minute_of(text: &str) -> Option<u16> {
    let two_digits = |digits: &str| {
        let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    (minute < 60)
        .then_some(hour * 60 + minute)
        .filter(|&total| total <= MINUTES_PER_DAY)
}

#[cfg(test)]
mod tests;
