//! `assign_slots`: many contents in one call and one transaction.
//!
//! Bookings are made in chunks, so that the number of locks held at once is bounded whatever the size of the batch.
//! Batches take turns from their first look to their last insert (not until they commit), so that two of them never
//! wait for each other in circles. A batch that meets a content which another transaction is at undoes what it has
//! done so far, waits holding nothing of its own, and starts over.

use crate::arguments::{NO_SOURCE, identifier, json, optional_identifier, platform_name};
use crate::assign::queue_full;
use crate::booking::{self, Content, State};
use crate::clock::{now, parse_instant};
use crate::fault::Fault;
use crate::ledger::Reader;
use crate::pg::json::JsonArg;
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::refuse_read_only;
use crate::pg::subtransaction::undoing;
use crate::place::{HeldSeat, Places, Seeker};
use crate::queue::{self, Queue};
use crate::reply::{Reply, Seat};
use pgrx::JsonB;
use pgrx::pg_sys::TransactionId;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value};
use slotkeeper_core::slots::Slot;
use slotkeeper_core::{Instant, Invalid};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Contents that are booked by one statement; each costs two locks for as long.
const CHUNK: usize = 64;

/// More items than this are refused: a batch is one transaction and one reply.
const MAX_ITEMS: usize = 100_000;

#[pg_extern(schema = "slotkeeper")]
fn assign_slots(
    p_items: Option<JsonArg>,
    p_mode: default!(Option<&str>, "'all_or_nothing'"),
) -> Result<JsonB, ErrorReport> {
    let items = json("p_items", p_items)?.ok_or(Fault::Null { argument: "p_items" })?;
    let all_or_nothing = match p_mode.ok_or(Fault::Null { argument: "p_mode" })? {
        "all_or_nothing" => true,
        "best_effort" => false,
        other => Err(Fault::NotAllowed {
            argument: "p_mode",
            value: format!("{other:?}"),
            allowed: "all_or_nothing, best_effort".to_owned(),
        })?,
    };
    refuse_read_only(c"assign_slots()");
    Ok(JsonB(assign_all(&parse_items(&items)?, all_or_nothing)?))
}

struct Item {
    profile_id: String,
    platform: String,
    content_id: String,
    user_id: Option<String>,
    not_before: Option<Instant>,
    source: String,
}

fn parse_items(items: &Value) -> Result<Vec<Item>, Fault> {
    let Value::Array(items) = items else {
        return Err(invalid("p_items", "must be an array of objects"));
    };
    if items.len() > MAX_ITEMS {
        return Err(invalid(
            "p_items",
            &format!("has {} items; at most {MAX_ITEMS} are allowed", items.len()),
        ));
    }
    items
        .iter()
        .enumerate()
        .map(|(i, item)| parse_item(&format!("p_items[{i}]"), item))
        .collect()
}

fn parse_item(path: &str, item: &Value) -> Result<Item, Fault> {
    const KEYS: [&str; 6] = [
        "profile_id",
        "platform",
        "content_id",
        "user_id",
        "not_before",
        "source",
    ];
    let Value::Object(fields) = item else {
        return Err(invalid(path, "must be an object"));
    };
    if let Some(unknown) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(invalid(
            &format!("{path}.{unknown}"),
            &format!("is unknown; known keys are {}", KEYS.join(", ")),
        ));
    }
    let parse = || {
        let text = |key| text_field(path, fields, key);
        let platform = text("platform")?;
        Ok(Item {
            profile_id: identifier("profile_id", text("profile_id")?.as_deref())?.to_owned(),
            platform: platform_name("platform", identifier("platform", platform.as_deref())?)?,
            content_id: identifier("content_id", text("content_id")?.as_deref())?.to_owned(),
            user_id: optional_identifier("user_id", text("user_id")?.as_deref())?.map(str::to_owned),
            not_before: text("not_before")?.map(|at| instant_field(path, &at)).transpose()?,
            source: optional_identifier("source", text("source")?.as_deref())?
                .unwrap_or(NO_SOURCE)
                .to_owned(),
        })
    };
    parse().map_err(|fault: Fault| fault.in_item(path))
}

fn text_field(path: &str, fields: &Map<String, Value>, key: &str) -> Result<Option<String>, Fault> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        // Applications with integer keys write them as JSON numbers.
        Some(Value::Number(number)) if !number.is_f64() => Ok(Some(number.to_string())),
        Some(_) => Err(invalid(&format!("{path}.{key}"), "must be a string")),
    }
}

fn instant_field(path: &str, text: &str) -> Result<Instant, Fault> {
    match parse_instant(text) {
        Some(at) => Ok(at),
        None if matches!(text.trim(), "infinity" | "-infinity") => Err(Fault::Infinite { argument: "not_before" }),
        None => Err(invalid(
            &format!("{path}.not_before"),
            "is no ISO 8601 timestamp with offset",
        )),
    }
}

fn invalid(path: &str, problem: &str) -> Fault {
    Fault::Invalid(Invalid {
        path: path.to_owned(),
        problem: problem.to_owned(),
        hint: Some(
            r#"Items are {"profile_id", "platform", "content_id", "user_id"?, "not_before"?, "source"?}."#.to_owned(),
        ),
    })
}

/// One distinct content of the batch.
struct Wanted<'a> {
    item: &'a Item,
    queue: &'a Queue,
    content: Content<'a>,
}

#[derive(Clone)]
enum Outcome {
    Assigned {
        slot: Slot,
        booking_id: i64,
    },
    Already(Box<booking::Booking>),
    Full,
    /// The batch was rejected for another item's sake.
    Dropped,
}

/// Why an attempt was undone.
enum Halt {
    /// This transaction is at one of the contents.
    Busy(TransactionId),
    /// An insert met a row that no look had shown.
    Lost,
    /// Something is full, and it was all or nothing.
    Rejected(Vec<Outcome>),
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn assign_all(items: &[Item], all_or_nothing: bool) -> Result<Value, Fault> {
    let queues = queues_of(items)?;
    // The same content twice is booked once; the second item has the first one's answer.
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    let mut first: BTreeMap<Content<'_>, usize> = BTreeMap::new();
    let mut answers: Vec<(usize, bool)> = Vec::with_capacity(items.len());
    for item in items {
        let Some(queue) = queues.get(&(item.profile_id.as_str(), item.platform.as_str())) else {
            return Err(Fault::Internal("an item without its queue".to_owned()));
        };
        let content = Content {
            content_id: &item.content_id,
            source: &item.source,
            queue_id: queue.queue_id,
        };
        match first.entry(content) {
            Entry::Occupied(entry) => answers.push((*entry.get(), true)),
            Entry::Vacant(entry) => {
                entry.insert(wanted.len());
                answers.push((wanted.len(), false));
                wanted.push(Wanted { item, queue, content });
            }
        }
    }
    let (outcomes, now, rejected) = loop {
        await_others(first.keys())?;
        let now = now()?;
        let attempt = undoing(|| {
            let _turn = Brief::acquire(&Key::Batches);
            book_all(&wanted, now, all_or_nothing)
        });
        match attempt {
            Ok(outcomes) => break (outcomes, now, false),
            Err(Halt::Rejected(outcomes)) => break (outcomes, now, true),
            Err(Halt::Busy(transaction)) => wait_for(transaction),
            Err(Halt::Lost) => {}
            Err(Halt::Fault(fault)) => return Err(fault),
        }
    };
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Full))
        .count();
    let outcome = match refused {
        _ if rejected => "rejected",
        0 => "assigned",
        n if n == outcomes.len() => "rejected",
        _ => "partial",
    };
    let results: Vec<Value> = answers
        .iter()
        .zip(items)
        .filter_map(|(&(index, again), item)| Some(result(&outcomes, &wanted, index, again, item, now)?.into_value()))
        .collect();
    Ok(Reply::new(outcome).with("results", results).into_value())
}

fn result(
    outcomes: &[Outcome],
    wanted: &[Wanted<'_>],
    index: usize,
    again: bool,
    item: &Item,
    now: Instant,
) -> Option<Reply> {
    let Wanted { item: first, queue, .. } = wanted.get(index)?;
    Some(match outcomes.get(index)? {
        Outcome::Assigned { slot, booking_id } => {
            let (content_id, user_id) = (first.content_id.as_str(), first.user_id.as_deref());
            let seat = Seat {
                queue,
                content_id,
                user_id,
                slot_ref: None,
                booking_id: None,
                at: 0,
            };
            let outcome = if again { "already_assigned" } else { "assigned" };
            Reply::new(outcome).with_seat(&seat.at_slot(slot, Some(*booking_id)))
        }
        Outcome::Already(booking) => Reply::new("already_assigned").with_seat(&Seat::of(booking, queue)),
        Outcome::Full => queue_full(&item.content_id, queue, now),
        Outcome::Dropped => Reply::new("rejected").of_content(&item.content_id, queue),
    })
}

/// The queues of the batch, which stay as they are until the transaction ends.
fn queues_of(items: &[Item]) -> Result<BTreeMap<(&str, &str), Rc<Queue>>, Fault> {
    let mut first_item: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        first_item.entry((&item.profile_id, &item.platform)).or_insert(i);
    }
    let mut keys: Vec<Key<'_>> = first_item
        .keys()
        .map(|&(profile_id, platform)| Key::Queue { profile_id, platform })
        .collect();
    use_queues(&mut keys);
    first_item
        .into_iter()
        .map(|((profile_id, platform), i)| Ok(((profile_id, platform), queue::require(profile_id, platform, Some(i))?)))
        .collect()
}

/// Waits, in one order and holding nothing, for transactions that are at contents of the batch.
fn await_others<'a>(contents: impl Iterator<Item = &'a Content<'a>>) -> Result<(), Fault> {
    let mut scan = booking::content_scan()?;
    for content in contents {
        while let State::Busy(transaction) = booking::state(&mut scan, content)? {
            wait_for(transaction);
        }
    }
    Ok(())
}

/// A seeker and the rest of the slot that it is at.
struct Source<'q> {
    seeker: Seeker<'q>,
    slot: Option<Slot>,
    seats: std::vec::IntoIter<i16>,
    used: usize,
}

impl<'q> Source<'q> {
    fn new(queue: &'q Queue, not_before: Option<Instant>, now: Instant) -> Self {
        let from = not_before.map_or(now, |at| at.max(now));
        let seeker = Seeker::new(queue, Places::of(queue), from, queue.horizon(now));
        Self {
            seeker,
            slot: None,
            seats: Vec::new().into_iter(),
            used: 0,
        }
    }

    fn next(&mut self, reader: &mut Reader, chosen: &BTreeSet<(i64, i64, i16)>) -> Result<Option<HeldSeat>, Fault> {
        loop {
            if let Some(slot) = &self.slot {
                for seat in self.seats.by_ref() {
                    if let Some(held) = self.seeker.hold(reader, chosen, slot, &[seat])? {
                        self.used += 1;
                        return Ok(Some(held));
                    }
                }
            }
            self.settle();
            let Some(candidate) = self.seeker.next(reader, chosen)? else {
                return Ok(None);
            };
            self.slot = Some(candidate.slot);
            self.seats = candidate.seats.into_iter();
        }
    }

    fn settle(&mut self) {
        if self.slot.take().is_some() {
            self.seeker.took(std::mem::take(&mut self.used));
        }
    }
}

fn book_all(wanted: &[Wanted<'_>], now: Instant, all_or_nothing: bool) -> Result<Vec<Outcome>, Halt> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(wanted.len());
    let mut sources: HashMap<(i64, Option<Instant>), Source<'_>> = HashMap::new();
    let mut reader = Reader::default();
    let mut contents = booking::content_scan()?;
    for chunk in wanted.chunks(CHUNK) {
        let mut keys: Vec<Key<'_>> = chunk.iter().map(|wanted| wanted.content.key()).collect();
        keys.sort_by_key(Key::hash64);
        let _turns: Vec<Brief> = keys.iter().map(Brief::acquire).collect();
        let mut chosen = BTreeSet::new();
        let mut rows: Vec<(usize, &Wanted<'_>, HeldSeat)> = Vec::with_capacity(chunk.len());
        for wanted in chunk {
            let outcome = match booking::state(&mut contents, &wanted.content)? {
                State::Busy(transaction) => return Err(Halt::Busy(transaction)),
                State::Booked => Outcome::Already(Box::new(booking::find(&wanted.content)?.ok_or(Halt::Lost)?)),
                State::Free => {
                    let source = sources
                        .entry((wanted.queue.queue_id, wanted.item.not_before))
                        .or_insert_with(|| Source::new(wanted.queue, wanted.item.not_before, now));
                    if let Some(held) = source.next(&mut reader, &chosen)? {
                        chosen.insert((wanted.queue.queue_id, held.slot.granule, held.seat));
                        rows.push((outcomes.len(), wanted, held));
                    }
                    Outcome::Full // until its row is in
                }
            };
            outcomes.push(outcome);
        }
        insert(&rows, now, &mut outcomes)?;
        let full = |outcome: &Outcome| matches!(outcome, Outcome::Full);
        if all_or_nothing && outcomes.iter().any(full) {
            return Err(Halt::Rejected(rejected(outcomes, wanted)?));
        }
    }
    for source in sources.values_mut() {
        source.settle();
        source.seeker.keep_findings(&mut reader)?;
    }
    Ok(outcomes)
}

/// What the items of a rejected batch have come to: nothing was booked, but some had their seat before.
fn rejected(mut outcomes: Vec<Outcome>, wanted: &[Wanted<'_>]) -> Result<Vec<Outcome>, Fault> {
    for outcome in &mut outcomes {
        if let Outcome::Assigned { .. } = outcome {
            *outcome = Outcome::Dropped;
        }
    }
    for wanted in wanted.iter().skip(outcomes.len()) {
        outcomes.push(match booking::find(&wanted.content)? {
            Some(booking) => Outcome::Already(Box::new(booking)),
            None => Outcome::Dropped,
        });
    }
    Ok(outcomes)
}

fn insert(rows: &[(usize, &Wanted<'_>, HeldSeat)], now: Instant, outcomes: &mut [Outcome]) -> Result<(), Halt> {
    if rows.is_empty() {
        return Ok(());
    }
    let new: Vec<booking::New<'_>> = rows
        .iter()
        .map(|(_, wanted, held)| booking::New {
            content: wanted.content,
            user_id: wanted.item.user_id.as_deref(),
            slot: &held.slot,
            seat: held.seat,
        })
        .collect();
    let ids = booking::insert_all(&new, now)?;
    for (index, wanted, held) in rows {
        let key = (wanted.queue.queue_id, held.slot.granule, held.seat);
        let booking_id = *ids.get(&key).ok_or(Halt::Lost)?;
        if let Some(outcome) = outcomes.get_mut(*index) {
            *outcome = Outcome::Assigned {
                slot: held.slot.clone(),
                booking_id,
            };
        }
    }
    Ok(())
}
