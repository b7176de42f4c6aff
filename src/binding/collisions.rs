//! Rows that occupy an instant which another content holds: remembered, until they move or are moved.

use super::existing::{
    Changes, Claim, Collision, Occupant, QueueIds, Rows, Seen, Unbooked, close_published, is_kept, occupants,
};
use super::row::{Target, is_visible};
use super::table::Table;
use super::{Binding, queue_of};
use crate::arguments::{NO_SOURCE, OnConflict};
use crate::booking::{self, Booking, Content, State};
use crate::clock::now;
use crate::fault::Fault;
use crate::history;
use crate::mover::{Mover, Settled, Wish};
use crate::pg::dynamic::Moment;
use crate::pg::json::{Json, JsonReply};
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::refuse_read_only;
use crate::pg::statement::{Statement, Value};
use crate::pg::table::RegClass;
use crate::pg::whole_table::each_row;
use crate::publish::{self, Movable};
use crate::queue::{self, Queue};
use crate::reply::Reply;
use pgrx::pg_sys::TransactionId;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{OnConflict as Wanted, Why};
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;
use std::collections::{HashMap, HashSet};

/// At most so many rows are moved by one call.
const MAX_MOVES: i32 = 100_000;

thread_local! {
    static REMEMBER: Statement = const { Statement::by_index(c"
INSERT INTO slotkeeper.collision (source, content_id, queue_id, at, found_at, found_by)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (source, content_id, queue_id) DO UPDATE SET at = excluded.at, found_at = excluded.found_at, found_by = excluded.found_by") };

    static FORGET: Statement = const { Statement::by_index(c"
DELETE FROM slotkeeper.collision WHERE source OPERATOR(pg_catalog.=) $1 AND content_id OPERATOR(pg_catalog.=) $2") };

    static FORGET_ALL: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.collision WHERE source OPERATOR(pg_catalog.=) $1") };

    static SOME: Statement = const { Statement::new(c"
SELECT c.content_id, c.at, q.profile_id, q.platform
FROM slotkeeper.collision AS c
JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) c.queue_id
WHERE c.source OPERATOR(pg_catalog.=) $1
ORDER BY c.at, c.content_id
LIMIT $2") };

    static COUNT: Statement = const { Statement::new(c"
SELECT pg_catalog.count(*) FROM slotkeeper.collision WHERE source OPERATOR(pg_catalog.=) $1") };

    static NOTE_UNBOOKED: Statement = const { Statement::new(c"
UPDATE slotkeeper.binding SET unbooked = $2
WHERE source OPERATOR(pg_catalog.=) $1 AND kind OPERATOR(pg_catalog.=) 'content'
  AND (unbooked OPERATOR(pg_catalog.=) $2) IS NOT TRUE AND (unbooked IS NOT NULL OR $2 IS NOT NULL)") };

    static LIVE: Statement = const { Statement::new(c"
SELECT b.content_id, b.scheduled_at, b.queue_id
FROM slotkeeper.booking AS b
WHERE b.source OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL") };
}

/// Remembers a row without a seat.
pub(super) fn remember(source: &str, collision: &Collision, found_by: &str, now: Instant) -> Result<(), Fault> {
    let values = [
        Value::Text(source),
        Value::Text(&collision.content_id),
        Value::Int8(collision.queue_id),
        Value::Time(collision.at),
        Value::Time(now),
        Value::Text(found_by),
    ];
    REMEMBER.with(|remember| remember.write(&values, |_| Ok(())))?;
    Ok(())
}

/// The row has its seat now, or takes none.
pub(super) fn forget(source: &str, content_id: &str) -> Result<(), Fault> {
    FORGET.with(|forget| forget.write(&[Value::Text(source), Value::Text(content_id)], |_| Ok(())))?;
    Ok(())
}

/// Whether any row of this source is remembered.
pub(super) fn count(source: &str) -> Result<i64, Fault> {
    let counts = COUNT.with(|count| count.read(&[Value::Text(source)], |row| row.must(1)))?;
    Ok(counts.into_iter().next().unwrap_or(0))
}

/// What reconciling has done.
#[derive(Default)]
pub(super) struct Reconciled {
    pub(super) booked: i64,
    pub(super) moved: i64,
    pub(super) released: i64,
    pub(super) collisions: Vec<Collision>,
    pub(super) unbooked: Vec<Unbooked>,
    /// Rows whose contents keep their seats in queues that were dropped.
    pub(super) kept: i64,
    /// Rows of which nothing is known any more but what this says.
    pub(super) looked_at: HashSet<String>,
}

/// Brings the ledger in line with the rows as they are at this moment, or with those that may have changed. `ledger` is what
/// the ledger is known to say, and is kept up to date; whatever differs is looked at again, so writers may go on meanwhile.
pub(super) fn reconcile(
    binding: &Binding,
    ledger: &mut HashMap<String, Seen>,
    moment: &Moment,
    only: Option<&Changes>,
    found_by: &str,
) -> Result<Reconciled, Fault> {
    let mut left: HashMap<String, Seen> = match only {
        None => std::mem::take(ledger),
        Some(changes) => {
            let known = |id: &String| ledger.remove_entry(id);
            changes.touched.iter().filter_map(known).collect()
        }
    };
    let mut differs: Vec<Occupant> = Vec::new();
    let mut queues = QueueIds::of(binding);
    let mut done = Reconciled::default();
    occupants(binding, Rows::Holding, moment, only, |row, claim| {
        if let Claim::Cannot(why) = claim {
            let content_id = row.content_id;
            done.unbooked.push(Unbooked { content_id, why });
            return Ok(());
        }
        let seen = left.remove(&row.content_id).or_else(|| ledger.remove(&row.content_id));
        if claim == Claim::Keeps {
            if let Some(seen) = seen {
                ledger.insert(row.content_id, seen);
            }
            return Ok(());
        }
        let queue_id = queues.named_by(&row)?;
        match seen {
            Some(seen) if seen.at == Some(row.at) && Some(seen.queue_id) == queue_id => {
                ledger.insert(row.content_id, seen);
            }
            _ => differs.push(row),
        }
        Ok(())
    })?;
    let now = now()?;
    for (content_id, seen) in &left {
        // Publishing writes states into rows that take no seat any more, and their contents keep theirs.
        let taken_up = booking::of_source(content_id, &binding.source)?
            .iter()
            .any(|(booking, _)| booking.claimed);
        if !(taken_up && is_visible(&binding.source, content_id)?) {
            done.released += release_seen(binding, content_id, seen, now)?;
        }
        forget(&binding.source, content_id)?;
    }
    done.looked_at = left.into_keys().collect();
    differs.sort_by(|a, b| {
        (&a.profile_id, &a.platform, a.at, &a.content_id).cmp(&(&b.profile_id, &b.platform, b.at, &b.content_id))
    });
    // What moves away makes room for what moves in.
    for _ in 0..2 {
        let (mut again, rows) = (Vec::new(), std::mem::take(&mut differs));
        for row in rows {
            let Some(queue) = queue_of(binding, &row.profile_id, row.platform.as_deref(), true)? else {
                if is_kept(binding, &row)? {
                    done.kept += 1;
                    continue;
                }
                done.released += release_content(binding, &row.content_id, now)?;
                forget(&binding.source, &row.content_id)?;
                done.unbooked.push(Unbooked::without_queue(&row));
                continue;
            };
            let queue_id = queue.queue_id;
            let at = match settle_exactly(binding, &row, &queue, now)? {
                Exactly::Booked => {
                    done.booked += 1;
                    Some(row.at)
                }
                Exactly::Moved => {
                    done.moved += 1;
                    Some(row.at)
                }
                // Or somebody is at it just now.
                Exactly::Right => None,
                Exactly::Closed => {
                    let (content_id, why) = (row.content_id.clone(), Why::Closed);
                    done.unbooked.push(Unbooked { content_id, why });
                    None
                }
                Exactly::Taken => {
                    again.push(row);
                    continue;
                }
            };
            ledger.insert(row.content_id.clone(), Seen { queue_id, at });
            done.looked_at.insert(row.content_id);
        }
        differs = again;
    }
    for row in differs {
        let Some(queue) = queue_of(binding, &row.profile_id, row.platform.as_deref(), true)? else {
            done.unbooked.push(Unbooked::without_queue(&row));
            continue;
        };
        let (collision, released) = unseat(binding, &row, &queue, found_by, now)?;
        done.released += released;
        let seen = Seen {
            queue_id: collision.queue_id,
            at: Some(collision.at),
        };
        ledger.insert(collision.content_id.clone(), seen);
        done.looked_at.insert(collision.content_id.clone());
        done.collisions.push(collision);
    }
    Ok(done)
}

/// What the ledger says of a source.
pub(super) fn live(source: &str) -> Result<HashMap<String, Seen>, Fault> {
    let mut all: HashMap<String, Seen> = HashMap::new();
    LIVE.with(|live| {
        live.read(&[Value::Text(source)], |row| {
            let seen = Seen {
                queue_id: row.must(3)?,
                at: Some(row.instant(2)?),
            };
            // One content in two queues is one too many.
            all.entry(row.must(1)?)
                .and_modify(|seen| seen.at = None)
                .or_insert(seen);
            Ok(())
        })
    })?;
    Ok(all)
}

/// A live booking of a content of no table.
pub(super) struct Unbound {
    pub(super) content_id: String,
    pub(super) queue_id: i64,
    /// The open transaction that is at it.
    pub(super) busy: Option<TransactionId>,
}

/// All of them, those of open transactions included.
pub(super) fn unbound() -> Result<Vec<Unbound>, Fault> {
    let mut all = Vec::new();
    each_row(c"booking", |row| {
        let is_live = row.column::<TimestampWithTimeZone>(c"released_at")?.is_none();
        if is_live && row.must::<&str>(c"source")? == NO_SOURCE {
            all.push(Unbound {
                content_id: row.must(c"content_id")?,
                queue_id: row.must(c"queue_id")?,
                busy: row.busy,
            });
        }
        Ok(())
    })?;
    Ok(all)
}

/// Gives back what a content without a row was seen to hold. What it holds by now, somebody has booked since.
fn release_seen(binding: &Binding, content_id: &str, seen: &Seen, now: Instant) -> Result<i64, Fault> {
    let mut released = 0;
    for (booking, queue) in booking::of_source(content_id, &binding.source)? {
        let is_seen = booking.queue_id == seen.queue_id && Some(booking.scheduled_at) == seen.at;
        if is_seen || seen.at.is_none() {
            released += i64::from(give_back(&booking, &queue, now)?);
        }
    }
    Ok(released)
}

/// Gives the seats back that a content of this binding holds, in whichever queue. What is being published, or has been, keeps
/// its seat.
pub(super) fn release_content(binding: &Binding, content_id: &str, now: Instant) -> Result<i64, Fault> {
    release_of(&binding.source, content_id, now)
}

/// The same by the binding's source, whatever has become of its table.
pub(super) fn release_of(source: &str, content_id: &str, now: Instant) -> Result<i64, Fault> {
    let mut released = 0;
    for (booking, queue) in booking::of_source(content_id, source)? {
        released += i64::from(give_back(&booking, &queue, now)?);
    }
    Ok(released)
}

/// What has become of a seat that was to be given back.
pub(super) enum LetGo {
    Released,
    /// It was live no more.
    Gone,
    /// Publishing keeps it, for its content is in this state.
    Kept(&'static str),
}

/// Gives one seat back; false where publishing keeps it. A lease on it is void.
pub(super) fn give_back(booking: &Booking, queue: &Queue, now: Instant) -> Result<bool, Fault> {
    Ok(matches!(let_go(booking, queue, now)?, LetGo::Released))
}

/// The same, and what keeps it.
pub(super) fn let_go(booking: &Booking, queue: &Queue, now: Instant) -> Result<LetGo, Fault> {
    loop {
        let turn = Brief::acquire(&booking.content().key());
        match Movable::look(booking, true)? {
            Movable::No(state) => return Ok(LetGo::Kept(state)),
            Movable::Yes { _turn } => {
                if !booking::release(booking, queue, now)? {
                    return Ok(LetGo::Gone);
                }
                publish::taken_back(booking, now)?;
                return Ok(LetGo::Released);
            }
            Movable::Busy(transaction) => {
                drop(turn);
                wait_for(transaction);
            }
        }
    }
}

/// Moves a booking, and voids a lease on it.
pub(super) fn move_booking(
    own: &Booking,
    queue: &Queue,
    slot: &Slot,
    seat: i16,
    now: Instant,
) -> Result<Option<i64>, Fault> {
    let moved = booking::move_to(own, queue, slot, seat)?;
    if moved.is_some() {
        publish::moved(own, slot.at, now)?;
    }
    Ok(moved)
}

/// Gives the seat back that a content of this binding holds in one queue.
pub(super) fn release_in(binding: &Binding, content_id: &str, queue_id: i64, now: Instant) -> Result<(), Fault> {
    for (booking, queue) in booking::of_source(content_id, &binding.source)? {
        if booking.queue_id == queue_id {
            give_back(&booking, &queue, now)?;
        }
    }
    Ok(())
}

/// How an attempt to give a row exactly its own instant ended.
pub(super) enum Exactly {
    Booked,
    Moved,
    Right,
    /// It is published, or being published, and keeps the seat that it has.
    Closed,
    Taken,
}

/// Gives a row the seat at its own instant, if it is free.
pub(super) fn settle_exactly(binding: &Binding, row: &Occupant, queue: &Queue, now: Instant) -> Result<Exactly, Fault> {
    let content = Content {
        content_id: &row.content_id,
        source: &binding.source,
        queue_id: queue.queue_id,
    };
    use_queues(&mut [Key::Queue {
        profile_id: &queue.profile_id,
        platform: &queue.platform,
    }]);
    for (other, its_queue) in booking::of_source(&row.content_id, &binding.source)? {
        if other.queue_id != queue.queue_id {
            give_back(&other, &its_queue, now)?;
        }
    }
    let _turn = Brief::acquire(&content.key());
    // What was booked before its row was there becomes the row's.
    let own = match booking::state_of_row(&content)? {
        // Whoever is at it has the guard to pass.
        (State::Busy(_), _) => return Ok(Exactly::Right),
        (State::Booked, None) => booking::find(&content)?,
        (State::Booked, adopted) => adopted,
        (State::Free, _) => None,
    };
    if own.as_ref().is_some_and(|own| own.scheduled_at == row.at) {
        forget(&binding.source, &row.content_id)?;
        return Ok(Exactly::Right);
    }
    let wish = Wish {
        at: row.at,
        on_conflict: OnConflict::Reject,
        dry_run: false,
        as_it_is: true,
    };
    let mover = Mover {
        queue,
        content,
        own: own.as_ref(),
        now,
    };
    let _publication = match own.as_ref().map(|own| Movable::look(own, true)).transpose()? {
        Some(Movable::No(_)) => return Ok(Exactly::Closed),
        Some(Movable::Busy(_)) => return Ok(Exactly::Right),
        movable => movable,
    };
    let settled = loop {
        let attempt = mover.settle(&wish, |slot: &Slot, seat| match &own {
            Some(own) => move_booking(own, queue, slot, seat, now),
            None => booking::insert(&content, row.user_id.as_deref(), slot, seat, now),
        })?;
        if attempt.is_some() {
            break attempt;
        }
    };
    Ok(match settled {
        Some(Settled::Placed { .. }) => {
            forget(&binding.source, &row.content_id)?;
            if own.is_some() { Exactly::Moved } else { Exactly::Booked }
        }
        _ => Exactly::Taken,
    })
}

/// The same; where another holds the instant the row is remembered, and holds none.
pub(super) fn settle_or_remember(
    binding: &Binding,
    row: &Occupant,
    queue: &Queue,
    found_by: &str,
    now: Instant,
) -> Result<(), Fault> {
    if let Exactly::Taken = settle_exactly(binding, row, queue, now)? {
        unseat(binding, row, queue, found_by, now)?;
    }
    Ok(())
}

/// Another holds the row's instant: the seat that it had is none at its time. Returns how many were given back.
fn unseat(
    binding: &Binding,
    row: &Occupant,
    queue: &Queue,
    found_by: &str,
    now: Instant,
) -> Result<(Collision, i64), Fault> {
    let released = release_content(binding, &row.content_id, now)?;
    let collision = Collision::of(row, queue);
    remember(&binding.source, &collision, found_by, now)?;
    Ok((collision, released))
}

#[pg_extern(schema = "slotkeeper")]
fn reconcile_table(p_table: Option<RegClass>) -> Result<JsonReply, ErrorReport> {
    refuse_read_only(c"reconcile_table()");
    let table = Table::require(p_table.map(|table| table.0))?;
    super::forget_known();
    let queues = super::queues::reconcile(&table)?;
    if let (Some(reply), Err(_)) = (queues, super::id_of(&table, "content")) {
        return Ok(reply.into());
    }
    let binding = super::of_table(&table)?;
    super::attach::require_owner(&binding.table)?;
    super::attach::require_readable(&binding.table, "Rows that are hidden would lose their seats.")?;
    super::attach::mend_triggers(&binding)?;
    FORGET_ALL.with(|forget| forget.write(&[Value::Text(&binding.source)], |_| Ok(())))?;
    let mut ledger = live(&binding.source)?;
    let moment = Moment::now();
    let done = reconcile(&binding, &mut ledger, &moment, None, "reconcile")?;
    let closed = close_published(&binding, &moment, None)?;
    super::attach::remember_relations(&binding)?;
    note_unbooked(&binding.source, &done.unbooked)?;
    let (told, untold) = publish::tell_again(&binding.source)?;
    Ok(Reply::new("reconciled")
        .with("source", binding.source.as_str())
        .with("booked", done.booked)
        .with("moved", done.moved)
        .with("released", done.released)
        .with_some("closed", closed)
        .with("collisions", listed(&done.collisions))
        .with("collision_count", done.collisions.len() as i64)
        .with("unbooked", listed_unbooked(&done.unbooked))
        .with("unbooked_count", done.unbooked.len() as i64)
        .with_some("kept_count", (done.kept > 0).then_some(done.kept))
        .with_some("told_count", (told > 0).then_some(told))
        .with_some("untold_count", (untold > 0).then_some(untold))
        .into())
}

/// So many rows are shown of what a reply lists.
const LISTED: usize = 100;

/// The first rows that cannot be booked, as a reply shows them.
pub(super) fn listed_unbooked(unbooked: &[Unbooked]) -> Vec<Json> {
    unbooked
        .iter()
        .take(LISTED)
        .map(|row| {
            Reply::of("content_id", row.content_id.as_str())
                .with("reason", row.why.text())
                .into_json()
        })
        .collect()
}

/// Keeps for `binding_health` how many rows cannot be booked, and why.
pub(super) fn note_unbooked(source: &str, unbooked: &[Unbooked]) -> Result<(), Fault> {
    let summary = slotkeeper_core::binding::summary(unbooked.iter().map(|row| &row.why));
    let values = [Value::Text(source), Value::OptionalText(summary.as_deref())];
    NOTE_UNBOOKED.with(|note| note.write(&values, |_| Ok(())))?;
    Ok(())
}

/// The first collisions, as a reply shows them.
pub(super) fn listed(collisions: &[Collision]) -> Vec<Json> {
    collisions
        .iter()
        .take(LISTED)
        .map(|collision| {
            Reply::of("content_id", collision.content_id.as_str())
                .with("profile_id", collision.profile_id.as_str())
                .with("platform", collision.platform.as_str())
                .with_instant("at", collision.at)
                .into_json()
        })
        .collect()
}

#[pg_extern(schema = "slotkeeper")]
fn move_collisions(
    p_table: Option<RegClass>,
    p_limit: default!(Option<i32>, "1000"),
) -> Result<JsonReply, ErrorReport> {
    let limit = p_limit.ok_or(Fault::Null { argument: "p_limit" })?;
    if !(1..=MAX_MOVES).contains(&limit) {
        Err(Fault::NotAllowed {
            argument: "p_limit",
            value: limit.to_string(),
            allowed: format!("1 to {MAX_MOVES}"),
        })?;
    }
    refuse_read_only(c"move_collisions()");
    let binding = super::attach::bound(p_table)?;
    super::attach::require_owner(&binding.table)?;
    let rows = SOME.with(|some| {
        some.read(&[Value::Text(&binding.source), Value::Int8(limit.into())], |row| {
            Ok((
                row.must::<String>(1)?,
                row.instant(2)?,
                row.must::<String>(3)?,
                row.must::<String>(4)?,
            ))
        })
    })?;
    let (mut results, mut unmoved) = (Vec::new(), Vec::new());
    for (content_id, at, profile_id, platform) in rows {
        match move_one(&binding, &content_id, at, &profile_id, &platform)? {
            One::Moved(reply) => results.push(reply.into_json()),
            One::Full => unmoved.push(
                Reply::of("content_id", content_id)
                    .with_instant("at", at)
                    .with("reason", format!("queue ({profile_id}, {platform}) is full"))
                    .into_json(),
            ),
            One::Gone => {}
        }
    }
    Ok(Reply::new("moved")
        .with("source", binding.source.as_str())
        .with("moved", results.len() as i64)
        .with("remaining", count(&binding.source)?)
        .with("results", results)
        .with("unmoved", unmoved)
        .into())
}

/// What has become of a row that was to be moved.
enum One {
    Moved(Reply),
    /// Nothing is free inside its queue's horizon.
    Full,
    /// It has a seat by now, takes none, or is for `reconcile_table` to settle.
    Gone,
}

/// Gives one row a seat: at its own instant if that is free by now, else where the binding lets it move.
fn move_one(binding: &Binding, content_id: &str, at: Instant, profile_id: &str, platform: &str) -> Result<One, Fault> {
    let target = Target::of_source(content_id, &binding.source, true)?;
    let Some(queue) = queue::find(profile_id, platform)? else {
        forget(&binding.source, content_id)?;
        return Ok(One::Gone);
    };
    if !target.is_in(&queue) {
        // It has gone, or has gone to another queue, past the guard: for reconcile_table() to settle.
        forget(&binding.source, content_id)?;
        return Ok(One::Gone);
    }
    let Some(content) = target.in_queue(&queue)? else {
        forget(&binding.source, content_id)?;
        return Ok(One::Gone);
    };
    use_queues(&mut [Key::Queue { profile_id, platform }]);
    let now = now()?;
    let turn = Brief::acquire(&content.key());
    if !matches!(booking::state(&mut booking::content_scan()?, &content)?, State::Free) {
        forget(&binding.source, content_id)?;
        return Ok(One::Gone);
    }
    let wish = Wish {
        at,
        on_conflict: match binding.options.on_conflict {
            Wanted::NextFree => OnConflict::NextFree,
            Wanted::NextSlot | Wanted::Reject => OnConflict::NextSlot,
        },
        dry_run: false,
        as_it_is: true,
    };
    let mover = Mover {
        queue: &queue,
        content,
        own: None,
        now,
    };
    let settled = mover.settle(&wish, |slot: &Slot, seat| {
        booking::insert(&content, None, slot, seat, now)
    })?;
    drop(turn);
    let slot = match &settled {
        Some(Settled::Placed { slot, .. }) => slot,
        Some(Settled::Moved {
            slot,
            booking_id: Some(booking_id),
            conflicts_with,
        }) => {
            history::moved(*booking_id, at, slot.at, conflicts_with.as_ref(), now)?;
            slot
        }
        // Somebody else had the seat first: the next call tries again.
        None => return Ok(One::Gone),
        Some(_) => return Ok(One::Full),
    };
    let scheduled_at = target.scheduled(slot, now)?.map_or(slot.at, |own| own.scheduled_at);
    forget(&binding.source, content_id)?;
    Ok(One::Moved(
        Reply::of("content_id", content_id)
            .with("from", format_utc(at))
            .with_instant("scheduled_at", scheduled_at),
    ))
}
