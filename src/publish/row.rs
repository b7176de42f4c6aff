//! The application's row of a content that is being published: locked before anything of slotkeeper's, as everywhere.

use super::look::{Subject, Success};
use super::outcome::Next;
use super::untold;
use crate::binding::row::{Target, Values, is_open, is_withdrawn};
use crate::binding::{self};
use crate::booking::Content;
use crate::fault::Fault;
use crate::pg::subtransaction::{Failure, attempt};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use slotkeeper_core::Instant;
use std::collections::HashMap;

/// A content's row, or that there is none.
pub(super) struct AppRow(Option<Inner>);

struct Inner {
    source: String,
    content_id: String,
}

impl AppRow {
    /// The row of a booking's content, of which this was seen. What comes from no table has none.
    pub(super) fn of(seen: Option<&Subject>) -> Self {
        let bound = seen.filter(|subject| !subject.source.is_empty());
        Self(bound.map(|subject| Inner {
            source: subject.source.clone(),
            content_id: subject.content_id.clone(),
        }))
    }

    /// Locks it, after whoever has it. A row that this caller may not change, or that is gone, is no row.
    pub(super) fn lock(&self) -> Result<Target<'_>, Fault> {
        match &self.0 {
            Some(inner) => Target::of_attempt(&inner.content_id, &inner.source),
            None => Ok(Target::nothing()),
        }
    }

    /// The bound table that it is in.
    pub(super) fn source(&self) -> Option<&str> {
        self.0.as_ref().map(|inner| inner.source.as_str())
    }

    /// Whether its row is there no more.
    pub(super) fn has_gone(&self) -> Result<bool, Fault> {
        match &self.0 {
            Some(inner) => is_withdrawn(&Target::nothing(), &inner.source, &inner.content_id),
            None => Ok(false),
        }
    }

    /// After an attempt that came to nothing: a content whose row has gone meanwhile, or is taken away, is not tried again, and
    /// gives its seat back. Returns whether it was so.
    pub(super) fn withdraw(&self, target: &Target<'_>, now: Instant) -> Result<bool, Fault> {
        let Some(inner) = &self.0 else { return Ok(false) };
        // A predicate that cannot be evaluated takes nothing back, nor away from what is known of the attempt.
        let withdrawn = alone(|| is_withdrawn(target, &inner.source, &inner.content_id))?.unwrap_or(false);
        if withdrawn {
            binding::withdraw(&inner.source, &inner.content_id, now)?;
        }
        Ok(withdrawn)
    }

    /// Locks it if nobody else has it; `None` where somebody has, or there is no row for this caller.
    pub(super) fn try_lock(&self) -> Result<Option<Target<'_>>, Fault> {
        match &self.0 {
            Some(inner) => Target::try_lock(&inner.content_id, &inner.source),
            None => Ok(Some(Target::nothing())),
        }
    }
}

/// Does what writes into one row of the application's; what went wrong, with nothing of it left.
pub(super) fn alone<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<Result<T, Failure>, Fault> {
    match attempt(act) {
        // A row that no policy or trigger lets be written.
        Err(fault @ Fault::Unbindable { .. }) => Ok(Err(fault.into_failure())),
        other => other,
    }
}

/// What a failure has come to, in the row. It is true whatever becomes of the row.
pub(super) fn failed(
    row: &Target<'_>,
    content: &Content<'_>,
    next: &Next,
    attempt: i32,
    error: &str,
    now: Instant,
) -> Result<(), Fault> {
    let (state, values) = (next.state.name(), failure(next, attempt, error, now));
    untold::tell(row, content, state, || row.publishing(state, &values).map(|()| true))
}

/// A person has revived a content: not where its row may not say so.
pub(super) fn revived(row: &Target<'_>, next: &Next, attempt: i32, error: &str, now: Instant) -> Result<(), Fault> {
    row.publishing(next.state.name(), &failure(next, attempt, error, now))
}

fn failure<'a>(next: &Next, attempt: i32, error: &'a str, now: Instant) -> Values<'a> {
    Values {
        attempt: Some(attempt.into()),
        next_attempt_at: next.wake_at,
        error: Some(error),
        now: Some(now),
        ..Values::default()
    }
}

/// A success, in the row. It is one whatever becomes of the row.
pub(super) fn published(
    row: &Target<'_>,
    content: &Content<'_>,
    attempt: i32,
    url: Option<&str>,
    now: Instant,
) -> Result<(), Fault> {
    let values = Values {
        attempt: Some(attempt.into()),
        url,
        now: Some(now),
        ..Values::default()
    };
    untold::tell(row, content, "published", || {
        row.publishing("published", &values).map(|()| true)
    })
}

/// The row was taken away meanwhile: what was tried for it has come to nothing.
pub(super) fn given_up(
    row: &Target<'_>,
    content: &Content<'_>,
    attempt: i32,
    error: &str,
    now: Instant,
) -> Result<(), Fault> {
    let values = failure(&Next::WITHDRAWN, attempt, error, now);
    untold::tell(row, content, "failed", || row.given_up(&values).map(|()| true))
}

/// A success that has closed the content before, in a row that doesn't say so.
pub(super) fn closed(row: &Target<'_>, content: &Content<'_>, success: &Success) -> Result<(), Fault> {
    let values = Values {
        attempt: Some(success.attempt.into()),
        url: success.url.as_deref(),
        now: Some(success.published_at),
        ..Values::default()
    };
    untold::tell(row, content, "published", || row.closed(&values))
}

/// Sources whose rows a worker may not write, of which a call has told him. Their contents are left to others.
#[derive(Default)]
pub(super) struct Sources(HashMap<String, bool>);

impl Sources {
    pub(super) fn are_open(&mut self, source: &str) -> Result<bool, Fault> {
        if let Some(open) = self.0.get(source) {
            return Ok(*open);
        }
        let open = is_open(source)?;
        if !open {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("contents of {source} are due, and left to other workers"),
                "slotkeeper",
            )
            .set_detail("This role may not read and update the table, or its binding is broken.")
            .set_hint("GRANT SELECT, UPDATE on the table; slotkeeper.binding_health tells of bindings.")
            .report(PgLogLevel::WARNING);
        }
        self.0.insert(source.to_owned(), open);
        Ok(open)
    }
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
