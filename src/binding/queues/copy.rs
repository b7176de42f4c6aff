//! slotkeeper's own copy of what rows say, and the queues that are made of it.

use super::row::Said;
use super::{QueueBinding, Rules};
use crate::fault::Fault;
use crate::manage::{self, Change, Wanted};
use crate::pg::statement::{Row, Statement, Value};
use crate::queue;
use pgrx::PgSqlErrorCode;
use slotkeeper_core::binding::{Disagreement, QueueSays, RowSays, queue_of_row, queue_of_slots};
use std::collections::BTreeSet;

thread_local! {
    static ADD: Statement = const { Statement::new(c"
INSERT INTO slotkeeper.bound_queue_row (binding_id, profile_id, platform, time_zone, rule, status)
VALUES ($1, $2, $3, $4, $5, $6)") };

    /// Equal rows are as good as each other, so one that another transaction is at is left to it.
    static REMOVE: Statement = const { Statement::by_index(c"
DELETE FROM slotkeeper.bound_queue_row
WHERE ctid OPERATOR(pg_catalog.=) (
    SELECT r.ctid FROM slotkeeper.bound_queue_row AS r
    WHERE r.profile_id OPERATOR(pg_catalog.=) $2 AND r.platform OPERATOR(pg_catalog.=) $3
      AND r.binding_id OPERATOR(pg_catalog.=) $1 AND r.time_zone OPERATOR(pg_catalog.=) $4
      AND r.rule OPERATOR(pg_catalog.=) $5
    ORDER BY (r.status OPERATOR(pg_catalog.=) $6) DESC
    LIMIT 1
    FOR UPDATE SKIP LOCKED)") };

    static ROWS: Statement = const { Statement::by_index(c"
SELECT r.binding_id, r.time_zone, r.rule, r.status, b.source
FROM slotkeeper.bound_queue_row AS r
JOIN slotkeeper.binding AS b ON b.binding_id OPERATOR(pg_catalog.=) r.binding_id AND b.dropped_at IS NULL
WHERE r.profile_id OPERATOR(pg_catalog.=) $1 AND r.platform OPERATOR(pg_catalog.=) $2") };

    static SAID: Statement = const { Statement::by_index(c"
SELECT q.status, q.reason FROM slotkeeper.bound_queue AS q
WHERE q.profile_id OPERATOR(pg_catalog.=) $1 AND q.platform OPERATOR(pg_catalog.=) $2
  AND q.binding_id OPERATOR(pg_catalog.=) $3") };

    static SAY: Statement = const { Statement::new(c"
INSERT INTO slotkeeper.bound_queue (profile_id, platform, binding_id, status, reason)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (profile_id, platform) DO UPDATE
SET binding_id = excluded.binding_id, status = excluded.status, reason = excluded.reason,
    edits = bound_queue.edits OPERATOR(pg_catalog.+) 1") };

    static QUEUES: Statement = const { Statement::new(c"
SELECT q.profile_id, q.platform FROM slotkeeper.bound_queue AS q WHERE q.binding_id OPERATOR(pg_catalog.=) $1") };

    static FORGET_ROWS: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.bound_queue_row WHERE binding_id OPERATOR(pg_catalog.=) $1") };

    static FORGET_QUEUES: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.bound_queue WHERE binding_id OPERATOR(pg_catalog.=) $1") };

    static PLATFORMS: Statement = const { Statement::by_index(c"
SELECT DISTINCT r.platform FROM slotkeeper.bound_queue_row AS r WHERE r.profile_id OPERATOR(pg_catalog.=) $1") };
}

/// A queue's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) profile_id: String,
    pub(super) platform: String,
}

/// The platforms that rows name for a profile now.
pub(in crate::binding) fn platforms_named(profile_id: &str) -> Result<Vec<String>, Fault> {
    PLATFORMS.with(|all| all.read(&[Value::Text(profile_id)], |row| row.must(1)))
}

fn values<'a>(binding: &QueueBinding, said: &'a Said, status: &'a str) -> [Value<'a>; 6] {
    [
        Value::Int8(binding.binding_id),
        Value::Text(&said.queue.profile_id),
        Value::Text(&said.queue.platform),
        Value::Text(&said.time_zone),
        Value::Json(&said.rule),
        Value::Text(status),
    ]
}

/// There is a row more that says this.
pub(super) fn add(binding: &QueueBinding, said: &Said, status: &str) -> Result<(), Fault> {
    ADD.with(|add| add.write(&values(binding, said, status), |_| Ok(())))?;
    Ok(())
}

/// There is a row less.
pub(super) fn remove(binding: &QueueBinding, said: &Said, status: &str) -> Result<(), Fault> {
    REMOVE.with(|remove| remove.write(&values(binding, said, status), |_| Ok(())))?;
    Ok(())
}

/// There is no row any more; returns the queues that there were.
pub(super) fn forget(binding: &QueueBinding) -> Result<BTreeSet<Name>, Fault> {
    let id = [Value::Int8(binding.binding_id)];
    FORGET_ROWS.with(|forget| forget.write(&id, |_| Ok(())))?;
    let queues = QUEUES.with(|queues| queues.read(&id, name))?;
    Ok(queues.into_iter().collect())
}

/// The binding has ended.
pub(super) fn forget_all(binding_id: i64) -> Result<(), Fault> {
    let id = [Value::Int8(binding_id)];
    FORGET_ROWS.with(|forget| forget.write(&id, |_| Ok(())))?;
    FORGET_QUEUES.with(|forget| forget.write(&id, |_| Ok(())))?;
    Ok(())
}

fn name(row: &Row) -> Result<Name, Fault> {
    Ok(Name {
        profile_id: row.must(1)?,
        platform: row.must(2)?,
    })
}

/// Makes a queue what its rows say. Edits of its rows take turns here: who comes second sees what the first has
/// committed, so that no two edits at a time can miss each other. Nothing is written before all is found to be in order.
pub(super) fn settle(binding: &QueueBinding, queue: &Name) -> Result<Change, Fault> {
    let turn = queue::turn_to_follow(&queue.profile_id, &queue.platform)?;
    let key = [Value::Text(&queue.profile_id), Value::Text(&queue.platform)];
    let rows = ROWS.with(|rows| {
        rows.read(&key, |row| {
            let says = RowSays {
                time_zone: row.must(2)?,
                rule: row.json(3)?,
                status: row.must(4)?,
            };
            Ok((row.must::<i64>(1)?, says, row.must::<String>(5)?))
        })
    })?;
    let (own, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(id, _, _)| *id == binding.binding_id);
    let own: Vec<RowSays> = own.into_iter().map(|(_, says, _)| says).collect();
    if let Some((_, _, source)) = others.first() {
        if own.is_empty() {
            // The other table's queue: it has taken it over.
            return Ok(Change::Nothing);
        }
        return Err(twice(
            queue,
            &format!("a row of {source} and one of {}", binding.source),
        ));
    }
    let says = match binding.rules {
        Rules::Slot(_) => queue_of_slots(&own),
        Rules::Column(_) | Rules::Value(_) => queue_of_row(&own),
    }
    .map_err(|disagreement| refused(binding, queue, disagreement))?;

    let reason = reason(binding, &says);
    let binding_id = Value::Int8(binding.binding_id);
    let before = SAID.with(|said| {
        said.read(&[key[0], key[1], binding_id], |row| {
            Ok((row.must::<String>(1)?, row.get::<String>(2)?))
        })
    })?;
    let is_new = before
        .first()
        .is_none_or(|(status, was)| *status != says.status || *was != reason);
    let wanted = Wanted {
        time_zone: says.time_zone.as_deref(),
        timetable: says.timetable.as_ref(),
        status: &says.status,
        reason: reason.as_deref(),
        // A status that somebody has set by hand stays until the table says another.
        keep_status: !is_new,
    };
    let change = manage::make(&turn, &queue.profile_id, &queue.platform, &wanted)
        .map_err(|fault| of_queue(binding, queue, fault))?;
    let said = [
        key[0],
        key[1],
        binding_id,
        Value::Text(&says.status),
        Value::OptionalText(reason.as_deref()),
    ];
    SAY.with(|say| say.write(&said, |_| Ok(())))?;
    Ok(change)
}

/// Why the queue has its status.
fn reason(binding: &QueueBinding, says: &QueueSays) -> Option<String> {
    if says.is_gone {
        return Some(format!("{} has no row for it any more", binding.source));
    }
    let predicate = binding.options.status.iter().find(|(status, _)| *status == says.status);
    predicate.map(|(_, predicate)| format!("{}: {predicate}", binding.source))
}

fn refused(binding: &QueueBinding, queue: &Name, disagreement: Disagreement) -> Fault {
    match disagreement {
        Disagreement::Twice(count) => twice(queue, &format!("{count} rows of {}", binding.source)),
        Disagreement::Zones(one, other) => of_queue(
            binding,
            queue,
            Fault::unbindable(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "its slots have different time zones",
                format!("{one} and {other}."),
                "A queue has one zone: change it in all its rows with one statement.",
            ),
        ),
    }
}

fn twice(queue: &Name, rows: &str) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
        format!("queue ({}, {}) is named twice", queue.profile_id, queue.platform),
        format!("It is named by {rows}."),
        "A queue follows one row, or the slot rows of one table: let the others name another profile or platform.",
    )
}

/// A fault that the rows of a queue have in common.
fn of_queue(binding: &QueueBinding, queue: &Name, fault: Fault) -> Fault {
    Fault::InRow {
        row: format!(
            "rows of {} for queue ({}, {})",
            binding.source, queue.profile_id, queue.platform
        ),
        fault: Box::new(fault),
    }
}
