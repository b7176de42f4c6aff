//! The application's row of a content that is being published: locked before anything of slotkeeper's, as everywhere.

use super::look;
use super::outcome::Next;
use crate::binding::row::{Target, Values};
use crate::binding::{self};
use crate::fault::Fault;
use slotkeeper_core::Instant;

/// A content's row, or that there is none.
pub(super) struct AppRow(Option<Inner>);

struct Inner {
    source: String,
    content_id: String,
}

impl AppRow {
    /// The row of a booking's content. Where nothing is bound there is nothing to look up.
    pub(super) fn of(booking_id: i64) -> Result<Self, Fault> {
        if !binding::any()? {
            return Ok(Self(None));
        }
        let subject = look::subject(booking_id)?;
        Ok(Self(subject.filter(|subject| !subject.source.is_empty()).map(
            |subject| Inner {
                source: subject.source,
                content_id: subject.content_id,
            },
        )))
    }

    /// Locks it, after whoever has it. A row that this caller may not change, or that is gone, is no row.
    pub(super) fn lock(&self) -> Result<Target<'_>, Fault> {
        match &self.0 {
            Some(inner) => Target::of_source(&inner.content_id, &inner.source, true),
            None => Ok(Target::nothing()),
        }
    }

    /// Locks it if nobody else has it; `None` where somebody has, or there is no row for this caller.
    pub(super) fn try_lock(&self) -> Result<Option<Target<'_>>, Fault> {
        match &self.0 {
            Some(inner) => Target::try_lock(&inner.content_id, &inner.source),
            None => Ok(Some(Target::nothing())),
        }
    }
}

/// What a failure has come to, in the row.
pub(super) fn failed(row: &Target<'_>, next: &Next, attempt: i32, error: &str, now: Instant) -> Result<(), Fault> {
    let values = Values {
        attempt: Some(attempt.into()),
        next_attempt_at: next.wake_at,
        error: Some(error),
        now: Some(now),
        ..Values::default()
    };
    row.publishing(next.state.name(), &values)
}

/// A success, in the row.
pub(super) fn published(row: &Target<'_>, attempt: i32, url: Option<&str>, now: Instant) -> Result<(), Fault> {
    let values = Values {
        attempt: Some(attempt.into()),
        url,
        now: Some(now),
        ..Values::default()
    };
    row.publishing("published", &values)
}

/// A hand-out, or the beginning of an attempt, in the row.
pub(super) fn under_way(row: &Target<'_>, state: &'static str, attempt: i32, now: Instant) -> Result<(), Fault> {
    let values = Values {
        attempt: Some(attempt.into()),
        now: Some(now),
        ..Values::default()
    };
    row.publishing(state, &values)
}
