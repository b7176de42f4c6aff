//! Keyed requests: run once, replayed afterwards. `docs/design.md`, "Requests".

mod begin;
mod hold;
mod purge;
pub(crate) mod row;
pub(crate) mod tally;

pub(crate) use begin::{Answer, Patience, ask, expired, in_progress, mismatch, tree};
pub(crate) use hold::finish_own;

use crate::fault::{Fault, MAX_IDENTIFIER};
use pgrx::datum::Interval;
use slotkeeper_core::{Instant, MICROS_PER_SEC};

/// The most characters of a method and of a path.
const MAX_METHOD: usize = 32;
const MAX_PATH: usize = 2048;

/// The most bytes that a stored response has, body and headers together.
const MAX_RESPONSE: usize = 1024 * 1024;

const DAY: Instant = 86_400 * MICROS_PER_SEC;

/// A text that must be given and has at most so many characters.
fn bounded<'a>(argument: &'static str, value: Option<&'a str>, allowed: usize) -> Result<&'a str, Fault> {
    let value = value.ok_or(Fault::Null { argument })?;
    if value.trim().is_empty() {
        return Err(Fault::Empty { argument });
    }
    let characters = value.chars().count();
    if characters > allowed {
        return Err(Fault::LongerThan {
            argument,
            characters,
            allowed,
        });
    }
    Ok(value)
}

/// A length of time within bounds, in microseconds.
fn span(
    argument: &'static str,
    value: Option<Interval>,
    bounds: std::ops::RangeInclusive<Instant>,
    allowed: &str,
) -> Result<Instant, Fault> {
    let value = value.ok_or(Fault::Null { argument })?;
    let micros = Instant::try_from(value.as_micros()).ok();
    micros
        .filter(|micros| bounds.contains(micros))
        .ok_or_else(|| Fault::NotAllowed {
            argument,
            value: micros.map_or_else(
                || "out of range".to_owned(),
                |micros| format!("{} seconds", micros as f64 / MICROS_PER_SEC as f64),
            ),
            allowed: allowed.to_owned(),
        })
}

fn lease(value: Option<Interval>) -> Result<Instant, Fault> {
    span("p_lease", value, 1_000..=DAY, "1 millisecond to 1 day")
}

/// How long a response is kept, in whole seconds, rounded up.
pub(crate) fn lifetime(value: Option<Interval>) -> Result<i32, Fault> {
    let micros = span("p_ttl", value, MICROS_PER_SEC..=366 * DAY, "1 second to 366 days")?;
    let seconds = micros / MICROS_PER_SEC + i64::from(micros % MICROS_PER_SEC > 0);
    i32::try_from(seconds).map_err(|_| Fault::Internal(format!("a lifetime of {seconds} seconds")))
}

/// The user whose keys are meant; `None` for callers without one.
pub(crate) fn user(value: Option<&str>) -> Result<Option<&str>, Fault> {
    crate::arguments::optional_identifier("p_user_id", value)
}

const _: () = assert!(MAX_IDENTIFIER == 255, "the contract's longest key");
