//! A queue is dropped under rows that are booked in it. They are told so where the binding says how, before anything of the
//! queue's is locked; the others show in `binding_health`.

use super::row::Target;
use crate::booking::{self, Content};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::statement::{Statement, Value};
use crate::pg::subtransaction::attempt;
use crate::publish::Movable;
use std::collections::BTreeMap;

thread_local! {
    /// What is being published, unknown, or published is not for us.
    static BOUND: Statement = const { Statement::new(c"
SELECT b.source, b.content_id, b.queue_id
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

/// Unschedules the rows that are booked in a queue, as the caller: they are written what `states.unscheduled` says, and give
/// their seats back. Returns how many.
pub(crate) fn unschedule_all(profile_id: &str, platform: &str) -> Result<i64, Fault> {
    let mut unscheduled = 0;
    for (source, content_id, queue_id) in bound(profile_id, platform)? {
        let content = Content {
            content_id: &content_id,
            source: &source,
            queue_id,
        };
        unscheduled += i64::from(unschedule(&content)?);
    }
    Ok(unscheduled)
}

fn bound(profile_id: &str, platform: &str) -> Result<Vec<(String, String, i64)>, Fault> {
    let name = [Value::Text(profile_id), Value::Text(platform)];
    BOUND.with(|bound| bound.read(&name, |row| Ok((row.must(1)?, row.must(2)?, row.must(3)?))))
}

/// Rows of a queue that goes which stay as they are: how many, by source.
pub(crate) struct Left(BTreeMap<String, i64>);

impl Left {
    /// Those that are booked in the queue, or collide there. Nobody books in it any more.
    pub(crate) fn of(profile_id: &str, platform: &str) -> Result<Self, Fault> {
        let name = [Value::Text(profile_id), Value::Text(platform)];
        let colliding: Vec<String> = COLLISIONS.with(|all| all.write(&name, |row| row.must(1)))?;
        let booked = bound(profile_id, platform)?.into_iter().map(|(source, _, _)| source);
        let mut left = BTreeMap::new();
        for source in booked.chain(colliding) {
            *left.entry(source).or_default() += 1;
        }
        Ok(Self(left))
    }
}

/// Whether the row could be told. One that the caller may not write, or that its table refuses, keeps nobody from dropping
/// the queue.
fn unschedule(content: &Content<'_>) -> Result<bool, Fault> {
    let told = attempt(|| {
        let target = Target::of_attempt(content.content_id, content.source)?;
        let is_told = target.is_told("unscheduled") && is_waiting(content)?;
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

/// Whether publishing still lets it go: whoever had the row until now may have begun an attempt of it, or published it.
fn is_waiting(content: &Content<'_>) -> Result<bool, Fault> {
    Ok(match booking::find(content)? {
        Some(booking) => matches!(Movable::look(&booking, false)?, Movable::Yes { .. }),
        None => false,
    })
}

impl Left {
    /// The queue has gone: `binding_health` tells of the rows that it has left behind.
    pub(crate) fn note(&self, profile_id: &str, platform: &str) -> Result<(), Fault> {
        for (source, rows) in &self.0 {
            let note = format!("{rows} where queue ({profile_id}, {platform}) was dropped");
            NOTE.with(|statement| statement.write(&[Value::Text(source), Value::Text(&note)], |_| Ok(())))?;
        }
        Ok(())
    }
}
