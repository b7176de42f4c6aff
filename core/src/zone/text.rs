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
    let micros = instant.rem_euclid(MICROS_PER_SEC);
    let (year, month, day) = date_of(local.div_euclid(SECS_PER_DAY));
    let clock = local.rem_euclid(SECS_PER_DAY);
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    let sign = if year < 0 { "-" } else { "" };
    let mut text = format!(
        "{sign}{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}",
        year.abs()
    );
    if micros != 0 {
        text.push('.');
        text.push_str(format!("{micros:06}").trim_end_matches('0'));
    }
    push_offset(&mut text, offset);
    text
}

/// `2026-01-15T23:00:00+00:00`: [`format_local`] in UTC.
pub fn format_utc(instant: Instant) -> String {
    format_local(FixedZone(0), instant)
}

fn push_offset(text: &mut String, offset: i32) {
    let size = offset.unsigned_abs();
    text.push(if offset < 0 { '-' } else { '+' });
    text.push_str(&format!("{:02}:{:02}", size / 3_600, size / 60 % 60));
    if !size.is_multiple_of(60) {
        text.push_str(&format!(":{:02}", size % 60));
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
