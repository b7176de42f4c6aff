//! All seats of a binding given back at once: its table was truncated or dropped, or is detached. As when a row is deleted,
//! what is being published, or has been, keeps its seat, and a lease on what goes is void.

use super::collisions::{give_back, note_unbooked};
use crate::booking;
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::role::caller_name;
use crate::pg::statement::{Statement, Value};
use crate::publish;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

thread_local! {
    static RELEASE: Statement = const { Statement::new(c"
UPDATE slotkeeper.booking
SET released_at = $2, released_by = $3
WHERE source OPERATOR(pg_catalog.=) $1 AND released_at IS NULL AND claimed_at IS NULL
RETURNING queue_id") };

    /// What publishing is at. What it has closed, as published, keeps its seat and has no row here.
    static TAKEN_UP: Statement = const { Statement::new(c"
SELECT b.content_id
FROM slotkeeper.publication AS p
JOIN slotkeeper.booking AS b ON b.booking_id OPERATOR(pg_catalog.=) p.booking_id
WHERE b.source OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL
ORDER BY b.booking_id") };

    /// One new version a queue instead of a hole for every seat: see \"full run\" in docs/design.md.
    static NEW_VERSIONS: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.queue
SET version = pg_catalog.nextval('slotkeeper.queue_version_seq')
WHERE queue_id OPERATOR(pg_catalog.=) ANY ($1)") };

    static FORGET_COLLISIONS: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.collision WHERE source OPERATOR(pg_catalog.=) $1") };
}

/// Gives the seats of a source back; returns how many.
pub(super) fn release_all(source: &str) -> Result<i64, Fault> {
    let (now, caller) = (now()?, caller_name());
    let values = [Value::Text(source), Value::Time(now), Value::Text(&caller)];
    let mut queues: Vec<i64> = RELEASE.with(|release| release.write(&values, |row| row.must(1)))?;
    let mut count = queues.len() as i64;
    queues.sort_unstable();
    queues.dedup();
    if !queues.is_empty() {
        NEW_VERSIONS.with(|versions| versions.write(&[Value::Int8s(&queues)], |_| Ok(())))?;
    }
    let taken_up: Vec<String> = TAKEN_UP.with(|taken_up| taken_up.read(&[Value::Text(source)], |row| row.must(1)))?;
    for content_id in &taken_up {
        for (booking, queue) in booking::of_source(content_id, source)? {
            count += i64::from(give_back(&booking, &queue, now)?);
        }
    }
    FORGET_COLLISIONS.with(|forget| forget.write(&[Value::Text(source)], |_| Ok(())))?;
    publish::forget_source(source)?;
    note_unbooked(source, &[])?;
    Ok(count)
}

/// For the event trigger that notices a dropped table.
#[pg_extern(schema = "slotkeeper")]
fn release_source(p_source: Option<&str>) -> Result<i64, ErrorReport> {
    let source = p_source.ok_or(Fault::Null { argument: "p_source" })?;
    Ok(release_all(source)?)
}
