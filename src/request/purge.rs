//! `forget_user`, `purge_expired`, and the little that every begin cleans up.

use super::tally;
use crate::arguments::identifier;
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::json::JsonReply;
use crate::pg::refuse_read_only;
use crate::pg::statement::{Statement, Value};
use crate::pg::subtransaction::until_not_overtaken;
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::request::key;
use slotkeeper_core::{Instant, MICROS_PER_SEC};
use std::cell::Cell;

/// How many rows a begin cleans up at most. A key is met twice in its life, when it expires and when it goes, so that
/// more than two keep up with one begin.
const A_LITTLE: i64 = 8;

/// After a look that found nothing to do, a backend looks again when so much time has passed.
const REST: Instant = MICROS_PER_SEC;

/// The most rows of one call.
const MAX_LIMIT: i32 = 100_000;

thread_local! {
    /// When this backend looks again.
    static NEXT_LOOK: Cell<Instant> = const { Cell::new(Instant::MIN) };

    // Rows that another session is at are left to it or to the next sweep: nobody waits for a sweep, and it waits for nobody.
    static SWEEP: Statement = const { Statement::by_index(c"
WITH due AS MATERIALIZED (
    SELECT r.name, r.held_until, r.status IS NOT NULL AS finished,
           CASE WHEN r.status IS NULL
                THEN greatest(r.held_until, r.started_at OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => r.lifetime))
                ELSE r.held_until OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => r.lifetime)
           END AS gone_at
    FROM slotkeeper.request AS r
    WHERE r.sweep_at OPERATOR(pg_catalog.<=) $2
    ORDER BY r.sweep_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM slotkeeper.request AS r USING due AS d
    WHERE r.name OPERATOR(pg_catalog.=) d.name AND d.gone_at OPERATOR(pg_catalog.<=) $1
    RETURNING 1
), kept AS (
    UPDATE slotkeeper.request AS r
    SET headers = CASE WHEN d.finished AND d.held_until OPERATOR(pg_catalog.<=) $1 THEN NULL ELSE r.headers END,
        body = CASE WHEN d.finished AND d.held_until OPERATOR(pg_catalog.<=) $1 THEN NULL ELSE r.body END,
        sweep_at = pg_catalog.ceil(EXTRACT(epoch FROM CASE WHEN d.finished AND d.held_until OPERATOR(pg_catalog.>) $1
                                                           THEN d.held_until ELSE d.gone_at END) OPERATOR(pg_catalog./) 60)::pg_catalog.int4
    FROM due AS d
    WHERE r.name OPERATOR(pg_catalog.=) d.name AND d.gone_at OPERATOR(pg_catalog.>) $1
    RETURNING d.finished AND d.held_until OPERATOR(pg_catalog.<=) $1 AS purged
)
SELECT (SELECT pg_catalog.count(*) FROM due), (SELECT pg_catalog.count(*) FROM gone),
       (SELECT pg_catalog.count(*) FILTER (WHERE k.purged) FROM kept AS k)") };

    static FORGET: Statement = const { Statement::by_index(c"
DELETE FROM slotkeeper.request AS r
WHERE r.name OPERATOR(pg_catalog.>=) $1 AND r.name OPERATOR(pg_catalog.<=) $2 AND r.user_id OPERATOR(pg_catalog.=) $3
RETURNING true") };
}

/// What a sweep has met.
struct Swept {
    /// Rows looked at.
    seen: i64,
    /// Rows removed.
    removed: i64,
    /// Responses removed; what they made is still known.
    expired: i64,
}

fn sweep(at: Instant, limit: i64) -> Result<Swept, Fault> {
    // A row is due in the minute that its sweep_at names, not before.
    let minute = at.div_euclid(60 * MICROS_PER_SEC);
    let minute = i32::try_from(minute).unwrap_or(i32::MAX);
    let values = [Value::Time(at), Value::Int4(minute), Value::Int8(limit)];
    let swept = SWEEP.with(|sweep| {
        sweep.write(&values, |row| {
            Ok(Swept {
                seen: row.must(1)?,
                removed: row.must(2)?,
                expired: row.must(3)?,
            })
        })
    })?;
    swept
        .into_iter()
        .next()
        .ok_or_else(|| Fault::Internal("a sweep without a count".to_owned()))
}

/// What every begin does for the others: removes a few expired rows, if there are any. A backend that found none looks
/// again a second later, so that this costs nothing where there is nothing to do.
pub(super) fn sweep_a_little(at: Instant) -> Result<(), Fault> {
    let next = NEXT_LOOK.get();
    // A clock that was set back, in a test, is no reason to stop.
    if at < next && next.saturating_sub(at) <= REST {
        return Ok(());
    }
    let swept = tally::unless_others_matter(|| sweep(at, A_LITTLE))?;
    if swept.is_none_or(|swept| swept.seen < A_LITTLE) {
        NEXT_LOOK.set(at.saturating_add(REST));
    }
    Ok(())
}

#[pg_extern(schema = "slotkeeper")]
fn purge_expired(p_limit: default!(Option<i32>, "1000")) -> Result<JsonReply, ErrorReport> {
    let limit = p_limit.ok_or(Fault::Null { argument: "p_limit" })?;
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Fault::NotAllowed {
            argument: "p_limit",
            value: limit.to_string(),
            allowed: format!("1 to {MAX_LIMIT}"),
        }
        .into());
    }
    refuse_read_only(c"purge_expired()");
    let at = now()?;
    let swept = until_not_overtaken(|| sweep(at, limit.into()))?;
    Ok(Reply::new("purged")
        .with("removed", swept.removed)
        .with("expired", swept.expired)
        .with("more", swept.seen == i64::from(limit))
        .into())
}

#[pg_extern(schema = "slotkeeper")]
fn forget_user(p_user_id: Option<&str>) -> Result<JsonReply, ErrorReport> {
    let user_id = identifier("p_user_id", p_user_id)?;
    refuse_read_only(c"forget_user()");
    let (first, last) = key::range(Some(user_id));
    let values = [Value::uuid(first), Value::uuid(last), Value::Text(user_id)];
    let removed = FORGET
        .with(|forget| until_not_overtaken(|| forget.write(&values, |_| Ok(()))))?
        .len();
    Ok(Reply::new("forgotten").with("removed", removed as i64).into())
}
