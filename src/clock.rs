//! What time it is. Read once per call.

use crate::fault::Fault;
use crate::pg::reserve_prefix;
use crate::pg::time::clock;
use chrono::DateTime;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use slotkeeper_core::Instant;
use std::ffi::CString;

/// `slotkeeper.now`: replaces the clock, for tests. Only a superuser may set it.
static NOW: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

pub(crate) fn define_settings() {
    GucRegistry::define_string_guc(
        c"slotkeeper.now",
        c"Replaces the clock in tests.",
        c"An ISO 8601 timestamp with offset; empty for the real clock.",
        &NOW,
        GucContext::Suset,
        GucFlags::default(),
    );
    reserve_prefix(c"slotkeeper");
}

/// Now, or the instant that `slotkeeper.now` names.
pub(crate) fn now() -> Result<Instant, Fault> {
    let Some(setting) = NOW.get() else { return Ok(clock()) };
    let text = setting.to_string_lossy();
    if text.trim().is_empty() {
        return Ok(clock());
    }
    parse_instant(&text).ok_or_else(|| Fault::Clock {
        value: text.into_owned(),
    })
}

/// An ISO 8601 timestamp with offset. PostgreSQL's own text form, with a blank for the T, is one too; seconds may be left out,
/// and the offset's colon and minutes.
pub(crate) fn parse_instant(text: &str) -> Option<Instant> {
    const OTHER_FORMS: [&str; 4] = [
        "%Y-%m-%d %H:%M:%S%.f%#z",
        "%Y-%m-%dT%H:%M:%S%.f%#z",
        "%Y-%m-%d %H:%M%#z",
        "%Y-%m-%dT%H:%M%#z",
    ];
    let text = text.trim();
    DateTime::parse_from_rfc3339(text)
        .ok()
        .or_else(|| {
            let mut forms = OTHER_FORMS.iter();
            forms.find_map(|form| DateTime::parse_from_str(text, form).ok())
        })
        .map(|at| at.timestamp_micros())
}
