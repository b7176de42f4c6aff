//! A queue is dropped under contents that publishing has taken up, or created again.
//!
//! Whoever has begun an attempt may still tell what came of it: until then it is unknown, keeps its booking, and is what a
//! queue that is created again under the name begins with. All else is given back.

use super::state::{history, sql};
use crate::fault::Fault;
use crate::pg::role::caller_name;
use crate::pg::statement::{Statement, Value};
use slotkeeper_core::Instant;

/// What the history says of an attempt that was under way.
const DROPPED_MEANWHILE: &str = "the queue was dropped before the worker told what came of the attempt";

thread_local! {
    // Not by index: few rows, and no index on the queue.
    static SETTLE: Statement = const { Statement::new(c"
SELECT 1 FROM slotkeeper.publication WHERE queue_id OPERATOR(pg_catalog.=) $1 FOR UPDATE") };

    static VOID: Statement = const { Statement::new(sql!("
WITH old AS (
    DELETE FROM slotkeeper.publication
    WHERE queue_id OPERATOR(pg_catalog.=) $1
      AND state OPERATOR(pg_catalog.<>) 'publishing' AND state OPERATOR(pg_catalog.<>) 'unknown'
    RETURNING *
)", history!("$2", "NULL", "'unscheduled'", "NULL"))) };

    static LOSE: Statement = const { Statement::new(sql!("
WITH old AS (
    SELECT * FROM slotkeeper.publication AS o
    WHERE o.queue_id OPERATOR(pg_catalog.=) $1 AND o.state OPERATOR(pg_catalog.=) 'publishing'
), ended AS (", history!("$2", "NULL", "'unknown'", "$3"), ")
UPDATE slotkeeper.publication AS p
SET state = 'unknown', wake_at = NULL, token = NULL, worker = NULL, claimed_at = NULL, begun_at = NULL,
    failures = p.failures OPERATOR(pg_catalog.+) 1
FROM old WHERE p.booking_id OPERATOR(pg_catalog.=) old.booking_id")) };

    static KEEP: Statement = const { Statement::new(c"
UPDATE slotkeeper.booking AS b SET released_at = NULL, released_by = NULL
FROM slotkeeper.publication AS p
WHERE p.queue_id OPERATOR(pg_catalog.=) $1 AND b.booking_id OPERATOR(pg_catalog.=) p.booking_id
RETURNING b.booking_id") };

    // All rows go before the first one comes, so that none meets the seat of another.
    static SEAT_ANEW: Statement = const { Statement::by_index(c"
WITH gone AS (
    DELETE FROM slotkeeper.booking WHERE queue_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL RETURNING *
), placed AS (
    SELECT g.*, pg_catalog.floor(extract(epoch FROM g.scheduled_at) OPERATOR(pg_catalog./) $2)::pg_catalog.int8 AS at_granule
    FROM gone AS g
)
INSERT INTO slotkeeper.booking (booking_id, queue_id, granule, seat, scheduled_at, booked_at, claimed_at, source, content_id,
                                user_id, slot_ref)
SELECT p.booking_id, p.queue_id, p.at_granule,
       (pg_catalog.row_number() OVER (PARTITION BY p.at_granule ORDER BY p.booking_id) OPERATOR(pg_catalog.-) 1)::pg_catalog.int2,
       p.scheduled_at, p.booked_at, p.claimed_at, p.source, p.content_id, p.user_id, p.slot_ref
FROM placed AS p") };

    static GIVE_BACK: Statement = const { Statement::by_index(c"
WITH gone AS (DELETE FROM slotkeeper.publication WHERE booking_id OPERATOR(pg_catalog.=) $1)
UPDATE slotkeeper.booking SET released_at = $2, released_by = $3
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL") };
}

/// All bookings of a queue that publishing has taken up were given back, for it is dropped: so none is taken up from here on.
/// Attempts that are under way, or unknown, keep theirs; returns how many.
pub(crate) fn queue_dropped(queue_id: i64, now: Instant) -> Result<i64, Fault> {
    let (id, now) = (Value::Int8(queue_id), Value::Time(now));
    // After whoever is at one of them: what is read then stays as it is.
    SETTLE.with(|settle| settle.write(&[id], |_| Ok(())))?;
    VOID.with(|void| void.write(&[id, now], |_| Ok(())))?;
    LOSE.with(|lose| lose.write(&[id, now, Value::Text(DROPPED_MEANWHILE)], |_| Ok(())))?;
    let kept: Vec<i64> = KEEP.with(|keep| keep.write(&[id], |row| row.must(1)))?;
    Ok(kept.len() as i64)
}

/// A queue that was dropped has been created again, maybe with another granule: the bookings that it has kept get seats in it.
pub(crate) fn queue_created_again(queue_id: i64, granule_secs: i64) -> Result<(), Fault> {
    let values = [Value::Int8(queue_id), Value::Int8(granule_secs)];
    SEAT_ANEW.with(|seat| seat.write(&values, |_| Ok(())))?;
    Ok(())
}

/// An attempt of a queue that was dropped has come to nothing: there is nothing to try again.
pub(super) fn give_back(booking_id: i64, now: Instant) -> Result<(), Fault> {
    let caller = caller_name();
    let values = [Value::Int8(booking_id), Value::Time(now), Value::Text(&caller)];
    GIVE_BACK.with(|give_back| give_back.write(&values, |_| Ok(())))?;
    Ok(())
}
