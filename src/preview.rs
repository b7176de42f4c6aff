//! `preview_slots`: the slots ahead and who holds them.

use crate::arguments::instant;
use crate::binding::row::is_hidden;
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::statement::{Statement, Value};
use crate::pg::time::to_timestamptz;
use crate::queue;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_local;
use std::collections::HashMap;

/// More slots than this are not shown at once.
const MAX_COUNT: i32 = 10_000;

thread_local! {
    static CONTENTS: Statement = const { Statement::by_index(c"
SELECT b.granule, b.content_id, b.source
FROM slotkeeper.booking AS b
WHERE b.queue_id OPERATOR(pg_catalog.=) $1 AND b.granule OPERATOR(pg_catalog.=) ANY ($2) AND b.released_at IS NULL
ORDER BY b.granule, b.seat") };
}

type Shown = (TimestampWithTimeZone, String, i32, i32, Vec<String>);

#[pg_extern(schema = "slotkeeper", stable)]
#[allow(clippy::type_complexity, reason = "the public signature")]
fn preview_slots(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_from: default!(Option<TimestampWithTimeZone>, "NULL"),
    p_count: default!(Option<i32>, "10"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(slot_at, TimestampWithTimeZone),
            name!(local_time, String),
            name!(capacity, i32),
            name!(taken, i32),
            name!(content_ids, Vec<String>),
        ),
    >,
    ErrorReport,
> {
    let from = instant("p_from", p_from)?;
    let count = p_count.ok_or(Fault::Null { argument: "p_count" })?;
    if !(0..=MAX_COUNT).contains(&count) {
        let allowed = format!("0 to {MAX_COUNT}");
        Err(Fault::NotAllowed {
            argument: "p_count",
            value: count.to_string(),
            allowed,
        })?;
    }
    let queue = queue::require_named(p_profile_id, p_platform)?;
    let mut slots = queue.slots();
    slots.seek(match from {
        Some(from) => from,
        None => now()?,
    });
    let slots: Vec<Slot> = std::iter::from_fn(|| slots.next()).take(count as usize).collect();
    let mut contents = contents_of(queue.queue_id, &slots)?;
    let shown: Result<Vec<Shown>, Fault> = slots
        .iter()
        .map(|slot| {
            let held = contents.remove(&slot.granule).unwrap_or_default();
            let (local, taken) = (format_local(&queue.zone, slot.at), held.len() as i32);
            let ids: Result<Vec<String>, Fault> = held
                .into_iter()
                .filter_map(|(id, source)| match is_hidden(&source, &id) {
                    Ok(hidden) => (!hidden).then_some(Ok(id)),
                    Err(fault) => Some(Err(fault)),
                })
                .collect();
            Ok((to_timestamptz(slot.at)?, local, i32::from(slot.capacity), taken, ids?))
        })
        .collect();
    Ok(TableIterator::new(shown?))
}

/// The contents that hold seats there, with their sources, by granule.
fn contents_of(queue_id: i64, slots: &[Slot]) -> Result<HashMap<i64, Vec<(String, String)>>, Fault> {
    let granules: Vec<i64> = slots.iter().map(|slot| slot.granule).collect();
    let held = CONTENTS.with(|contents| {
        contents.show(&[Value::Int8(queue_id), Value::Int8s(&granules)], |row| {
            Ok((row.must::<i64>(1)?, (row.must::<String>(2)?, row.must::<String>(3)?)))
        })
    })?;
    let mut contents: HashMap<i64, Vec<(String, String)>> = HashMap::new();
    for (granule, content) in held {
        contents.entry(granule).or_default().push(content);
    }
    Ok(contents)
}
