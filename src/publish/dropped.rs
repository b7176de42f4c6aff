//! A queue is dropped under contents that publishing has taken up, or created again.
//!
//! What was published stays so, and keeps its seat. Whoever has begun an attempt may still tell what came of it: until then
//! it is unknown and keeps its seat too, in whichever queue is created under the name. All else is given back.

use super::look::State;
use super::state::{Ending, Event, change};
use super::{turn, untold};
use crate::fault::Fault;
use crate::pg::role::caller_name;
use crate::pg::statement::{Statement, Value};
use slotkeeper_core::Instant;

/// What the history says of an attempt that was under way.
const DROPPED_MEANWHILE: &str = "the queue was dropped before the worker told what came of the attempt";

thread_local! {
    // Few rows, and no index on the queue.
    static UNDER_WAY: Statement = const { Statement::new(c"
SELECT p.booking_id FROM slotkeeper.publication AS p WHERE p.queue_id OPERATOR(pg_catalog.=) $1 ORDER BY p.booking_id") };

    static TOUCH: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.publication SET wake_at = NULL WHERE booking_id OPERATOR(pg_catalog.=) $1") };

    static RELEASE: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.booking SET released_at = $2, released_by = $3
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL") };

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
}

/// What publishing is at in a queue that is dropped. Nothing more of it is taken up: what was waiting has gone. Returns how many
/// attempts are unknown now.
pub(crate) fn queue_dropped(queue_id: i64, now: Instant) -> Result<i64, Fault> {
    let under_way: Vec<i64> = UNDER_WAY.with(|all| all.read(&[Value::Int8(queue_id)], |row| row.must(1)))?;
    let mut unknown = 0;
    for booking_id in under_way {
        let turn = turn::wait_on(booking_id)?;
        let Some(publication) = turn.publication()? else {
            continue;
        };
        match publication.state {
            State::Publishing => {
                let ending = Ending {
                    state: State::Unknown,
                    wake_at: None,
                    error: DROPPED_MEANWHILE,
                    http_status: None,
                    timeout: false,
                    now,
                };
                if let Some(told) = change(booking_id, &Event::Ended(ending))? {
                    untold::leave(&told.content(), State::Unknown.name(), DROPPED_MEANWHILE)?;
                }
                unknown += 1;
            }
            State::Unknown => {
                // Whoever comes with its token waits, and learns that the queue has gone.
                TOUCH.with(|touch| touch.write(&[Value::Int8(booking_id)], |_| Ok(())))?;
                unknown += 1;
            }
            State::Scheduled | State::Claimed | State::Retrying | State::Failed => give_back(booking_id, now)?,
        }
    }
    Ok(unknown)
}

/// The content of a queue that is dropped, or was, is taken back: a lease on it is void, and there is nothing to try again.
pub(super) fn give_back(booking_id: i64, now: Instant) -> Result<(), Fault> {
    change(booking_id, &Event::Unscheduled { now })?;
    let caller = caller_name();
    let values = [Value::Int8(booking_id), Value::Time(now), Value::Text(&caller)];
    RELEASE.with(|release| release.write(&values, |_| Ok(())))?;
    Ok(())
}

/// A queue has another granule now, in which the bookings that it has kept get seats: nobody else books in it.
pub(crate) fn seat_anew(queue_id: i64, granule_secs: i64) -> Result<(), Fault> {
    let values = [Value::Int8(queue_id), Value::Int8(granule_secs)];
    SEAT_ANEW.with(|seat| seat.write(&values, |_| Ok(())))?;
    Ok(())
}
