//! Rows of the application that could not be told what became of their contents.
//!
//! What came of an attempt is true whatever a CHECK or a trigger of the application's makes of it. So the row is written alone: where
//! that fails the ledger keeps what is true, the caller is warned, and the row is noted, for `binding_health` and
//! `content_status` to show and for `reconcile_table` to write.

use super::look::{self, State};
use super::row::alone;
use crate::binding::row::{Target, Values, are_told, is_withdrawn};
use crate::booking::{self, Content};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::scan::{IndexScan, Key, Order, See};
use crate::pg::statement::{Statement, Value};
use crate::pg::subtransaction::Failure;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode};
use slotkeeper_core::Instant;

thread_local! {
    static REMEMBER: Statement = const { Statement::by_index(c"
INSERT INTO slotkeeper.untold (queue_id, failed_at, source, content_id, state, error)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (content_id, source, queue_id) DO UPDATE
SET failed_at = excluded.failed_at, state = excluded.state, error = excluded.error") };

    static FORGET: Statement = const { Statement::by_index(c"
DELETE FROM slotkeeper.untold
WHERE content_id OPERATOR(pg_catalog.=) $1 AND source OPERATOR(pg_catalog.=) $2 AND queue_id OPERATOR(pg_catalog.=) $3") };

    static OF_SOURCE: Statement = const { Statement::new(c"
SELECT u.content_id, u.queue_id FROM slotkeeper.untold AS u
WHERE u.source OPERATOR(pg_catalog.=) $1
ORDER BY u.content_id, u.queue_id") };

    static FORGET_ALL: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.untold WHERE source OPERATOR(pg_catalog.=) $1") };

    static LAST_ERROR: Statement = const { Statement::by_index(c"
SELECT a.error, a.ended_at FROM slotkeeper.attempt AS a
WHERE a.booking_id OPERATOR(pg_catalog.=) $1 AND a.error IS NOT NULL
ORDER BY a.ended_at DESC, a.attempt DESC
LIMIT 1") };
}

/// Writes into a content's row what became of it; `write` says whether it had to. Where the row takes no state, or there is none,
/// nothing.
pub(super) fn tell(
    target: &Target<'_>,
    content: &Content<'_>,
    state: &'static str,
    write: impl FnOnce() -> Result<bool, Fault>,
) -> Result<(), Fault> {
    if target.is_told(state) {
        return match alone(write)? {
            Ok(true) => settled(content),
            Ok(false) => Ok(()),
            Err(failure) => note(content, state, &failure),
        };
    }
    // A row that this role may not write, or whose binding is broken; not one that has gone.
    let should_say = target.is_hidden() && are_told(content.source, state);
    if should_say && !is_withdrawn(target, content.source, content.content_id)? {
        return note(content, state, &not_for_this_role());
    }
    Ok(())
}

fn not_for_this_role() -> Failure {
    Failure {
        sqlstate: "42501".to_owned(),
        message: "this role may not write the row, or its binding is broken".to_owned(),
        detail: None,
    }
}

/// The row says what is true.
fn settled(content: &Content<'_>) -> Result<(), Fault> {
    let mut scan = IndexScan::open(c"untold", c"untold_pkey", 3, See::Uncommitted)?;
    let keys = [
        (1, Key::IsText(content.content_id)),
        (2, Key::IsText(content.source)),
        (3, Key::Is(content.queue_id)),
    ];
    scan.search(&keys, Order::Ascending);
    let is_noted = scan.next().is_some();
    drop(scan);
    if is_noted {
        forget(content)?;
    }
    Ok(())
}

fn forget(content: &Content<'_>) -> Result<(), Fault> {
    let values = [
        Value::Text(content.content_id),
        Value::Text(content.source),
        Value::Int8(content.queue_id),
    ];
    FORGET.with(|forget| forget.write(&values, |_| Ok(())))?;
    Ok(())
}

/// The rows of this source are none of ours any more.
pub(crate) fn forget_source(source: &str) -> Result<(), Fault> {
    FORGET_ALL.with(|forget| forget.write(&[Value::Text(source)], |_| Ok(())))?;
    Ok(())
}

fn note(content: &Content<'_>, state: &str, failure: &Failure) -> Result<(), Fault> {
    let error = format!("{}: {}", failure.sqlstate, failure.message);
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "the row of content {} does not say that it is {state}: it cannot be written",
            content.content_id
        ),
        "slotkeeper",
    )
    .set_detail(error.as_str())
    .set_hint("What became of the content is kept. Let the table take what the binding's \"states\" write, then call slotkeeper.reconcile_table().")
    .report(PgLogLevel::WARNING);
    remember(content, state, &error)
}

/// A row is not written where its content's state changes, for it must not be locked there.
pub(super) fn leave(content: &Content<'_>, state: &'static str, why: &str) -> Result<(), Fault> {
    match are_told(content.source, state) {
        true => remember(content, state, why),
        false => Ok(()),
    }
}

fn remember(content: &Content<'_>, state: &str, error: &str) -> Result<(), Fault> {
    let values = [
        Value::Int8(content.queue_id),
        Value::Time(now()?),
        Value::Text(content.source),
        Value::Text(content.content_id),
        Value::Text(state),
        Value::Text(error),
    ];
    REMEMBER.with(|remember| remember.write(&values, |_| Ok(())))?;
    Ok(())
}

/// Writes into the rows of a source what became of their contents by now; how many say it, and how many still cannot be written.
pub(crate) fn tell_again(source: &str) -> Result<(i64, i64), Fault> {
    let noted: Vec<(String, i64)> =
        OF_SOURCE.with(|all| all.read(&[Value::Text(source)], |row| Ok((row.must(1)?, row.must(2)?))))?;
    let (mut told, mut left) = (0, 0);
    for (content_id, queue_id) in noted {
        let content = Content {
            content_id: &content_id,
            source,
            queue_id,
        };
        let target = Target::of_source(&content_id, source, true)?;
        if target.is_hidden() && !is_withdrawn(&target, source, &content_id)? {
            left += 1;
            continue;
        }
        // Whoever changes what is known of the content locks its row first, which is ours now.
        match known(&content)? {
            Some((state, truth)) if target.is_told(state) => match alone(|| target.publishing(state, &truth.values()))?
            {
                Ok(()) => {
                    forget(&content)?;
                    told += 1;
                }
                Err(failure) => {
                    note(&content, state, &failure)?;
                    left += 1;
                }
            },
            _ => forget(&content)?,
        }
    }
    Ok((told, left))
}

/// What is to be written of a content.
#[derive(Default)]
struct Truth {
    attempt: i32,
    next_attempt_at: Option<Instant>,
    error: Option<String>,
    url: Option<String>,
    now: Option<Instant>,
}

impl Truth {
    fn values(&self) -> Values<'_> {
        Values {
            attempt: Some(self.attempt.into()),
            next_attempt_at: self.next_attempt_at,
            error: self.error.as_deref(),
            url: self.url.as_deref(),
            now: self.now,
            ..Values::default()
        }
    }
}

/// Where publishing stands with a content that it has taken up.
fn known(content: &Content<'_>) -> Result<Option<(&'static str, Truth)>, Fault> {
    if let Some(success) = look::success(content)? {
        let truth = Truth {
            attempt: success.attempt,
            url: success.url,
            now: Some(success.published_at),
            ..Truth::default()
        };
        return Ok(Some(("published", truth)));
    }
    let Some(booking) = booking::find(content)? else {
        return Ok(None);
    };
    let Some(publication) = look::publication(booking.booking_id)? else {
        return Ok(None);
    };
    let mut truth = Truth {
        attempt: publication.attempts,
        ..Truth::default()
    };
    match publication.state {
        State::Scheduled => return Ok(None),
        // Of a claim, the number that its attempt would have.
        State::Claimed => {
            truth.attempt = truth.attempt.saturating_add(1);
            truth.now = publication.claimed_at;
        }
        State::Publishing => truth.now = publication.begun_at,
        State::Retrying | State::Failed | State::Unknown => {
            let last = LAST_ERROR.with(|last| {
                last.read(&[Value::Int8(booking.booking_id)], |row| {
                    Ok((row.get::<String>(1)?, row.optional_instant(2)?))
                })
            })?;
            if let Some((error, ended_at)) = last.into_iter().next() {
                (truth.error, truth.now) = (error, ended_at);
            }
            if publication.state == State::Retrying {
                truth.next_attempt_at = publication.wake_at;
            }
        }
    }
    Ok(Some((publication.state.name(), truth)))
}
