//! `prune_history`: what is over and nobody asks for any more.

use crate::arguments::{age_micros, limit};
use crate::clock::now;
use crate::pg::json::JsonReply;
use crate::pg::refuse_read_only;
use crate::pg::statement::{Statement, Value};
use crate::reply::Reply;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// More rows than this are not removed at once.
const MAX_LIMIT: i32 = 1_000_000;

thread_local! {
    // An unknown outcome may still be told about with its token.
    static ATTEMPTS: Statement = const { Statement::by_index(c"
WITH old AS (
    SELECT a.booking_id, a.token FROM slotkeeper.attempt AS a
    WHERE a.ended_at OPERATOR(pg_catalog.<) $1
      AND NOT EXISTS (
          SELECT FROM slotkeeper.publication AS p WHERE p.booking_id OPERATOR(pg_catalog.=) a.booking_id)
    ORDER BY a.ended_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM slotkeeper.attempt AS a USING old
    WHERE a.booking_id OPERATOR(pg_catalog.=) old.booking_id AND a.token OPERATOR(pg_catalog.=) old.token
    RETURNING 1
)
SELECT pg_catalog.count(*) FROM gone") };

    // The index of what was given back is walked, not the ledger. What was published keeps its bookings: content_status
    // tells of it for ever.
    static BOOKINGS: Statement = const { Statement::by_index(c"
WITH old AS (
    SELECT b.booking_id FROM slotkeeper.booking AS b
    WHERE b.released_at OPERATOR(pg_catalog.<) $1
      AND NOT EXISTS (
          SELECT FROM slotkeeper.published AS s
          WHERE s.content_id OPERATOR(pg_catalog.=) b.content_id AND s.source OPERATOR(pg_catalog.=) b.source
            AND s.queue_id OPERATOR(pg_catalog.=) b.queue_id)
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM slotkeeper.booking AS b USING old
    WHERE b.booking_id OPERATOR(pg_catalog.=) old.booking_id
    RETURNING 1
)
SELECT pg_catalog.count(*) FROM gone") };

    // Of contents that still wait for their time the moves are kept. Rows are appended, so the oldest come first.
    static MOVES: Statement = const { Statement::new(c"
WITH old AS (
    SELECT m.ctid AS row FROM slotkeeper.move AS m
    WHERE m.moved_at OPERATOR(pg_catalog.<) $1
      AND NOT EXISTS (
          SELECT FROM slotkeeper.booking AS b
          WHERE b.booking_id OPERATOR(pg_catalog.=) m.booking_id AND b.released_at IS NULL
            AND b.scheduled_at OPERATOR(pg_catalog.>=) $1)
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM slotkeeper.move AS m USING old
    WHERE m.ctid OPERATOR(pg_catalog.=) old.row
    RETURNING 1
)
SELECT pg_catalog.count(*) FROM gone") };

    // No search begins before now, so nobody comes by a hole in the past. Holes of other rules than a queue's present ones serve
    // nobody either: whoever wrote one has committed, and so had read no later rules than those of today.
    static HOLES: Statement = const { Statement::new(c"
WITH old AS (
    SELECT h.ctid AS row FROM slotkeeper.hole AS h
    LEFT JOIN slotkeeper.queue AS q
      ON q.queue_id OPERATOR(pg_catalog.=) h.queue_id AND q.version OPERATOR(pg_catalog.=) h.version
    WHERE q.queue_id IS NULL
       OR (h.granule::pg_catalog.float8 OPERATOR(pg_catalog.+) 1)
          OPERATOR(pg_catalog.*) pg_catalog.date_part('epoch',
              (q.options OPERATOR(pg_catalog.->>) 'granule')::pg_catalog.interval)
          OPERATOR(pg_catalog.<) pg_catalog.date_part('epoch', $1)
    LIMIT $2
    FOR UPDATE OF h SKIP LOCKED
), gone AS (
    DELETE FROM slotkeeper.hole AS h USING old
    WHERE h.ctid OPERATOR(pg_catalog.=) old.row
    RETURNING 1
)
SELECT pg_catalog.count(*) FROM gone") };
}

#[pg_extern(schema = "slotkeeper")]
fn prune_history(
    p_older_than: Option<Interval>,
    p_limit: default!(Option<i32>, "1000"),
) -> Result<JsonReply, ErrorReport> {
    let age = age_micros("p_older_than", p_older_than)?;
    let limit = limit("p_limit", p_limit, MAX_LIMIT)?;
    refuse_read_only(c"prune_history()");
    let before = now()?.saturating_sub(age);
    let mut left = limit as i64;
    let mut prune = |statement: &'static std::thread::LocalKey<Statement>| {
        let values = [Value::Time(before), Value::Int8(left)];
        let counts = statement.with(|statement| statement.write(&values, |row| row.must::<i64>(1)))?;
        let count = counts.first().copied().unwrap_or(0);
        left -= count;
        Ok::<i64, crate::fault::Fault>(count)
    };
    let (attempts, bookings, moves) = (prune(&ATTEMPTS)?, prune(&BOOKINGS)?, prune(&MOVES)?);
    prune(&HOLES)?;
    Ok(Reply::new("pruned")
        .with("attempts", attempts)
        .with("bookings", bookings)
        .with("moves", moves)
        .into())
}
