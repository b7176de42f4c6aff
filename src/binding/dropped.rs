//! A queue is dropped under rows that are booked in it. They are told so where the binding says how, before anything of the
//! queue's is locked; the others show in `binding_health`.

use super::row::Target;
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::statement::{Statement, Value};
use crate::pg::subtransaction::attempt;
use std::collections::BTreeMap;

thread_local! {
    /// What is being published, unknown, or published is not for us.
    static BOUND: Statement = const { Statement::new(c"
SELECT b.source, b.content_id
FROM slotkeeper.booking AS b
JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) b.queue_id
WHERE q.profile_id OPERATOR(pg_catalog.=) $1 AND q.platform OPERATOR(pg_catalog.=) $2
  AND b.released_at IS NULL AND b.source OPERATOR(pg_catalog.<>) ''
  AND (b.claimed_at IS NULL OR EXISTS (
      SELECT FROM slotkeeper.publication AS p
      WHERE p.booking_id OPERATOR(pg_catalog.=) b.booking_id
        AND p.state OPERATOR(pg_catalog.<>) 'publishing' AND p.state OPERATOR(pg_catalog.<>) 'unknown'))
ORDER BY b.source, b.content_id") };

    static COLLISIONS: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.collision AS c
USING slotkeeper.queue AS q
WHERE q.queue_id OPERATOR(pg_catalog.=) c.queue_id
  AND q.profile_id OPERATOR(pg_catalog.=) $1 AND q.platform OPERATOR(pg_catalog.=) $2
RETURNING c.source") };

    static NOTE: Statement = const { Statement::new(c"
UPDATE slotkeeper.binding SET unbooked = pg_catalog.concat_ws('; ', unbooked, $2)
WHERE source OPERATOR(pg_catalog.=) $1 AND kind OPERATOR(pg_catalog.=) 'content'") };
}

/// What has become of the rows of a queue that goes.
#[derive(Default)]
pub(crate) struct Left {
    /// Rows that have been written what `states.unscheduled` says, and have given their seats back.
    pub(crate) unscheduled: i64,
    /// How many stay as they are, by source.
    rows: BTreeMap<String, i64>,
}

/// Unschedules the rows that are booked in a queue, as the caller.
pub(crate) fn leave(profile_id: &str, platform: &str) -> Result<Left, Fault> {
    let name = [Value::Text(profile_id), Value::Text(platform)];
    let bound: Vec<(String, String)> = BOUND.with(|bound| bound.read(&name, |row| Ok((row.must(1)?, row.must(2)?))))?;
    let mut left = Left::default();
    for (source, content_id) in bound {
        if unschedule(&source, &content_id)? {
            left.unscheduled += 1;
        } else {
            *left.rows.entry(source).or_default() += 1;
        }
    }
    let colliding: Vec<String> = COLLISIONS.with(|all| all.write(&name, |row| row.must(1)))?;
    for source in colliding {
        *left.rows.entry(source).or_default() += 1;
    }
    Ok(left)
}

/// Whether the row could be told. One that the caller may not write, or that its table refuses, keeps nobody from dropping
/// the queue.
fn unschedule(source: &str, content_id: &str) -> Result<bool, Fault> {
    let told = attempt(|| {
        let target = Target::of_attempt(content_id, source)?;
        let is_told = target.is_told("unscheduled");
        if is_told {
            target.unscheduled(now()?)?;
        }
        Ok(is_told)
    });
    match told {
        Ok(told) => Ok(told.unwrap_or(false)),
        Err(Fault::Unbindable { .. }) => Ok(false),
        Err(fault) => Err(fault),
    }
}

impl Left {
    /// The queue has gone: `binding_health` tells of the rows that it has left behind.
    pub(crate) fn note(&self, profile_id: &str, platform: &str) -> Result<(), Fault> {
        for (source, rows) in &self.rows {
            let note = format!("{rows} where queue ({profile_id}, {platform}) was dropped");
            NOTE.with(|statement| statement.write(&[Value::Text(source), Value::Text(&note)], |_| Ok(())))?;
        }
        Ok(())
    }
}
