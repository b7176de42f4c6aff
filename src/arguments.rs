//! Arguments of the public functions, checked: what passes here is never NULL, empty, too long or infinite.

use crate::fault::{Fault, MAX_IDENTIFIER};
use crate::pg::json::JsonArg;
use crate::pg::time::from_timestamp;
use pgrx::prelude::*;
use serde_json::Value;
use slotkeeper_core::{Instant, Invalid};

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
