//! `assign_slots`: many contents in one call and one transaction.
//!
//! Bookings are made in chunks, so that the number of locks held at once is bounded whatever the size of the batch.
//! Batches take turns from their first look to their last insert (not until they commit), so that two of them never
//! wait for each other in circles. A batch that meets a content which another transaction is at undoes what it has
//! done so far, waits holding nothing of its own, and starts over.

use crate::arguments::{identifier, optional_identifier, platform_name};
use crate::assign::queue_full;
use crate::binding::row::{Target, spelled};
use crate::booking::{self, Booking, Bookings, Content, NewBooking, State};
use crate::clock::{now, parse_instant};
use crate::fault::Fault;
use crate::ledger::Reader;
use crate::luck::Luck;
use crate::pg::json::{JsonReply, Jsonb, Part};
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::refuse_read_only;
use crate::pg::scan::IndexScan;
use crate::pg::subtransaction::{undoing, within};
use crate::place::{HeldSeat, Places, Seeker};
use crate::queue::{self, IsHash, Queue};
use crate::reply::{Reply, Seat};
use crate::schedule::not_found_in;
use pgrx::pg_sys::TransactionId;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::slots::Slot;
use slotkeeper_core::{Instant, Invalid};
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

/// Contents that are booked by one statement; each costs two locks for as long.
const CHUNK: usize = 64;

/// More items than this are refused: a batch is one transaction and one reply.
const MAX_ITEMS: usize = 100_000;

#[pg_extern(schema = "slotkeeper")]
fn assign_slots(
    p_items: Option<Jsonb>,
    p_mode: default!(Option<&str>, "'all_or_nothing'"),
) -> Result<JsonReply, ErrorReport> {
    let items = p_items.ok_or(Fault::Null { argument: "p_items" })?;
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
    Ok(assign_all(&parse_items(items.part())?, all_or_nothing)?)
}

struct Item<'a> {
    profile_id: Cow<'a, str>,
    platform: String,
    content_id: Cow<'a, str>,
    user_id: Option<Cow<'a, str>>,
    not_before: Option<Instant>,
    source: Option<Cow<'a, str>>,
}

impl Item<'_> {
    fn queue_name(&self) -> (&str, &str) {
        (&self.profile_id, &self.platform)
    }
}

/// An item as errors name it.
struct At(usize);

impl fmt::Display for At {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "p_items[{}]", self.0)
    }
}

fn parse_items(items: Part<'_>) -> Result<Vec<Item<'_>>, Fault> {
    let Part::List(items) = items else {
        return Err(invalid("p_items", "must be an array of objects"));
    };
    if items.len() > MAX_ITEMS {
        return Err(invalid(
            "p_items",
            &format!("has {} items; at most {MAX_ITEMS} are allowed", items.len()),
        ));
    }
    let mut all = Vec::with_capacity(items.len());
    for (i, item) in items.elements().enumerate() {
        all.push(parse_item(&At(i), item)?);
    }
    Ok(all)
}

const KEYS: [&str; 6] = [
    "profile_id",
    "platform",
    "content_id",
    "user_id",
    "not_before",
    "source",
];

/// What an item says, in the order of [`KEYS`].
type Fields<'a> = [Option<Part<'a>>; KEYS.len()];

fn parse_item<'a>(at: &At, item: Part<'a>) -> Result<Item<'a>, Fault> {
    let Part::Object(members) = item else {
        return Err(invalid(&at.to_string(), "must be an object"));
    };
    let mut fields = Fields::default();
    for (key, value) in members.members() {
        match KEYS.iter().position(|known| *known == key) {
            Some(known) => fields[known] = Some(value),
            None => {
                return Err(invalid(
                    &format!("{at}.{key}"),
                    &format!("is unknown; known keys are {}", KEYS.join(", ")),
                ));
            }
        }
    }
    let [profile_id, platform, content_id, user_id, not_before, source] = fields;
    let parse = || {
        let platform = text_field(at, "platform", platform)?;
        let profile_id = required_field(at, "profile_id", profile_id)?;
        let platform = platform_name("platform", identifier("platform", platform.as_deref())?)?;
        let content_id = required_field(at, "content_id", content_id)?;
        let user_id = optional_field(at, "user_id", user_id)?;
        let not_before = text_field(at, "not_before", not_before)?;
        let not_before = not_before.map(|text| instant_field(at, &text)).transpose()?;
        let source = optional_field(at, "source", source)?;
        let content_id = match spelled(&content_id, source.as_deref())? {
            Cow::Owned(spelled) => Cow::Owned(spelled),
            Cow::Borrowed(_) => content_id,
        };
        Ok(Item {
            profile_id,
            platform,
            content_id,
            user_id,
            not_before,
            source,
        })
    };
    parse().map_err(|fault: Fault| fault.in_item(&at.to_string()))
}

/// The text of a field.
fn text_field<'a>(at: &At, key: &str, value: Option<Part<'a>>) -> Result<Option<Cow<'a, str>>, Fault> {
    match value {
        None | Some(Part::Null) => Ok(None),
        Some(Part::Text(text)) => Ok(Some(text)),
        // Applications with integer keys write them as JSON numbers.
        Some(Part::Number(number)) if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() => {
            Ok(Some(Cow::Owned(number)))
        }
        Some(_) => Err(invalid(&format!("{at}.{key}"), "must be a string")),
    }
}

/// The identifier in a field.
fn optional_field<'a>(at: &At, key: &'static str, value: Option<Part<'a>>) -> Result<Option<Cow<'a, str>>, Fault> {
    let text = text_field(at, key, value)?;
    optional_identifier(key, text.as_deref())?;
    Ok(text)
}

/// The same of one that must be there.
fn required_field<'a>(at: &At, key: &'static str, value: Option<Part<'a>>) -> Result<Cow<'a, str>, Fault> {
    optional_field(at, key, value)?.ok_or(Fault::Null { argument: key })
}

fn instant_field(at: &At, text: &str) -> Result<Instant, Fault> {
    match parse_instant(text) {
        Some(instant) => Ok(instant),
        None if matches!(text.trim(), "infinity" | "-infinity") => Err(Fault::Infinite { argument: "not_before" }),
        None => Err(Fault::Invalid(Invalid {
            path: format!("{at}.not_before"),
            problem: "is no ISO 8601 timestamp with offset".to_owned(),
            hint: Some("Write it with its offset, such as 2026-01-15T23:00:00+00:00.".to_owned()),
        })),
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
#[derive(Clone, Copy)]
struct Wanted<'a, 'i> {
    /// The item's place among all.
    place: usize,
    item: &'i Item<'i>,
    queue: &'a Queue,
    /// The application's row, where there is one.
    target: &'a Target<'i>,
    content: Content<'a>,
    /// Of the content's key.
    hash: u64,
}

impl Wanted<'_, '_> {
    fn source_key(&self) -> (i64, Option<Instant>) {
        (self.queue.queue_id, self.item.not_before)
    }

    fn row<'r>(&'r self, held: &'r HeldSeat, now: Instant) -> NewBooking<'r> {
        NewBooking {
            content: self.content,
            user_id: self.item.user_id.as_deref(),
            slot: &held.slot,
            seat: held.seat,
            booked_at: now,
            claimed_at: None,
            full_before: held.full_before,
        }
    }
}

#[derive(Clone)]
enum Outcome {
    Assigned {
        slot: Slot,
        booking_id: i64,
    },
    Already(Box<Booking>),
    /// It was booked before its row was there.
    Adopted(Box<Booking>),
    Full,
    /// The batch was rejected for another item's sake.
    Dropped,
}

impl Outcome {
    fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }
}

/// Why an attempt was undone.
enum Halt {
    /// This transaction is at one of the contents.
    Busy(TransactionId),
    /// An insert met a row that no look had shown, or for which none had looked.
    Lost,
    /// Something is full or not found, and it was all or nothing.
    Rejected(JsonReply),
    /// The rows of these items take no seat, whatever is written into them.
    Unseated(Vec<(usize, Fault)>),
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Items whose rows take no seat: problem and remedy.
type Unseated = BTreeMap<usize, (String, String)>;

fn assign_all(items: &[Item<'_>], all_or_nothing: bool) -> Result<JsonReply, Fault> {
    let names = Names::of(items);
    names.use_queues(items);
    let (mut busy, mut careful) = (None, false);
    let mut unseated = Unseated::new();
    loop {
        if let Some(transaction) = busy.take() {
            wait_for(transaction);
        }
        // Anew each time: while the batch waited, a queue may have been altered.
        let queues = names.queues(items)?;
        let now = now()?;
        let settle = || {
            let mut targets = Vec::new();
            let (batch, outcomes) = undoing(
                || Halt::Lost,
                || attempt(items, &queues, now, all_or_nothing, careful, &unseated, &mut targets),
            )?;
            // Not inside the attempt: an error of the application's own is none to try again for.
            let rows = batch.rows(&outcomes);
            let targets: Vec<(&Target<'_>, &Slot)> = rows.iter().map(|row| (row.target, &row.slot)).collect();
            let written = Target::all_scheduled(&targets, now)?;
            if !written.unseated.is_empty() {
                let items = written.unseated.into_iter();
                return Err(Halt::Unseated(
                    items.map(|(row, fault)| (rows[row].place, fault)).collect(),
                ));
            }
            Ok(batch.reply(&outcomes, &written.others, now, false))
        };
        // What is to be undone on account of some items is done again without them.
        let settled = if all_or_nothing { settle() } else { within(settle) };
        match settled {
            Ok(reply) => return Ok(reply),
            Err(Halt::Rejected(reply)) => return Ok(reply),
            Err(Halt::Busy(transaction)) => busy = Some(transaction),
            Err(Halt::Lost) => careful = true,
            Err(Halt::Unseated(items)) if all_or_nothing => {
                let first = items.into_iter().min_by_key(|(place, _)| *place);
                return Err(first.map_or_else(
                    || Fault::Internal("no item without a seat".to_owned()),
                    |(place, fault)| fault.named_by(&At(place).to_string()),
                ));
            }
            Err(Halt::Unseated(items)) => {
                unseated.extend(
                    items
                        .into_iter()
                        .map(|(place, fault)| (place, fault.message_and_hint())),
                );
            }
            Err(Halt::Fault(fault)) => return Err(fault),
        }
    }
}

/// A row of the application's, and the slot that is to be written into it.
struct Settled<'a, 'i> {
    /// Of the item that it answers.
    place: usize,
    target: &'a Target<'i>,
    slot: Slot,
}

/// Locks the application's rows first, in one order, and then books, in turn with other batches. An attempt that is undone
/// gives the rows back too.
fn attempt<'a, 'i>(
    items: &'i [Item<'i>],
    queues: &'a Queues<'a>,
    now: Instant,
    all_or_nothing: bool,
    careful: bool,
    unseated: &'a Unseated,
    targets: &'a mut Vec<Target<'i>>,
) -> Result<(Batch<'a, 'i>, Vec<Outcome>), Halt> {
    let names: Vec<(&str, Option<&str>)> = items
        .iter()
        .map(|item| (item.content_id.as_ref(), item.source.as_deref()))
        .collect();
    *targets = Target::find_all(&names, |place, fault| fault.named_by(&At(place).to_string()))?;
    let batch = Batch::of(items, queues, targets, unseated)?;
    if all_or_nothing && batch.answers.iter().any(Option::is_none) {
        let outcomes = rejected(Vec::new(), &batch.wanted)?;
        return Err(Halt::Rejected(batch.reply(&outcomes, &[], now, true)));
    }
    let outcomes = {
        let _turn = Brief::acquire(&Key::Batches);
        book_all(&batch.wanted, now, all_or_nothing, careful)?
    };
    if all_or_nothing && outcomes.iter().any(Outcome::is_full) {
        let outcomes = rejected(outcomes, &batch.wanted)?;
        return Err(Halt::Rejected(batch.reply(&outcomes, &[], now, true)));
    }
    Ok((batch, outcomes))
}

/// A content, and the hash of its key.
#[derive(PartialEq, Eq)]
struct Hashed<'a> {
    hash: u64,
    content: Content<'a>,
}

impl Hash for Hashed<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

/// The distinct contents of a batch, and which of them answers each item.
struct Batch<'a, 'i> {
    items: &'i [Item<'i>],
    queues: &'a Queues<'a>,
    wanted: Vec<Wanted<'a, 'i>>,
    /// For each item its content's place in `wanted`, and whether an earlier item has the same; none where the caller has
    /// no row of that content, or one that takes no seat.
    answers: Vec<Option<(usize, bool)>>,
    unseated: &'a Unseated,
}

impl<'a, 'i> Batch<'a, 'i> {
    fn of(
        items: &'i [Item<'i>],
        queues: &'a Queues<'a>,
        targets: &'a [Target<'i>],
        unseated: &'a Unseated,
    ) -> Result<Self, Fault> {
        let mut wanted: Vec<Wanted<'a, 'i>> = Vec::with_capacity(items.len());
        let mut first: HashMap<Hashed<'a>, usize, BuildHasherDefault<IsHash>> =
            HashMap::with_capacity_and_hasher(items.len(), BuildHasherDefault::default());
        let mut answers = Vec::with_capacity(items.len());
        for (place, (item, target)) in items.iter().zip(targets).enumerate() {
            if unseated.contains_key(&place) {
                answers.push(None);
                continue;
            }
            let queue = queues.of_item(place);
            let named = |fault: Fault| fault.named_by(&At(place).to_string());
            let Some(content) = target.in_queue(queue).map_err(named)? else {
                answers.push(None);
                continue;
            };
            let hash = content.key().hash64();
            match first.entry(Hashed { hash, content }) {
                Entry::Occupied(entry) => answers.push(Some((*entry.get(), true))),
                Entry::Vacant(entry) => {
                    entry.insert(wanted.len());
                    answers.push(Some((wanted.len(), false)));
                    wanted.push(Wanted {
                        place,
                        item,
                        queue,
                        target,
                        content,
                        hash,
                    });
                }
            }
        }
        let mut batch = Self {
            items,
            queues,
            wanted,
            answers,
            unseated,
        };
        batch.sort_by_queue();
        Ok(batch)
    }

    /// Contents of one queue follow each other, as they were given: what is read and written for one lies near what is for the
    /// next.
    fn sort_by_queue(&mut self) {
        let wanted = self.wanted.iter().enumerate();
        let mut order: Vec<(i64, usize)> = wanted.map(|(index, wanted)| (wanted.queue.queue_id, index)).collect();
        order.sort_unstable();
        let mut places = vec![0; order.len()];
        for (place, &(_, index)) in order.iter().enumerate() {
            places[index] = place;
        }
        self.wanted = order.into_iter().map(|(_, index)| self.wanted[index]).collect();
        for (index, _) in self.answers.iter_mut().flatten() {
            *index = places[*index];
        }
    }

    /// The rows of the application's for which something has been settled.
    fn rows(&self, outcomes: &[Outcome]) -> Vec<Settled<'a, 'i>> {
        let settled = self.wanted.iter().zip(outcomes);
        settled
            .filter(|(wanted, _)| wanted.target.may_adopt())
            .filter_map(|(wanted, outcome)| {
                let slot = match outcome {
                    Outcome::Assigned { slot, .. } => slot.clone(),
                    Outcome::Adopted(booking) => booking.slot(),
                    Outcome::Already(_) | Outcome::Full | Outcome::Dropped => return None,
                };
                let (place, target) = (wanted.place, wanted.target);
                Some(Settled { place, target, slot })
            })
            .collect()
    }

    /// `moved` are bookings of the batch that have another place by now.
    fn reply(&self, outcomes: &[Outcome], moved: &[Booking], now: Instant, rejected: bool) -> JsonReply {
        let refused = outcomes.iter().filter(|outcome| outcome.is_full()).count();
        let missing = self.answers.iter().filter(|answer| answer.is_none()).count();
        let outcome = match refused + missing {
            _ if rejected => "rejected",
            0 => "assigned",
            n if n == outcomes.len() + missing => "rejected",
            _ => "partial",
        };
        let moved: HashMap<i64, &Booking> = moved.iter().map(|own| (own.booking_id, own)).collect();
        let answers = self.answers.iter().zip(self.items).enumerate();
        let results = answers.filter_map(|(place, (answer, item))| {
            let reply = match (*answer, self.unseated.get(&place)) {
                (Some((index, again)), _) => {
                    result(self.wanted.get(index)?, outcomes.get(index)?, &moved, again, item, now)
                }
                (None, Some((problem, remedy))) => Reply::new("rejected")
                    .of_content(&item.content_id, self.queues.of_item(place))
                    .with("problem", problem.as_str())
                    .with("remedy", remedy.as_str()),
                (None, None) => not_found_in(&item.content_id, self.queues.of_item(place)),
            };
            Some(reply.into_json())
        });
        Reply::new(outcome).with_list("results", self.answers.len(), results)
    }
}

fn result(
    wanted: &Wanted<'_, '_>,
    outcome: &Outcome,
    moved: &HashMap<i64, &Booking>,
    again: bool,
    item: &Item<'_>,
    now: Instant,
) -> Reply {
    let queue = wanted.queue;
    let (outcome, mut seat) = match outcome {
        Outcome::Assigned { slot, booking_id } => {
            let seat = Seat {
                queue,
                content_id: wanted.content.content_id,
                user_id: wanted.item.user_id.as_deref(),
                slot_ref: None,
                booking_id: None,
                at: 0,
            };
            let outcome = if again { "already_assigned" } else { "assigned" };
            (outcome, seat.at_slot(slot, Some(*booking_id)))
        }
        Outcome::Already(booking) | Outcome::Adopted(booking) => ("already_assigned", Seat::of(booking, queue)),
        Outcome::Full => return queue_full(&item.content_id, queue, now),
        Outcome::Dropped => return Reply::new("rejected").of_content(&item.content_id, queue),
    };
    if let Some(moved) = seat.booking_id.and_then(|booking_id| moved.get(&booking_id)) {
        seat.at = moved.scheduled_at;
        seat.slot_ref = moved.slot_ref.as_deref();
    }
    Reply::new(outcome).with_seat(&seat)
}

/// The queues that the items of a batch name.
struct Names {
    /// The first item of each.
    firsts: Vec<usize>,
    /// Which of them each item names.
    of_items: Vec<usize>,
}

impl Names {
    fn of(items: &[Item<'_>]) -> Self {
        let mut numbers: HashMap<(&str, &str), usize> = HashMap::new();
        let mut firsts = Vec::new();
        let of_items = items.iter().enumerate().map(|(place, item)| {
            *numbers.entry(item.queue_name()).or_insert_with(|| {
                firsts.push(place);
                firsts.len() - 1
            })
        });
        let of_items = of_items.collect();
        Self { firsts, of_items }
    }

    /// The queues of the batch stay until the transaction ends.
    fn use_queues(&self, items: &[Item<'_>]) {
        let names = self.firsts.iter().map(|&first| items[first].queue_name());
        let mut keys: Vec<Key<'_>> = names
            .map(|(profile_id, platform)| Key::Queue { profile_id, platform })
            .collect();
        use_queues(&mut keys);
    }

    /// The queues of the batch, as they are now.
    fn queues(&self, items: &[Item<'_>]) -> Result<Queues<'_>, Fault> {
        let queue_of = |&first: &usize| {
            let (profile_id, platform) = items[first].queue_name();
            queue::require(profile_id, platform, Some(first))
        };
        Ok(Queues {
            all: self.firsts.iter().map(queue_of).collect::<Result<_, _>>()?,
            of_items: &self.of_items,
        })
    }
}

/// The same queues, looked up.
struct Queues<'a> {
    all: Vec<Rc<Queue>>,
    of_items: &'a [usize],
}

impl Queues<'_> {
    /// The one that this item names.
    fn of_item(&self, place: usize) -> &Queue {
        &self.all[self.of_items[place]]
    }
}

/// A seeker and the rest of the slot that it is at.
struct Source<'q> {
    queue_id: i64,
    seeker: Seeker<'q>,
    slot: Option<Slot>,
    seats: std::vec::IntoIter<i16>,
    used: usize,
    /// What the other searches had booked up to this round is known.
    round: u32,
}

impl<'q> Source<'q> {
    fn new(queue: &'q Queue, not_before: Option<Instant>, now: Instant, round: u32) -> Self {
        let from = not_before.map_or(now, |at| at.max(now));
        let seeker = Seeker::new(queue, Places::of(queue), from, queue.horizon(now));
        Self {
            queue_id: queue.queue_id,
            seeker,
            slot: None,
            seats: Vec::new().into_iter(),
            used: 0,
            round,
        }
    }

    /// Learns what the others have booked, when a round has passed.
    fn catch_up(&mut self, reader: &mut Reader, round: u32) -> Result<(), Fault> {
        if std::mem::replace(&mut self.round, round) != round {
            self.seeker.forget();
            self.drop_taken_seats(reader)?;
        }
        Ok(())
    }

    /// The next seat that can be locked; with `look` it is also seen to be free still.
    fn next(&mut self, reader: &mut Reader, chosen: &Chosen, look: bool) -> Result<Option<HeldSeat>, Fault> {
        loop {
            if let Some(slot) = &self.slot {
                for seat in self.seats.by_ref() {
                    // Another search of this batch may have chosen it: the lock, which is ours then, doesn't tell.
                    if chosen.contains(&(self.queue_id, slot.granule, seat)) {
                        continue;
                    }
                    let held = if look {
                        self.seeker.hold(reader, chosen, slot, &[seat])?
                    } else {
                        self.seeker.lock(slot, seat)
                    };
                    if held.is_some() {
                        self.used += 1;
                        return Ok(held);
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

    /// Whether no seat of the slot it is at is left.
    fn is_between_slots(&self) -> bool {
        self.seats.len() == 0
    }

    /// Of the slot that it is at, keeps the seats that are free still.
    fn drop_taken_seats(&mut self, reader: &mut Reader) -> Result<(), Fault> {
        if let (Some(slot), false) = (&self.slot, self.is_between_slots()) {
            let free = self.seeker.look(reader, &Chosen::new(), slot)?;
            let left: Vec<i16> = self.seats.by_ref().filter(|seat| free.contains(seat)).collect();
            self.seats = left.into_iter();
        }
        Ok(())
    }

    fn settle(&mut self) {
        if self.slot.take().is_some() {
            self.seeker.took(std::mem::take(&mut self.used));
        }
    }
}

/// Seats that are chosen and not inserted yet.
type Chosen = BTreeSet<(i64, i64, i16)>;

/// Searches that are under way: one for each queue and earliest instant.
type Sources<'q> = BTreeMap<(i64, Option<Instant>), Source<'q>>;

/// A content and the seat it is to have.
struct Pick<'a> {
    outcome: usize,
    wanted: &'a Wanted<'a, 'a>,
    held: HeldSeat,
}

impl Pick<'_> {
    fn seat(&self) -> (i64, i64, i16) {
        (self.wanted.queue.queue_id, self.held.slot.granule, self.held.seat)
    }
}

/// Whether the contents seem to be new: so many of them, spread over the batch, are not booked.
fn seem_new(wanted: &[Wanted<'_, '_>], contents: &mut IndexScan) -> Result<bool, Fault> {
    const ASKED: usize = 4;
    let step = wanted.len().div_ceil(ASKED).max(1);
    for wanted in wanted.iter().step_by(step).chain(wanted.last()) {
        if !matches!(booking::state(contents, &wanted.content)?, State::Free) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Books all it can, or up to the first that is full if it is `all_or_nothing`; `careful`, it looks at each seat by itself,
/// and at each content before it is booked. Otherwise the indexes say of contents that seem to be new whether they are, and
/// the attempt is lost where one is not.
fn book_all(
    wanted: &[Wanted<'_, '_>],
    now: Instant,
    all_or_nothing: bool,
    careful: bool,
) -> Result<Vec<Outcome>, Halt> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(wanted.len());
    let mut sources = Sources::new();
    let mut reader = Reader::to_book();
    let mut contents = booking::content_scan_to_book()?;
    let mut bookings = Bookings::open()?;
    let trusting = !careful && seem_new(wanted, &mut contents)? && bookings.tell_of_held();
    let blindly = trusting && ALONE.with(Luck::is_good);
    let mut alone = true;
    let mut chunks = wanted.chunks(CHUNK).peekable();
    let mut round = 0;
    while let Some(chunk) = chunks.next() {
        let mut hashes: Vec<u64> = chunk.iter().map(|wanted| wanted.hash).collect();
        hashes.sort_unstable();
        let _turns: Vec<Brief> = hashes.into_iter().map(Brief::acquire_hash).collect();
        let mut chosen = Chosen::new();
        let mut picks: Vec<Pick<'_>> = Vec::with_capacity(chunk.len());
        for wanted in chunk {
            let (state, adopted) = if wanted.target.may_adopt() {
                booking::state_of_row(&wanted.content)?
            } else if trusting {
                (State::Free, None)
            } else {
                (booking::state(&mut contents, &wanted.content)?, None)
            };
            if let Some(booking) = adopted {
                outcomes.push(Outcome::Adopted(Box::new(booking)));
                continue;
            }
            let outcome = match state {
                State::Busy(transaction) => return Err(Halt::Busy(transaction)),
                State::Booked => Outcome::Already(Box::new(booking::find(&wanted.content)?.ok_or(Halt::Lost)?)),
                State::Free => {
                    let source = sources
                        .entry(wanted.source_key())
                        .or_insert_with(|| Source::new(wanted.queue, wanted.item.not_before, now, round));
                    source.catch_up(&mut reader, round)?;
                    if let Some(held) = source.next(&mut reader, &chosen, careful)? {
                        let pick = Pick {
                            outcome: outcomes.len(),
                            wanted,
                            held,
                        };
                        chosen.insert(pick.seat());
                        picks.push(pick);
                    }
                    Outcome::Full // until its row is in
                }
            };
            outcomes.push(outcome);
        }
        if !blindly {
            alone &= !look_again(&mut picks, &mut sources, &mut reader, &mut chosen)?;
        }
        let without = outcomes.iter().rev().take(chunk.len());
        if trusting && without.filter(|outcome| outcome.is_full()).count() > picks.len() {
            // Something has no seat left, and needs none if it is booked already.
            return Err(Halt::Lost);
        }
        say_how_far(&mut picks, &sources)?;
        let rows: Vec<NewBooking<'_>> = picks.iter().map(|pick| pick.wanted.row(&pick.held, now)).collect();
        let Some(booking_ids) = bookings.insert_all(&rows)? else {
            if blindly {
                ALONE.with(Luck::has_run_out);
            }
            return Err(Halt::Lost);
        };
        for (pick, booking_id) in picks.iter().zip(booking_ids) {
            if let Some(outcome) = outcomes.get_mut(pick.outcome) {
                *outcome = Outcome::Assigned {
                    slot: pick.held.slot.clone(),
                    booking_id,
                };
            }
        }
        bookings.flush();
        let used: BTreeSet<_> = picks.iter().map(|pick| pick.wanted.source_key()).collect();
        drop(picks);
        if all_or_nothing && outcomes.iter().rev().take(chunk.len()).any(Outcome::is_full) {
            return Ok(outcomes);
        }
        let next = chunks.peek().and_then(|chunk| chunk.first());
        leave_queues(&mut sources, &mut reader, next.map(|wanted| wanted.queue.queue_id))?;
        if sources.len() > 1 {
            share_findings(&mut sources, &used, &mut reader)?;
            round += 1;
        }
    }
    if trusting && !blindly {
        ALONE.with(if alone { Luck::was_right } else { Luck::was_wrong });
    }
    Ok(outcomes)
}

/// The last booking of each search says how far the queue is full, for the searches to come.
fn say_how_far(picks: &mut [Pick<'_>], sources: &Sources<'_>) -> Result<(), Fault> {
    let mut said = BTreeSet::new();
    for pick in picks.iter_mut().rev() {
        let key = pick.wanted.source_key();
        if let (Some(source), true) = (sources.get(&key), said.insert(key)) {
            pick.held.full_before = source.seeker.full_before()?;
        }
    }
    Ok(())
}

thread_local! {
    /// Of guesses that nobody else takes a seat between the search that has found it and its lock, in all of a batch.
    static ALONE: Luck = const { Luck::new() };
}

/// Looks at the seats of a chunk again, now that their locks are held: with one read for each queue where they lie
/// close together. A content whose seat has gone gets another; says whether there was one.
fn look_again(
    picks: &mut Vec<Pick<'_>>,
    sources: &mut Sources<'_>,
    reader: &mut Reader,
    chosen: &mut Chosen,
) -> Result<bool, Fault> {
    let mut ranges: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for pick in picks.iter() {
        let (queue_id, granule, _) = pick.seat();
        let range = ranges.entry(queue_id).or_insert((granule, granule));
        *range = (range.0.min(granule), range.1.max(granule));
    }
    let mut held = Vec::new();
    let mut gone = BTreeSet::new();
    for (queue_id, (first, last)) in ranges {
        held.clear();
        let end = reader.seats(queue_id, first, last.saturating_add(1), &mut held)?;
        let taken: BTreeSet<(i64, i16)> = held.iter().map(|(granule, held)| (*granule, held.seat)).collect();
        for pick in picks.iter().filter(|pick| pick.wanted.queue.queue_id == queue_id) {
            let (_, granule, seat) = pick.seat();
            let is_taken = if granule < end {
                taken.contains(&(granule, seat))
            } else {
                held.clear();
                reader.seats(queue_id, granule, granule.saturating_add(1), &mut held)?;
                held.iter().any(|(_, held)| held.seat == seat)
            };
            if is_taken {
                gone.insert(pick.outcome);
            }
        }
    }
    if gone.is_empty() {
        return Ok(false);
    }
    for pick in picks.iter().filter(|pick| gone.contains(&pick.outcome)) {
        if let Some(source) = sources.get_mut(&pick.wanted.source_key()) {
            source.seeker.distrust();
        }
    }
    for pick in picks.iter_mut() {
        if !gone.contains(&pick.outcome) {
            continue;
        }
        let Some(source) = sources.get_mut(&pick.wanted.source_key()) else {
            continue;
        };
        if let Some(held) = source.next(reader, chosen, true)? {
            pick.held = held;
            chosen.insert(pick.seat());
            gone.remove(&pick.outcome);
        }
    }
    picks.retain(|pick| !gone.contains(&pick.outcome));
    Ok(true)
}

/// Queues come one after the other: the searches of those before the next one are over, and what they have found out is stored.
fn leave_queues(sources: &mut Sources<'_>, reader: &mut Reader, next: Option<i64>) -> Result<(), Fault> {
    let under_way = next.map_or_else(Sources::new, |queue_id| sources.split_off(&(queue_id, None)));
    let mut left = std::mem::replace(sources, under_way);
    keep_findings(left.values_mut().collect(), reader)
}

/// Stores what these searches, in the order of their queues, have found out.
fn keep_findings(mut sources: Vec<&mut Source<'_>>, reader: &mut Reader) -> Result<(), Fault> {
    for source in &mut sources {
        source.settle();
    }
    for over_one in sources.chunk_by_mut(|a, b| a.queue_id == b.queue_id) {
        Seeker::keep_findings_of(over_one.iter_mut().map(|source| &mut source.seeker), reader)?;
    }
    Ok(())
}

/// Where several searches go over the queue that the batch is at, what one has walked over saves the others the walk. They are
/// told of it, and of what has been booked, when their turn comes: each chunk costs what it has used, not what there is.
fn share_findings(
    sources: &mut Sources<'_>,
    used: &BTreeSet<(i64, Option<Instant>)>,
    reader: &mut Reader,
) -> Result<(), Fault> {
    let mut used: Vec<_> = used.iter().filter_map(|key| sources.remove_entry(key)).collect();
    let all = used.iter_mut().map(|(_, source)| source);
    keep_findings(all.filter(|source| source.is_between_slots()).collect(), reader)?;
    sources.extend(used);
    Ok(())
}

/// What the items of a rejected batch have come to: nothing was booked, but some had their seat before.
fn rejected(mut outcomes: Vec<Outcome>, wanted: &[Wanted<'_, '_>]) -> Result<Vec<Outcome>, Fault> {
    for outcome in &mut outcomes {
        if let Outcome::Assigned { .. } | Outcome::Adopted(_) = outcome {
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
