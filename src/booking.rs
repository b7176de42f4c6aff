//! Rows of the ledger: whether a content is booked, and the three ways a row changes.

use crate::arguments::{NO_SOURCE, identifier, optional_identifier, platform_name, which_source};
use crate::binding::row::spelled;
use crate::fault::Fault;
use crate::full_before::FullBefore;
use crate::ledger::{Reader, leave_hole};
use crate::pg::across_rows::Memory;
use crate::pg::insert::{Columns, Inserter, next_number};
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::role::caller_name;
use crate::pg::scan::{IndexScan, Key as ScanKey, Order, See};
use crate::pg::statement::{Row, Statement, Value};
use crate::pg::subtransaction::unless_duplicate;
use crate::queue::{self, Queue};
use crate::reply::Reply;
use pgrx::pg_sys::TransactionId;
use slotkeeper_core::Instant;
use slotkeeper_core::slots::Slot;
use std::borrow::Cow;
use std::rc::Rc;

/// A content in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content<'a> {
    pub(crate) content_id: &'a str,
    pub(crate) source: &'a str,
    pub(crate) queue_id: i64,
}

impl<'a> Content<'a> {
    pub(crate) fn key(&self) -> Key<'a> {
        Key::Content {
            queue_id: self.queue_id,
            source: self.source,
            content_id: self.content_id,
        }
    }
}

/// A live booking.
#[derive(Clone, Debug)]
pub(crate) struct Booking {
    pub(crate) booking_id: i64,
    pub(crate) queue_id: i64,
    pub(crate) granule: i64,
    pub(crate) seat: i16,
    pub(crate) source: String,
    pub(crate) content_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) scheduled_at: Instant,
    pub(crate) slot_ref: Option<String>,
    /// Whether publishing has taken it up.
    pub(crate) claimed: bool,
}

impl Booking {
    /// The slot that it is in.
    pub(crate) fn slot(&self) -> Slot {
        Slot {
            at: self.scheduled_at,
            granule: self.granule,
            capacity: 1,
            slot_ref: self.slot_ref.as_deref().map(Into::into),
        }
    }

    /// The content that holds it.
    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            content_id: &self.content_id,
            source: &self.source,
            queue_id: self.queue_id,
        }
    }
}

/// What the ledger says of a content, uncommitted rows of others included.
pub(crate) enum State {
    Free,
    Booked,
    /// Another open transaction is booking, moving or releasing it.
    Busy(TransactionId),
}

/// What the ledger says of one content in one queue.
pub(crate) fn state(scan: &mut IndexScan, content: &Content<'_>) -> Result<State, Fault> {
    let keys = [
        (1, ScanKey::IsText(content.content_id)),
        (2, ScanKey::IsText(content.source)),
        (3, ScanKey::Is(content.queue_id)),
    ];
    scan.search(&keys, Order::Ascending);
    Ok(state_of(scan))
}

fn state_of(scan: &mut IndexScan) -> State {
    let mut state = State::Free;
    while let Some(row) = scan.next() {
        match row.inserter().or(row.changer()) {
            Some(transaction) => return State::Busy(transaction),
            None => state = State::Booked,
        }
    }
    state
}

/// A scan for [`state`].
pub(crate) fn content_scan() -> Result<IndexScan, Fault> {
    IndexScan::open(c"booking", c"booking_content", 3, See::Uncommitted)
}

/// The same where the content is to be booked.
pub(crate) fn content_scan_to_book() -> Result<IndexScan, Fault> {
    IndexScan::open_to_write(c"booking", c"booking_content", 3)
}

const COLUMNS: i32 = 10;

fn booking(row: &Row) -> Result<Booking, Fault> {
    Ok(Booking {
        booking_id: row.must(1)?,
        queue_id: row.must(2)?,
        granule: row.must(3)?,
        seat: row.must(4)?,
        source: row.must(5)?,
        content_id: row.must(6)?,
        user_id: row.get(7)?,
        scheduled_at: row.instant(8)?,
        slot_ref: row.get(9)?,
        claimed: row.must(COLUMNS)?,
    })
}

thread_local! {
    static OF_CONTENT: Statement = const { Statement::by_index(c"
SELECT b.booking_id, b.queue_id, b.granule, b.seat, b.source, b.content_id, b.user_id, b.scheduled_at, b.slot_ref,
       b.claimed_at IS NOT NULL
FROM slotkeeper.booking AS b
WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.source OPERATOR(pg_catalog.=) $2
  AND b.queue_id OPERATOR(pg_catalog.=) $3 AND b.released_at IS NULL") };

    static OF_CONTENT_ID: Statement = const { Statement::by_index(c"
SELECT b.booking_id, b.queue_id, b.granule, b.seat, b.source, b.content_id, b.user_id, b.scheduled_at, b.slot_ref,
       b.claimed_at IS NOT NULL, q.profile_id, q.platform
FROM slotkeeper.booking AS b
JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) b.queue_id
WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL
  AND ($2 IS NULL OR q.profile_id OPERATOR(pg_catalog.=) $2)
  AND ($3 IS NULL OR q.platform OPERATOR(pg_catalog.=) $3)
  AND ($4 IS NULL OR b.source OPERATOR(pg_catalog.=) $4)
ORDER BY q.profile_id, q.platform, b.source") };

    static OF_SOURCE: Statement = const { Statement::by_index(c"
SELECT b.booking_id, b.queue_id, b.granule, b.seat, b.source, b.content_id, b.user_id, b.scheduled_at, b.slot_ref,
       b.claimed_at IS NOT NULL, q.profile_id, q.platform
FROM slotkeeper.booking AS b
JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) b.queue_id
WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.source OPERATOR(pg_catalog.=) $2 AND b.released_at IS NULL") };

    // What has been handed out before has told the provider its key.
    static ADOPT: Statement = const { Statement::by_index(c"
WITH own AS (
    UPDATE slotkeeper.booking AS b
    SET source = $2
    WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.source OPERATOR(pg_catalog.=) '' AND b.queue_id OPERATOR(pg_catalog.=) $3
      AND b.released_at IS NULL
    RETURNING *
), known AS (
    INSERT INTO slotkeeper.adopted (queue_id, source, content_id)
    SELECT own.queue_id, own.source, own.content_id FROM own
    WHERE own.claimed_at IS NOT NULL
       OR EXISTS (SELECT FROM slotkeeper.booking AS p
                  WHERE p.content_id OPERATOR(pg_catalog.=) $1 AND p.source OPERATOR(pg_catalog.=) ''
                    AND p.queue_id OPERATOR(pg_catalog.=) $3 AND p.released_at IS NOT NULL AND p.claimed_at IS NOT NULL)
    ON CONFLICT DO NOTHING
)
SELECT b.booking_id, b.queue_id, b.granule, b.seat, b.source, b.content_id, b.user_id, b.scheduled_at, b.slot_ref,
       b.claimed_at IS NOT NULL
FROM own AS b") };

    static ADOPT_SUCCESS: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.published
SET source = $2
WHERE content_id OPERATOR(pg_catalog.=) $1 AND source OPERATOR(pg_catalog.=) '' AND queue_id OPERATOR(pg_catalog.=) $3") };

    static LAST_PLACE: Statement = const { Statement::by_index(c"
SELECT p.scheduled_at, p.slot_ref
FROM (SELECT b.scheduled_at, b.slot_ref, b.booking_id, true AS live FROM slotkeeper.booking AS b
      WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.source OPERATOR(pg_catalog.=) $2 AND b.released_at IS NULL
      UNION ALL
      SELECT r.scheduled_at, r.slot_ref, r.booking_id, false FROM slotkeeper.booking AS r
      WHERE r.content_id OPERATOR(pg_catalog.=) $1 AND r.source OPERATOR(pg_catalog.=) $2 AND r.released_at IS NOT NULL) AS p
ORDER BY p.live DESC, p.booking_id DESC
LIMIT 1") };

    static IN_GRANULE: Statement = const { Statement::by_index(c"
SELECT b.content_id, b.source
FROM slotkeeper.booking AS b
WHERE b.queue_id OPERATOR(pg_catalog.=) $1 AND b.granule OPERATOR(pg_catalog.=) $2 AND b.released_at IS NULL
ORDER BY b.seat") };

    static MOVE: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.booking
SET granule = $2, seat = $3, scheduled_at = $4, slot_ref = $5
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL
RETURNING booking_id") };

    static RENAME: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.booking SET content_id = $2
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL") };

    static RELEASE: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.booking
SET released_at = $2, released_by = $3
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL
RETURNING booking_id") };
}

/// The live booking of a content in a queue, as it is committed now.
pub(crate) fn find(content: &Content<'_>) -> Result<Option<Booking>, Fault> {
    let values = [
        Value::Text(content.content_id),
        Value::Text(content.source),
        Value::Int8(content.queue_id),
    ];
    Ok(OF_CONTENT.with(|find| find.read(&values, booking))?.into_iter().next())
}

/// The booking that a call would find for this content, which nobody has locked: its own or, where its row `may_adopt` it, one
/// that was made before the row was there.
pub(crate) fn find_to_show(content: &Content<'_>, may_adopt: bool) -> Result<Option<Booking>, Fault> {
    let own = find(content)?;
    if own.is_some() || !may_adopt {
        return Ok(own);
    }
    find(&Content {
        source: NO_SOURCE,
        ..*content
    })
}

/// The live bookings of a bound content, with their queues.
pub(crate) fn of_source(content_id: &str, source: &str) -> Result<Vec<(Booking, Rc<Queue>)>, Fault> {
    let found = OF_SOURCE.with(|find| {
        find.read(&[Value::Text(content_id), Value::Text(source)], |row| {
            let (profile_id, platform): (String, String) = (row.must(COLUMNS + 1)?, row.must(COLUMNS + 2)?);
            Ok((booking(row)?, profile_id, platform))
        })
    })?;
    let mut all = Vec::with_capacity(found.len());
    for (booking, profile_id, platform) in found {
        if let Some(queue) = queue::find(&profile_id, &platform)? {
            all.push((booking, queue));
        }
    }
    Ok(all)
}

/// What the ledger says of a content whose row is bound and locked; one that was booked before its row was there becomes its
/// own, and is returned.
pub(crate) fn state_of_row(content: &Content<'_>) -> Result<(State, Option<Booking>), Fault> {
    let held = held_by(&mut holder_scan()?, content)?;
    Ok(match held {
        HeldBy {
            busy: Some(transaction),
            ..
        } => (State::Busy(transaction), None),
        HeldBy { own: true, .. } => (State::Booked, None),
        HeldBy { unbound: true, .. } => (State::Booked, adopt(content)?),
        _ => (State::Free, None),
    })
}

/// What the ledger says of a bound content and of one of the same id that no binding has claimed.
pub(crate) struct HeldBy {
    /// Another open transaction is at one of them.
    pub(crate) busy: Option<TransactionId>,
    /// The content is booked.
    pub(crate) own: bool,
    /// One of no binding is.
    pub(crate) unbound: bool,
}

/// A scan for [`held_by`].
fn holder_scan() -> Result<IndexScan, Fault> {
    IndexScan::open(c"booking", c"booking_content", 1, See::Uncommitted)
}

/// Looks for both in one queue.
fn held_by(scan: &mut IndexScan, content: &Content<'_>) -> Result<HeldBy, Fault> {
    scan.search(&[(1, ScanKey::IsText(content.content_id))], Order::Ascending);
    let mut held = HeldBy {
        busy: None,
        own: false,
        unbound: false,
    };
    while let Some(row) = scan.next() {
        let (source, queue_id): (String, i64) = (row.get(2)?, row.get(3)?);
        if queue_id != content.queue_id || (source != content.source && source != NO_SOURCE) {
            continue;
        }
        if let Some(transaction) = row.inserter().or(row.changer()) {
            held.busy = Some(transaction);
        } else if source == content.source {
            held.own = true;
        } else {
            held.unbound = true;
        }
    }
    Ok(held)
}

/// The booking that was made for this content before its row was there now belongs to the binding.
pub(crate) fn adopt(content: &Content<'_>) -> Result<Option<Booking>, Fault> {
    let values = [
        Value::Text(content.content_id),
        Value::Text(content.source),
        Value::Int8(content.queue_id),
    ];
    let adopted = ADOPT.with(|adopt| adopt.write(&values, booking))?.into_iter().next();
    if adopted.as_ref().is_some_and(|booking| booking.claimed) {
        // What was published before its row was there stays published.
        ADOPT_SUCCESS.with(|success| success.write(&values, |_| Ok(())))?;
    }
    Ok(adopted)
}

/// Where a content has its seat.
pub(crate) struct Place {
    pub(crate) scheduled_at: Instant,
    pub(crate) slot_ref: Option<String>,
}

/// The seat of a content of a binding, or the last one that it has had.
pub(crate) fn last_place(content_id: &str, source: &str) -> Result<Option<Place>, Fault> {
    let places = LAST_PLACE.with(|last| {
        last.read(&[Value::Text(content_id), Value::Text(source)], |row| {
            Ok(Place {
                scheduled_at: row.instant(1)?,
                slot_ref: row.get(2)?,
            })
        })
    })?;
    Ok(places.into_iter().next())
}

/// A content that holds what somebody else wanted.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) content_id: String,
    pub(crate) source: String,
}

/// The first other content in a granule, of those that are committed.
pub(crate) fn other_in(queue: &Queue, granule: i64, than: &Content<'_>) -> Result<Option<Other>, Fault> {
    let others = IN_GRANULE.with(|find| {
        find.read(&[Value::Int8(queue.queue_id), Value::Int8(granule)], |row| {
            Ok(Other {
                content_id: row.must(1)?,
                source: row.must(2)?,
            })
        })
    })?;
    Ok(others
        .into_iter()
        .find(|other| (other.content_id.as_str(), other.source.as_str()) != (than.content_id, than.source)))
}

/// What is written of a live row.
static NEW: Columns = Columns {
    table: c"booking",
    names: &[
        c"booking_id",
        c"queue_id",
        c"granule",
        c"seat",
        c"source",
        c"content_id",
        c"user_id",
        c"scheduled_at",
        c"slot_ref",
        c"booked_at",
        c"claimed_at",
        c"full_version",
        c"full_from",
        c"full_stored_to",
        c"full_to",
    ],
};

/// A live row of the ledger.
pub(crate) struct NewBooking<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) slot: &'a Slot,
    pub(crate) seat: i16,
    pub(crate) booked_at: Instant,
    /// Where there is nothing to publish: it was published before it is booked.
    pub(crate) claimed_at: Option<Instant>,
    pub(crate) full_before: Option<FullBefore>,
}

impl NewBooking<'_> {
    fn values(&self, booking_id: i64) -> [Value<'_>; 15] {
        let full = |part: fn(&FullBefore) -> i64| Value::OptionalInt8(self.full_before.as_ref().map(part));
        [
            Value::Int8(booking_id),
            Value::Int8(self.content.queue_id),
            Value::Int8(self.slot.granule),
            Value::Int2(self.seat),
            Value::Text(self.content.source),
            Value::Text(self.content.content_id),
            Value::OptionalText(self.user_id),
            Value::Time(self.slot.at),
            Value::OptionalText(self.slot.slot_ref.as_deref()),
            Value::Time(self.booked_at),
            Value::OptionalTime(self.claimed_at),
            full(|full| full.version),
            full(|full| full.from),
            full(|full| full.stored_to),
            full(|full| full.to),
        ]
    }
}

/// The ledger, open for inserting. Seats must have been seen to be free under their locks, and contents' turns be held.
/// Where somebody inserts without these locks the unique indexes have the last word: 23505.
pub(crate) struct Bookings(Inserter);

impl Bookings {
    pub(crate) fn open() -> Result<Self, Fault> {
        Inserter::open(&NEW).map(Self)
    }

    /// Inserts a row and returns its id.
    pub(crate) fn insert(&mut self, new: &NewBooking<'_>) -> Result<i64, Fault> {
        let booking_id = next_number(c"booking_id_seq")?;
        self.0.insert(&new.values(booking_id))?;
        Ok(booking_id)
    }

    /// Has [`Bookings::insert_all`] tell of contents and seats that are held, instead of waiting for who holds them. False
    /// where it can't.
    pub(crate) fn tell_of_held(&mut self) -> bool {
        self.0.tell_of_equals()
    }

    /// Inserts many rows and returns their ids, in order; `None` where a content or a seat is held, and that is to be told.
    pub(crate) fn insert_all(&mut self, new: &[NewBooking<'_>]) -> Result<Option<Vec<i64>>, Fault> {
        let ids: Vec<i64> = new
            .iter()
            .map(|_| next_number(c"booking_id_seq"))
            .collect::<Result<_, _>>()?;
        let rows = new.iter().zip(&ids).map(|(new, &booking_id)| new.values(booking_id));
        Ok(self.0.insert_all(rows)?.then_some(ids))
    }

    /// Makes what was inserted visible to the statements that follow.
    pub(crate) fn flush(&mut self) {
        self.0.flush();
    }

    /// A scan of seats, for [`Reader::beside`].
    pub(crate) fn seat_scan(&self) -> Result<IndexScan, Fault> {
        self.0.scan(c"booking_seat", 3)
    }

    /// Whether [`Bookings::book_unless_held`] can be asked.
    pub(crate) fn can_tell(&self) -> bool {
        self.0.can_tell()
    }

    /// Books one seat.
    pub(crate) fn book(&mut self, new: &NewBooking<'_>) -> Result<i64, Fault> {
        let booking_id = self.insert(new)?;
        self.flush();
        Ok(booking_id)
    }

    /// Books one seat, whose lock and content's turn are held, but nobody need have looked; `None` where the seat or the content
    /// turns out to be held, by an open transaction too, or where that cannot be told.
    pub(crate) fn book_unless_held(&mut self, new: &NewBooking<'_>) -> Result<Option<i64>, Fault> {
        if !self.can_tell() {
            return Ok(None);
        }
        let booking_id = next_number(c"booking_id_seq")?;
        if !self.0.insert_alone(&new.values(booking_id))? {
            return Ok(None);
        }
        self.flush();
        Ok(Some(booking_id))
    }
}

/// The ledger as those need it who book the rows of one statement, one after the other. What is opened stays open.
pub(crate) struct OpenLedger {
    memory: Memory,
    holders: Option<IndexScan>,
    pub(crate) reader: Reader,
    pub(crate) writer: OpenWriter,
}

/// The part of it that books.
pub(crate) struct OpenWriter {
    /// None where it turned out that nothing may be kept: then each row's goes with the row.
    memory: Option<Memory>,
    bookings: Option<Bookings>,
}

impl OpenLedger {
    /// Nothing is open yet. What will be lasts as long as this memory.
    pub(crate) fn within(memory: Memory) -> Self {
        Self {
            memory,
            holders: None,
            reader: Reader::to_book_in(memory),
            writer: OpenWriter {
                memory: Some(memory),
                bookings: None,
            },
        }
    }

    /// See [`held_by`].
    pub(crate) fn held_by(&mut self, content: &Content<'_>) -> Result<HeldBy, Fault> {
        let memory = self.memory;
        let mut scan = match self.holders.take() {
            Some(scan) => scan,
            None => self
                .writer
                .with(|bookings| memory.within(|| bookings.0.scan(c"booking_content", 1)))?,
        };
        let held = held_by(&mut scan, content);
        self.holders = Some(scan);
        held
    }
}

impl OpenWriter {
    /// See [`Bookings::book`].
    pub(crate) fn book(&mut self, new: &NewBooking<'_>) -> Result<Option<i64>, Fault> {
        self.with(|bookings| bookings.book(new).map(Some))
    }

    /// See [`Bookings::book_unless_held`].
    pub(crate) fn book_unless_held(&mut self, new: &NewBooking<'_>) -> Result<Option<i64>, Fault> {
        self.with(|bookings| bookings.book_unless_held(new))
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Bookings) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut bookings = match self.bookings.take() {
            Some(bookings) => bookings,
            None => match self.memory {
                Some(memory) => memory.within(Bookings::open)?,
                None => Bookings::open()?,
            },
        };
        let done = act(&mut bookings)?;
        if bookings.0.is_lasting() {
            self.bookings = Some(bookings);
        } else {
            self.memory = None;
        }
        Ok(done)
    }
}

/// Books one seat.
pub(crate) fn insert(
    content: &Content<'_>,
    user_id: Option<&str>,
    slot: &Slot,
    seat: i16,
    now: Instant,
) -> Result<Option<i64>, Fault> {
    let booking_id = Bookings::open()?.book(&NewBooking {
        content: *content,
        user_id,
        slot,
        seat,
        booked_at: now,
        claimed_at: None,
        full_before: None,
    })?;
    Ok(Some(booking_id))
}

/// Moves a booking to another seat; `None` where that turns out to be held. The seat it leaves becomes a hole.
pub(crate) fn move_to(booking: &Booking, queue: &Queue, slot: &Slot, seat: i16) -> Result<Option<i64>, Fault> {
    let values = [
        Value::Int8(booking.booking_id),
        Value::Int8(slot.granule),
        Value::Int2(seat),
        Value::Time(slot.at),
        Value::OptionalText(slot.slot_ref.as_deref()),
    ];
    let update = || {
        Ok(MOVE
            .with(|statement| statement.write(&values, |row| row.must(1)))?
            .into_iter()
            .next())
    };
    if (booking.granule, booking.seat) == (slot.granule, seat) {
        return update();
    }
    let moved = unless_duplicate(update)?.flatten();
    if moved.is_some() {
        leave_hole_of(booking, queue)?;
    }
    Ok(moved)
}

/// Gives a booking to its content's new id, of which none may be booked in its queue.
pub(crate) fn rename(booking: &Booking, content_id: &str) -> Result<(), Fault> {
    let values = [Value::Int8(booking.booking_id), Value::Text(content_id)];
    RENAME.with(|rename| rename.write(&values, |_| Ok(())))?;
    Ok(())
}

/// Gives a booking's seat back. False where it is not live any more.
pub(crate) fn release(booking: &Booking, queue: &Queue, now: Instant) -> Result<bool, Fault> {
    let caller = caller_name();
    let values = [Value::Int8(booking.booking_id), Value::Time(now), Value::Text(&caller)];
    let released: Vec<i64> = RELEASE.with(|statement| statement.write(&values, |row| row.must(1)))?;
    if released.is_empty() {
        return Ok(false);
    }
    leave_hole_of(booking, queue)?;
    Ok(true)
}

/// Reads the queue again, now that the row is changed: see [`leave_hole`].
fn leave_hole_of(booking: &Booking, queue: &Queue) -> Result<(), Fault> {
    match queue::find(&queue.profile_id, &queue.platform)? {
        Some(queue) => leave_hole(&queue, booking.granule),
        None => Ok(()),
    }
}

/// Which booking a call is about: the content's id, and whatever else the caller says to tell several apart.
pub(crate) struct Which<'a> {
    pub(crate) content_id: Cow<'a, str>,
    pub(crate) profile_id: Option<&'a str>,
    pub(crate) platform: Option<Cow<'a, str>>,
    pub(crate) source: Option<&'a str>,
}

impl<'a> Which<'a> {
    /// What the arguments `p_content_id`, `p_profile_id`, `p_platform` and `p_source` of a call mean.
    pub(crate) fn of_arguments(
        content_id: Option<&'a str>,
        profile_id: Option<&'a str>,
        platform: Option<&str>,
        source: Option<&'a str>,
    ) -> Result<Self, Fault> {
        let content_id = identifier("p_content_id", content_id)?;
        let profile_id = optional_identifier("p_profile_id", profile_id)?;
        let platform = optional_identifier("p_platform", platform)?
            .map(|platform| platform_name("p_platform", platform))
            .transpose()?;
        let source = which_source(source)?;
        Ok(Self {
            content_id: spelled(content_id, source)?,
            profile_id,
            platform: platform.map(Cow::Owned),
            source,
        })
    }

    /// The same of this binding alone.
    pub(crate) fn with_source(&'a self, source: &'a str) -> Self {
        Self {
            content_id: Cow::Borrowed(&self.content_id),
            profile_id: self.profile_id,
            platform: self.platform.as_deref().map(Cow::Borrowed),
            source: Some(source),
        }
    }

    /// A reply that names what was asked for.
    pub(crate) fn reply(&self, outcome: &str) -> Reply {
        Reply::new(outcome)
            .with("content_id", self.content_id.as_ref())
            .with_some("profile_id", self.profile_id)
            .with_some("platform", self.platform.as_deref())
            .with_some("source", self.source)
    }
}

/// A booking that this call may change: nobody else changes it while `_turn` is held.
pub(crate) struct Mine {
    pub(crate) booking: Booking,
    pub(crate) queue: Rc<Queue>,
    _turn: Option<Brief>,
}

/// Finds the one live booking that is meant and takes the turn on it; waits for a transaction that is at this very
/// content. `None` when there is none, 22023 when there are several.
pub(crate) fn take(which: &Which<'_>, for_change: bool) -> Result<Option<Mine>, Fault> {
    loop {
        if let (true, Some(transaction)) = (for_change, busy(which)?) {
            wait_for(transaction);
            continue;
        }
        let Some((booking, profile_id, platform)) = only_one(which)? else {
            return Ok(None);
        };
        if !for_change {
            let Some(queue) = queue::find(&profile_id, &platform)? else {
                return Ok(None);
            };
            return Ok(Some(Mine {
                booking,
                queue,
                _turn: None,
            }));
        }
        use_queues(&mut [Key::Queue {
            profile_id: &profile_id,
            platform: &platform,
        }]);
        let content = Content {
            content_id: &which.content_id,
            source: &booking.source,
            queue_id: booking.queue_id,
        };
        let turn = Brief::acquire(&content.key());
        // What was read before the turn was ours may be stale: look again.
        let unchanged = match state(&mut content_scan()?, &content)? {
            State::Booked => find(&content)?,
            State::Free | State::Busy(_) => None,
        };
        let queue = queue::find(&profile_id, &platform)?;
        if let (Some(booking), Some(queue)) = (unchanged, queue) {
            return Ok(Some(Mine {
                booking,
                queue,
                _turn: Some(turn),
            }));
        }
    }
}

/// Another open transaction that is at a booking which may be the one that is meant.
fn busy(which: &Which<'_>) -> Result<Option<TransactionId>, Fault> {
    let mut scan = IndexScan::open(c"booking", c"booking_content", 1, See::Uncommitted)?;
    scan.search(&[(1, ScanKey::IsText(&which.content_id))], Order::Ascending);
    while let Some(row) = scan.next() {
        let Some(transaction) = row.inserter().or(row.changer()) else {
            continue;
        };
        let (source, queue_id): (String, i64) = (row.get(2)?, row.get(3)?);
        if which.source.is_some_and(|wanted| wanted != source) {
            continue;
        }
        if (which.profile_id.is_some() || which.platform.is_some()) && !queue::is_named(queue_id, which)? {
            continue;
        }
        return Ok(Some(transaction));
    }
    Ok(None)
}

/// The source of the one live booking that is meant; 22023 when there are several. Waits for a transaction that is at
/// it where the booking is to be changed.
pub(crate) fn source_of(which: &Which<'_>, for_change: bool) -> Result<Option<String>, Fault> {
    if let Some(source) = which.source {
        return Ok(Some(source.to_owned()));
    }
    while let (true, Some(transaction)) = (for_change, busy(which)?) {
        wait_for(transaction);
    }
    Ok(only_one(which)?.map(|(booking, _, _)| booking.source))
}

/// One of several contents of an id, as an error names it.
pub(crate) fn candidate(profile_id: &str, platform: &str, source: &str) -> String {
    format!("profile {profile_id}, platform {platform}, source {source:?}")
}

fn only_one(which: &Which<'_>) -> Result<Option<(Booking, String, String)>, Fault> {
    let values = [
        Value::Text(&which.content_id),
        Value::OptionalText(which.profile_id),
        Value::OptionalText(which.platform.as_deref()),
        Value::OptionalText(which.source),
    ];
    let mut found = OF_CONTENT_ID.with(|find| {
        find.read(&values, |row| {
            Ok((
                booking(row)?,
                row.must::<String>(COLUMNS + 1)?,
                row.must::<String>(COLUMNS + 2)?,
            ))
        })
    })?;
    if found.len() > 1 {
        let candidates = found
            .iter()
            .map(|(booking, profile_id, platform)| candidate(profile_id, platform, &booking.source));
        return Err(Fault::Ambiguous {
            content_id: which.content_id.clone().into_owned(),
            candidates: candidates.collect(),
        });
    }
    Ok(found.pop())
}
