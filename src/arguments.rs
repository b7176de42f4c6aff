//! Arguments of the public functions, checked: what passes here is never NULL, empty, too long or infinite.

use crate::fault::{Fault, MAX_IDENTIFIER};
use crate::pg::json::JsonArg;
use crate::pg::time::from_timestamp;
use pgrx::datum::Interval;
use pgrx::prelude::*;
use serde_json::Value;
use slotkeeper_core::{Instant, Invalid, MICROS_PER_SEC, SECS_PER_DAY};

/// The bookings of contents that come from no binding have this source.
pub(crate) const NO_SOURCE: &str = "";

/// An identifier of the application.
pub(crate) fn identifier<'a>(argument: &'static str, value: Option<&'a str>) -> Result<&'a str, Fault> {
    optional_identifier(argument, value)?.ok_or(Fault::Null { argument })
}

/// An identifier that may be left out.
pub(crate) fn optional_identifier<'a>(
    argument: &'static str,
    value: Option<&'a str>,
) -> Result<Option<&'a str>, Fault> {
    let Some(value) = value else { return Ok(None) };
    if value.trim().is_empty() {
        return Err(Fault::Empty { argument });
    }
    // Counting characters is only needed where the bytes could be too many.
    if value.len() > MAX_IDENTIFIER {
        let characters = value.chars().count();
        if characters > MAX_IDENTIFIER {
            return Err(Fault::TooLong { argument, characters });
        }
    }
    Ok(Some(value))
}

/// The profile and platform that name a queue; platforms are lower-cased.
pub(crate) fn queue_name(profile_id: Option<&str>, platform: Option<&str>) -> Result<(String, String), Fault> {
    let profile_id = identifier("p_profile_id", profile_id)?;
    let platform = identifier("p_platform", platform)?;
    Ok((profile_id.to_owned(), platform_name("p_platform", platform)?))
}

/// The binding of a booking that is looked for: left out, any; empty, none.
pub(crate) fn which_source(value: Option<&str>) -> Result<Option<&str>, Fault> {
    match value {
        Some(NO_SOURCE) => Ok(value),
        _ => optional_identifier("p_source", value),
    }
}

/// A platform as it is stored.
pub(crate) fn platform_name(argument: &'static str, platform: &str) -> Result<String, Fault> {
    let lower = platform.to_lowercase();
    // Lower-casing may add characters ("İ" becomes two).
    identifier(argument, Some(&lower))?;
    Ok(lower)
}

/// A finite instant, if one was given.
pub(crate) fn instant(argument: &'static str, value: Option<TimestampWithTimeZone>) -> Result<Option<Instant>, Fault> {
    value
        .map(|at| from_timestamp(at.into()).ok_or(Fault::Infinite { argument }))
        .transpose()
}

/// The shortest and the longest lease.
const LEASES: (i64, i64) = (MICROS_PER_SEC, 7 * SECS_PER_DAY * MICROS_PER_SEC);

/// No interval that is waited for is longer.
const LONGEST_WAIT: i64 = 366 * SECS_PER_DAY * MICROS_PER_SEC;

/// The length of an interval, months of 30 days, if it lies inside these bounds.
fn interval_micros(
    argument: &'static str,
    value: &Interval,
    (least, most): (i64, i64),
    allowed: &str,
) -> Result<i64, Fault> {
    // In this width no interval overflows, the infinite ones of later servers included.
    let days = i128::from(value.months()) * 30 + i128::from(value.days());
    let micros = days * i128::from(SECS_PER_DAY * MICROS_PER_SEC) + i128::from(value.micros());
    i64::try_from(micros)
        .ok()
        .filter(|micros| (least..=most).contains(micros))
        .ok_or_else(|| Fault::NotAllowed {
            argument,
            value: format!("it lasts {} seconds", micros / i128::from(MICROS_PER_SEC)),
            allowed: allowed.to_owned(),
        })
}

/// How long a lease lasts, in microseconds.
pub(crate) fn lease_micros(argument: &'static str, value: Option<Interval>) -> Result<i64, Fault> {
    let value = value.ok_or(Fault::Null { argument })?;
    interval_micros(argument, &value, LEASES, "1 second to 7 days")
}

/// How long a provider asks to be left alone, in microseconds.
pub(crate) fn retry_after_micros(argument: &'static str, value: Option<Interval>) -> Result<Option<i64>, Fault> {
    value
        .map(|value| interval_micros(argument, &value, (0, LONGEST_WAIT), "0 seconds to 366 days"))
        .transpose()
}

/// An age, in microseconds.
pub(crate) fn age_micros(argument: &'static str, value: Option<Interval>) -> Result<i64, Fault> {
    let value = value.ok_or(Fault::Null { argument })?;
    let thousand_years = 1_000 * LONGEST_WAIT;
    interval_micros(argument, &value, (0, thousand_years), "0 seconds to 1000 years")
}

/// Whether to do a thing or not: who doesn't say is not to find it done.
pub(crate) fn flag(argument: &'static str, value: Option<bool>) -> Result<bool, Fault> {
    value.ok_or(Fault::Null { argument })
}

/// A number of rows.
pub(crate) fn limit(argument: &'static str, value: Option<i32>, most: i32) -> Result<usize, Fault> {
    let value = value.ok_or(Fault::Null { argument })?;
    usize::try_from(value)
        .ok()
        .filter(|_| (1..=most).contains(&value))
        .ok_or_else(|| Fault::NotAllowed {
            argument,
            value: value.to_string(),
            allowed: format!("1 to {most}"),
        })
}

/// The status of a provider's answer, if there was one.
pub(crate) fn http_status(argument: &'static str, value: Option<i32>) -> Result<Option<u16>, Fault> {
    value
        .map(|value| {
            u16::try_from(value)
                .ok()
                .filter(|status| (100..600).contains(status))
                .ok_or_else(|| Fault::NotAllowed {
                    argument,
                    value: value.to_string(),
                    allowed: "100 to 599, or NULL where there was no answer".to_owned(),
                })
        })
        .transpose()
}

/// A JSON argument, if one was given.
pub(crate) fn json(argument: &'static str, value: Option<JsonArg>) -> Result<Option<Value>, Fault> {
    value
        .map(|JsonArg(parsed)| parsed.map_err(|problem| refused(argument, problem)))
        .transpose()
}

fn refused(argument: &'static str, problem: String) -> Fault {
    Fault::Invalid(Invalid {
        path: argument.to_owned(),
        problem: format!("cannot be read: {problem}"),
        hint: Some("Numbers must fit a double, and nesting end at 127 levels.".to_owned()),
    })
}

/// What to do where the wished instant is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnConflict {
    NextSlot,
    NextFree,
    Reject,
}

impl OnConflict {
    pub(crate) fn parse(value: Option<&str>) -> Result<Self, Fault> {
        match value.ok_or(Fault::Null {
            argument: "p_on_conflict",
        })? {
            "next_slot" => Ok(Self::NextSlot),
            "next_free" => Ok(Self::NextFree),
            "reject" => Ok(Self::Reject),
            other => Err(Fault::NotAllowed {
                argument: "p_on_conflict",
                value: format!("{other:?}"),
                allowed: "next_slot, next_free, reject".to_owned(),
            }),
        }
    }
}
