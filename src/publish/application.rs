//! What the application's own writes make of a content's publishing: its row was put back, published by its own worker, given
//! another id. Callers hold the row.

use super::look::{self, State, Success};
use super::person::moved;
use super::state::{Closing, Ending, Event, change, close};
use super::turn::{self, Turn};
use crate::booking::Booking;
use crate::fault::Fault;
use crate::pg::lock::{Brief, wait_for};
use crate::pg::statement::{Row, Statement, Value};
use pgrx::pg_sys::TransactionId;
use slotkeeper_core::Instant;
use std::collections::HashSet;

thread_local! {
    /// What is booked is taken up: it is not due any more. Written so that each booking is looked up by its key, whatever the
    /// server thinks of the table's size.
    static CLOSE_ALL: Statement = const { Statement::by_index(c"
WITH given AS (
    SELECT g.content_id, g.queue_id
    FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS g (content_id, queue_id)
), booked AS MATERIALIZED (
    SELECT g.content_id, g.queue_id,
           (SELECT b.booking_id FROM slotkeeper.booking AS b
            WHERE b.content_id OPERATOR(pg_catalog.=) g.content_id AND b.source OPERATOR(pg_catalog.=) $1
              AND b.queue_id OPERATOR(pg_catalog.=) g.queue_id AND b.released_at IS NULL) AS booking_id
    FROM given AS g
), taken AS (
    UPDATE slotkeeper.booking AS b SET claimed_at = $4
    WHERE b.booking_id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT k.booking_id FROM booked AS k WHERE k.booking_id IS NOT NULL))
      AND b.released_at IS NULL AND b.claimed_at IS NULL
), closed AS (
    INSERT INTO slotkeeper.published (queue_id, booking_id, published_at, attempt, late, source, content_id)
    SELECT k.queue_id, k.booking_id, $4, 0, false, $1, k.content_id
    FROM booked AS k
    ON CONFLICT (content_id, source, queue_id) DO NOTHING
    RETURNING 1
)
SELECT pg_catalog.count(*) FROM closed") };

    static IN_HAND: Statement = const { Statement::new(c"
SELECT b.content_id, b.queue_id
FROM slotkeeper.publication AS p
JOIN slotkeeper.booking AS b ON b.booking_id OPERATOR(pg_catalog.=) p.booking_id
WHERE b.source OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL") };

    static ALSO_PUBLISHED: Statement = const { Statement::by_index(c"
INSERT INTO slotkeeper.published
    (queue_id, booking_id, published_at, claimed_at, begun_at, attempt, late, source, content_id, worker, provider_id, url)
SELECT s.queue_id, s.booking_id, s.published_at, s.claimed_at, s.begun_at, s.attempt, s.late, s.source, $3, s.worker, s.provider_id, s.url
FROM slotkeeper.published AS s
WHERE s.content_id OPERATOR(pg_catalog.=) $2 AND s.source OPERATOR(pg_catalog.=) $1
ON CONFLICT (content_id, source, queue_id) DO NOTHING") };

    static TAKE_UP: Statement = const { Statement::by_index(c"
WITH taken AS (
    UPDATE slotkeeper.booking SET claimed_at = $2
    WHERE booking_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL AND claimed_at IS NULL
    RETURNING booking_id, queue_id, scheduled_at
)
INSERT INTO slotkeeper.publication (booking_id, queue_id, wake_at, state)
SELECT t.booking_id, t.queue_id, CASE WHEN $3 THEN NULL ELSE t.scheduled_at END,
       CASE WHEN $3 THEN 'failed' ELSE 'scheduled' END
FROM taken AS t") };
}

/// What the history says of a claim that the application has ended.
const GIVEN_UP: &str = "the application has marked it as failed";

/// The application's own worker has published the content: it is closed, and whatever attempt of it is under way stopped.
/// False where it was closed before.
pub(crate) fn published_by_application(booking: &Booking, now: Instant) -> Result<bool, Fault> {
    let content = booking.content();
    loop {
        let turn = Brief::acquire(&content.key());
        let inner = match turn::on(booking.booking_id)? {
            Turn::Mine(inner) => inner,
            Turn::Busy(transaction) => {
                drop(turn);
                wait_for(transaction);
                continue;
            }
        };
        match turn::closed(&content)? {
            turn::Closed::Perhaps(transaction) => {
                drop((inner, turn));
                wait_for(transaction);
                continue;
            }
            turn::Closed::Yes => return Ok(false),
            turn::Closed::No => {
                let publication = inner.publication()?;
                close(&Closing {
                    content,
                    booking_id: booking.booking_id,
                    live: Some(booking.booking_id),
                    attempt: publication.map_or(0, |publication| publication.attempts),
                    late: false,
                    worker: None,
                    claimed_at: None,
                    begun_at: None,
                    provider_id: None,
                    url: None,
                    now,
                })?;
                return Ok(true);
            }
        }
    }
}

/// The contents of a source that publishing has in hand, by id and queue.
pub(crate) fn in_hand(source: &str) -> Result<HashSet<(String, i64)>, Fault> {
    let read = |row: &Row| Ok((row.must::<String>(1)?, row.must::<i64>(2)?));
    let found = IN_HAND.with(|in_hand| in_hand.read(&[Value::Text(source)], read))?;
    Ok(found.into_iter().collect())
}

/// Closes contents that the application's own worker has published, by id and queue, booked or not. None of them may be in
/// publishing's hands. Returns how many were not closed before.
pub(crate) fn close_all(source: &str, contents: &[(&str, i64)], now: Instant) -> Result<i64, Fault> {
    let ids: Vec<Option<&str>> = contents.iter().map(|(id, _)| Some(*id)).collect();
    let queues: Vec<i64> = contents.iter().map(|(_, queue_id)| *queue_id).collect();
    let values = [
        Value::Text(source),
        Value::Texts(&ids),
        Value::Int8s(&queues),
        Value::Time(now),
    ];
    let counts = CLOSE_ALL.with(|close| close.write(&values, |row| row.must::<i64>(1)))?;
    Ok(counts.into_iter().next().unwrap_or(0))
}

/// What was published stays so under another id.
pub(crate) fn also_published(source: &str, old_id: &str, content_id: &str) -> Result<(), Fault> {
    let values = [Value::Text(source), Value::Text(old_id), Value::Text(content_id)];
    ALSO_PUBLISHED.with(|also| also.write(&values, |_| Ok(())))?;
    Ok(())
}

/// A booking whose row says that publishing has it in hand, as it had the one before: failed, or scheduled again.
pub(crate) fn take_up(booking: &Booking, failed: bool, now: Instant) -> Result<(), Fault> {
    let values = [Value::Int8(booking.booking_id), Value::Time(now), Value::Bool(failed)];
    TAKE_UP.with(|take_up| take_up.write(&values, |_| Ok(())))?;
    Ok(())
}

fn state(booking: &Booking) -> Result<Option<State>, Fault> {
    Ok(look::publication(booking.booking_id)?.map(|publication| publication.state))
}

/// Whether its last attempt has failed, and none is to come.
pub(crate) fn is_failed(booking: &Booking) -> Result<bool, Fault> {
    Ok(state(booking)? == Some(State::Failed))
}

/// Whether it waits for its time after publishing had it in hand.
pub(crate) fn is_scheduled_again(booking: &Booking) -> Result<bool, Fault> {
    Ok(state(booking)? == Some(State::Scheduled))
}

/// The worker was told another id: a claim that has not begun is void. The turn on the publication must be held.
pub(crate) fn lease_void(booking: &Booking, now: Instant) -> Result<(), Fault> {
    match state(booking)? {
        Some(State::Claimed) => moved(booking, booking.scheduled_at, now),
        _ => Ok(()),
    }
}

/// What has become of a content whose row was put back.
pub(crate) enum PutBack {
    /// It waits for its time as if it had never been handed out; or it is on its way, and stays there.
    Done,
    Published(Success),
    /// What came of its last attempt, which had this number, is to be found out first.
    Unknown(i32),
    /// Another open transaction is at it.
    Busy(TransactionId),
}

/// The application has put the content of a booking back to where it waits for its time, or has inserted its row anew: then what
/// publishing has in hand stays there.
pub(crate) fn put_back(booking: &Booking, is_update: bool, now: Instant) -> Result<PutBack, Fault> {
    let turn = match turn::on(booking.booking_id)? {
        Turn::Mine(turn) => turn,
        Turn::Busy(transaction) => return Ok(PutBack::Busy(transaction)),
    };
    let Some(publication) = turn.publication()? else {
        let success = look::success(&booking.content())?;
        return Ok(success.map_or(PutBack::Done, PutBack::Published));
    };
    match publication.state {
        State::Unknown => return Ok(PutBack::Unknown(publication.attempts)),
        State::Claimed | State::Retrying | State::Failed if is_update => moved(booking, booking.scheduled_at, now)?,
        _ => {}
    }
    Ok(PutBack::Done)
}

/// Which states of publishing's the application has written into a row itself.
#[derive(Clone, Copy)]
pub(crate) struct ToldByRow {
    pub(crate) failed: bool,
    pub(crate) retrying: bool,
}

/// The application has written a state of publishing's into the row.
pub(crate) fn heed(booking: &Booking, told: ToldByRow, now: Instant) -> Result<(), Fault> {
    let _turn = turn::wait_on(booking.booking_id)?;
    let became = |state, wake_at, afresh| Event::Became { state, wake_at, afresh };
    let event = match state(booking)? {
        Some(State::Claimed) if told.failed => Event::Ended(Ending {
            state: State::Failed,
            wake_at: None,
            error: GIVEN_UP,
            http_status: None,
            timeout: false,
            now,
        }),
        Some(State::Retrying | State::Scheduled) if told.failed => became(State::Failed, None, false),
        Some(State::Failed) if told.retrying => became(State::Retrying, Some(now), true),
        _ => return Ok(()),
    };
    change(booking.booking_id, &event).map(drop)
}
