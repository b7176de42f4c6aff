//! Lengths of time as people write them: `90s`, `1 hour 30 minutes`, `1 year`.

use std::fmt;

use chrono::{DateTime, Months, TimeDelta};

use crate::{Instant, MICROS_PER_SEC, SECS_PER_DAY};

const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SEC;
const MICROS_PER_HOUR: i64 = 3_600 * MICROS_PER_SEC;
const MICROS_PER_DAY: i64 = SECS_PER_DAY * MICROS_PER_SEC;

/// PostgreSQL's first instant, 4713-11-24 BC.
const FIRST_INSTANT: Instant = -210_866_803_200 * MICROS_PER_SEC;

/// A positive length of time, in PostgreSQL's three parts: a month is not a number of days, and a day is kept
/// apart from 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Calendar months; a year is 12.
    pub months: i32,
    /// Calendar days; a week is 7.
    pub days: i32,
    /// Everything shorter than a day, as far as it was written so.
    pub micros: i64,
}

impl Span {
    /// Reads amounts with units (`1 hour 30 minutes`, `90s`, `1.5 days`) and clock notation (`01:30`,
    /// `01:30:00`), in any case, one after the other. Months and years must be whole. `None` for anything
    /// else, for a length of zero, and for one that PostgreSQL's interval cannot hold.
    pub fn parse(text: &str) -> Option<Self> {
        let mut sum = Self {
            months: 0,
            days: 0,
            micros: 0,
        };
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (part, tail) = parse_part(rest)?;
            sum = sum.checked_add(part)?;
            rest = tail.trim_start();
        }
        sum.is_positive().then_some(sum)
    }

    /// The length in microseconds with days of 24 hours; `None` where months make it depend on the calendar.
    pub fn as_fixed_micros(&self) -> Option<i64> {
        if self.months != 0 {
            return None;
        }
        i64::from(self.days)
            .checked_mul(MICROS_PER_DAY)?
            .checked_add(self.micros)
    }

    /// The instant this long after `from`: months, then days, then the rest, counted in UTC; a day of the
    /// month that the target month lacks becomes its last. `None` outside the years 4713 BC to 262142.
    pub fn after(&self, from: Instant) -> Option<Instant> {
        let start = DateTime::from_timestamp_micros(from)?.naive_utc();
        let months = Months::new(self.months.unsigned_abs());
        let end = if self.months < 0 {
            start.checked_sub_months(months)?
        } else {
            start.checked_add_months(months)?
        }
        .checked_add_signed(TimeDelta::try_days(self.days.into())?)?
        .checked_add_signed(TimeDelta::microseconds(self.micros))?
        .and_utc()
        .timestamp_micros();
        (end >= FIRST_INSTANT).then_some(end)
    }

    fn is_positive(&self) -> bool {
        self.months > 0 || self.days > 0 || self.micros > 0
    }

    fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            months: self.months.checked_add(other.months)?,
            days: self.days.checked_add(other.days)?,
            micros: self.micros.checked_add(other.micros)?,
        })
    }
}

/// A unit of a span by what one of it is.
#[derive(Clone, Copy)]
enum Unit {
    Months(i32),
    Days(i64),
    Micros(i64),
}

impl Unit {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "us" | "usec" | "usecs" | "microsecond" | "microseconds" => Self::Micros(1),
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => Self::Micros(1_000),
            "s" | "sec" | "secs" | "second" | "seconds" => Self::Micros(MICROS_PER_SEC),
            "m" | "min" | "mins" | "minute" | "minutes" => Self::Micros(MICROS_PER_MINUTE),
            "h" | "hr" | "hrs" | "hour" | "hours" => Self::Micros(MICROS_PER_HOUR),
            "d" | "day" | "days" => Self::Days(1),
            "w" | "week" | "weeks" => Self::Days(7),
            "mon" | "mons" | "month" | "months" => Self::Months(1),
            "y" | "yr" | "yrs" | "year" | "years" => Self::Months(12),
            _ => return None,
        })
    }
}

/// One amount with its unit or one clock notation, and the text behind it.
fn parse_part(text: &str) -> Option<(Span, &str)> {
    let (whole, rest) = take_digits(text)?;
    if let Some(rest) = rest.strip_prefix(':') {
        return parse_clock(whole, rest);
    }
    let (fraction, rest) = take_fraction(rest)?;
    let rest = rest.trim_start();
    let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(unit_end)?;
    Some((amount(whole.parse().ok()?, fraction, Unit::named(name)?)?, rest))
}

/// What follows the first colon of `hours:minutes` or `hours:minutes:seconds`.
fn parse_clock<'t>(hours: &str, rest: &'t str) -> Option<(Span, &'t str)> {
    let (minutes, rest) = take_sixtieths(rest)?;
    let (seconds, fraction, rest) = match rest.strip_prefix(':') {
        None => (0, 0, rest),
        Some(rest) => {
            let (seconds, rest) = take_sixtieths(rest)?;
            let (fraction, rest) = take_fraction(rest)?;
            (seconds, part_of(fraction, MICROS_PER_SEC)?, rest)
        }
    };
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let micros = hours
        .parse::<i64>()
        .ok()?
        .checked_mul(MICROS_PER_HOUR)?
        .checked_add(minutes * MICROS_PER_MINUTE + seconds * MICROS_PER_SEC + fraction)?;
    Some((
        Span {
            months: 0,
            days: 0,
            micros,
        },
        rest,
    ))
}

fn amount(whole: i64, fraction: &str, unit: Unit) -> Option<Span> {
    let mut span = Span {
        months: 0,
        days: 0,
        micros: 0,
    };
    match unit {
        Unit::Months(_) if !fraction.is_empty() => return None,
        Unit::Months(each) => span.months = i32::try_from(whole).ok()?.checked_mul(each)?,
        Unit::Days(each) => {
            let beyond = part_of(fraction, each * MICROS_PER_DAY)?;
            let days = whole.checked_mul(each)?.checked_add(beyond / MICROS_PER_DAY)?;
            span.days = i32::try_from(days).ok()?;
            span.micros = beyond % MICROS_PER_DAY;
        }
        Unit::Micros(each) => {
            span.micros = whole.checked_mul(each)?.checked_add(part_of(fraction, each)?)?;
        }
    }
    Some(span)
}

/// The decimal fraction `0.digits` of `unit` microseconds, cut to whole ones.
fn part_of(digits: &str, unit: i64) -> Option<i64> {
    // 18 digits stay far inside i128 and below what a microsecond can tell apart.
    let digits = digits.get(..18).unwrap_or(digits);
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10_i128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    i64::try_from(digits.parse::<i128>().ok()? * i128::from(unit) / scale).ok()
}

/// At least one ASCII digit from the start of `text`.
fn take_digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at_checked(end)).flatten()
}

/// The digits behind a decimal point, none if there is no point.
fn take_fraction(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('.').map_or(Some(("", text)), take_digits)
}

/// Exactly two digits below 60.
fn take_sixtieths(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) = take_digits(text)?;
    let value = digits.parse().ok()?;
    (digits.len() == 2 && value < 60).then_some((value, rest))
}

/// The canonical text: whole units from years down to seconds, such as `1 year` or `1 hour 30 minutes`;
/// [`Span::parse`] reads it back unchanged.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let months = i64::from(self.months);
        let parts = [
            (months / 12, "year"),
            (months % 12, "month"),
            (self.days.into(), "day"),
            (self.micros / MICROS_PER_HOUR, "hour"),
            (self.micros % MICROS_PER_HOUR / MICROS_PER_MINUTE, "minute"),
        ];
        let mut gap = "";
        for (count, unit) in parts.into_iter().filter(|&(count, _)| count != 0) {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{gap}{count} {unit}{plural}")?;
            gap = " ";
        }
        let below = self.micros % MICROS_PER_MINUTE;
        if below != 0 || gap.is_empty() {
            let (seconds, micros) = (below / MICROS_PER_SEC, (below % MICROS_PER_SEC).abs());
            let plural = if below == MICROS_PER_SEC { "" } else { "s" };
            write!(f, "{gap}{seconds}")?;
            if micros != 0 {
                write!(f, ".{}", format!("{micros:06}").trim_end_matches('0'))?;
            }
            write!(f, " second{plural}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(months: i32, days: i32, micros: i64) -> Option<Span> {
        Some(Span { months, days, micros })
    }

    fn instant(text: &str) -> Instant {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn reads_what_people_write() {
        assert_eq!(Span::parse("30 minutes"), span(0, 0, 30 * MICROS_PER_MINUTE));
        assert_eq!(Span::parse(" 1 Year "), span(12, 0, 0));
        assert_eq!(Span::parse("1 hour 30 minutes"), span(0, 0, 90 * MICROS_PER_MINUTE));
        assert_eq!(Span::parse("1h30m"), span(0, 0, 90 * MICROS_PER_MINUTE));
        assert_eq!(Span::parse("90s"), span(0, 0, 90 * MICROS_PER_SEC));
        assert_eq!(Span::parse("2 WEEKS"), span(0, 14, 0));
        assert_eq!(Span::parse("1.5 hours"), span(0, 0, 90 * MICROS_PER_MINUTE));
        assert_eq!(Span::parse("1.5 weeks"), span(0, 10, 12 * MICROS_PER_HOUR));
        assert_eq!(Span::parse("01:30:00"), span(0, 0, 90 * MICROS_PER_MINUTE));
        assert_eq!(Span::parse("00:00:00.25"), span(0, 0, 250_000));
        assert_eq!(Span::parse("01:30"), span(0, 0, 90 * MICROS_PER_MINUTE));
        assert_eq!(Span::parse("0 hours 5 ms"), span(0, 0, 5_000));
    }

    #[test]
    fn reads_how_postgres_writes_an_interval() {
        assert_eq!(
            Span::parse("1 year 2 mons 3 days 04:05:06.5"),
            span(14, 3, 14_706_500_000)
        );
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            " ",
            "0",
            "5",
            "0 minutes",
            "00:00:00",
            "-5 minutes",
            "1 hour -5 minutes",
            "+5 minutes",
            "5 parsecs",
            "minutes",
            "1.5 months",
            "0.5 years",
            "1. hours",
            ".5 hours",
            "1:2:3",
            "01:60",
            "01:30:00h",
            "1 hour ago",
            "1e3 s",
            "infinity",
            "５ minutes",
            "1 hour, 5 minutes",
            "1:",
            "99999999999999999999 s",
            "9223372036854775807 hours",
            "2147483648 days",
            "2147483647 years",
            "9223372036854775807:00:00",
        ] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    #[test]
    fn months_have_no_fixed_length_and_days_have_24_hours() {
        let fixed = |text| Span::parse(text).unwrap().as_fixed_micros();
        assert_eq!(fixed("1 month"), None);
        assert_eq!(fixed("1 day 1 second"), Some(86_401 * MICROS_PER_SEC));
        assert_eq!(
            Span {
                months: 0,
                days: i32::MAX,
                micros: i64::MAX
            }
            .as_fixed_micros(),
            None
        );
    }

    #[test]
    fn months_clamp_to_the_end_of_the_month() {
        let after = |span, from| Span::parse(span).unwrap().after(instant(from));
        assert_eq!(
            after("1 month", "2026-01-31T10:00:00Z"),
            Some(instant("2026-02-28T10:00:00Z"))
        );
        assert_eq!(
            after("1 year", "2024-02-29T00:00:00Z"),
            Some(instant("2025-02-28T00:00:00Z"))
        );
        assert_eq!(
            after("1 month 1 day", "2026-01-31T00:00:00Z"),
            Some(instant("2026-03-01T00:00:00Z"))
        );
        assert_eq!(
            after("90 s", "2026-01-01T00:00:00.5Z"),
            Some(instant("2026-01-01T00:01:30.5Z"))
        );
    }

    #[test]
    fn an_end_out_of_range_is_none() {
        let year = Span::parse("1 year").unwrap();
        assert_eq!(year.after(Instant::MAX), None);
        assert_eq!(year.after(Instant::MIN), None);
        assert_eq!(Span::parse("178956970 years").unwrap().after(0), None);
        assert_eq!(
            Span {
                months: i32::MIN,
                days: i32::MIN,
                micros: i64::MIN
            }
            .after(0),
            None
        );
        assert_eq!(
            Span {
                months: 0,
                days: 0,
                micros: i64::MAX
            }
            .after(0),
            None
        );
        assert_eq!(
            Span {
                months: -12 * 7000,
                days: 0,
                micros: 0
            }
            .after(0),
            None
        );
    }

    #[test]
    fn writes_whole_units() {
        for (text, canonical) in [
            ("365 days", "365 days"),
            ("12 months", "1 year"),
            ("18 months", "1 year 6 months"),
            ("15m", "15 minutes"),
            ("5400 s", "1 hour 30 minutes"),
            ("1 week 1500 ms", "7 days 1.5 seconds"),
            ("61 s", "1 minute 1 second"),
        ] {
            assert_eq!(Span::parse(text).unwrap().to_string(), canonical);
        }
        assert_eq!(
            Span {
                months: 0,
                days: 0,
                micros: 0
            }
            .to_string(),
            "0 seconds"
        );
    }
}
