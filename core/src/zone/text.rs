//! Instants as ISO 8601 text.

use chrono::{Datelike, NaiveDate};

use super::{FixedZone, Zone, local_of};
use crate::{Instant, MICROS_PER_SEC, SECS_PER_DAY};

/// Days in 400 years, after which the Gregorian calendar repeats itself.
const DAYS_PER_CYCLE: i64 = 146_097;
const YEARS_PER_CYCLE: i64 = 400;

/// `2026-01-16T06:00:00+07:00`: what clocks in the zone show, with the offset. Fractions of a second and the
/// offset's seconds appear only where they are not zero. Years after 9999 have more digits (PostgreSQL reads
/// them so), those before 0000 a minus sign.
pub fn format_local(zone: impl Zone, instant: Instant) -> String {
    let (local, offset) = local_of(zone, instant);
    let (year, month, day) = date_of(local.div_euclid(SECS_PER_DAY));
    // By hand: replies are full of instants, and the formatting machinery takes ten times as long.
    let mut text = String::with_capacity(LONGEST);
    if year < 0 {
        text.push('-');
    }
    push_year(&mut text, year.unsigned_abs());
    text.push('-');
    push_two(&mut text, month);
    text.push('-');
    push_two(&mut text, day);
    text.push('T');
    // Not negative, as a remainder, and less than a day.
    push_clock(&mut text, local.rem_euclid(SECS_PER_DAY) as u32, true);
    push_fraction(&mut text, instant.rem_euclid(MICROS_PER_SEC) as u32);
    let size = offset.unsigned_abs();
    text.push(if offset < 0 { '-' } else { '+' });
    push_clock(&mut text, size, !size.is_multiple_of(60));
    text
}

/// `2026-01-15T23:00:00+00:00`: [`format_local`] in UTC.
pub fn format_utc(instant: Instant) -> String {
    format_local(FixedZone(0), instant)
}

/// Bytes of the longest text: a year of six digits, a fraction, an offset with seconds.
const LONGEST: usize = "-290308-12-21T19:59:05.224192+00:00:00".len();

/// The lowest digit of a number.
fn push_digit(text: &mut String, number: u32) {
    text.push(char::from(b'0' + (number % 10) as u8));
}

fn push_two(text: &mut String, number: u32) {
    push_digit(text, number / 10);
    push_digit(text, number);
}

/// At least four digits.
fn push_year(text: &mut String, year: u64) {
    let Some(low) = u32::try_from(year).ok().filter(|&year| year < 10_000) else {
        return text.push_str(&year.to_string());
    };
    push_two(text, low / 100);
    push_two(text, low % 100);
}

/// Hours and minutes, and seconds where they are wanted.
fn push_clock(text: &mut String, seconds: u32, all: bool) {
    push_two(text, seconds / 3_600);
    text.push(':');
    push_two(text, seconds / 60 % 60);
    if all {
        text.push(':');
        push_two(text, seconds % 60);
    }
}

/// Nothing where there is no fraction, and no zeros at its end.
fn push_fraction(text: &mut String, micros: u32) {
    if micros == 0 {
        return;
    }
    text.push('.');
    for high in [100_000, 10_000, 1_000, 100, 10, 1] {
        if !micros.is_multiple_of(high * 10) {
            push_digit(text, micros / high);
        }
    }
}

/// Year (0 is 1 BC), month and day of a day counted from 1970-01-01. chrono's calendar ends before PostgreSQL's,
/// so the date is looked up in the first 400 years from 1970.
fn date_of(day: i64) -> (i64, u32, u32) {
    let within = i32::try_from(day.rem_euclid(DAYS_PER_CYCLE)).unwrap_or(0);
    let date = NaiveDate::from_epoch_days(within).unwrap_or_default();
    let year = i64::from(date.year()) + day.div_euclid(DAYS_PER_CYCLE) * YEARS_PER_CYCLE;
    (year, date.month(), date.day())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-15T23:00:00Z.
    const EVENING: Instant = 1_768_518_000 * MICROS_PER_SEC;

    #[test]
    fn shows_local_time_with_its_offset() {
        assert_eq!(format_utc(EVENING), "2026-01-15T23:00:00+00:00");
        assert_eq!(format_local(FixedZone(25_200), EVENING), "2026-01-16T06:00:00+07:00");
        assert_eq!(format_local(FixedZone(-12_600), EVENING), "2026-01-15T19:30:00-03:30");
    }

    #[test]
    fn shows_fractions_and_offset_seconds_only_if_there_are_any() {
        assert_eq!(format_utc(EVENING + 250_000), "2026-01-15T23:00:00.25+00:00");
        assert_eq!(format_utc(EVENING - 1), "2026-01-15T22:59:59.999999+00:00");
        // Jakarta's mean time.
        assert_eq!(format_local(FixedZone(25_632), EVENING), "2026-01-16T06:07:12+07:07:12");
    }

    #[test]
    fn shows_years_that_have_other_than_four_digits() {
        let year = |years: i64| format_utc(years * DAYS_PER_CYCLE * SECS_PER_DAY * MICROS_PER_SEC);
        assert_eq!(year(21), "10370-01-01T00:00:00+00:00");
        assert_eq!(year(-5), "-0030-01-01T00:00:00+00:00");
        assert_eq!(format_utc(Instant::MAX), "294247-01-10T04:00:54.775807+00:00");
        assert_eq!(format_utc(Instant::MIN), "-290308-12-21T19:59:05.224192+00:00");
    }
}
