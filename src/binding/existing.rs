//! The rows that a table has already: one pass over them, in order of queue and time.

use super::{Binding, Source, queue_of, triggers};
use crate::arguments::platform_name;
use crate::booking::{self, Bookings, Content, NewBooking, State};
use crate::clock::now;
use crate::fault::Fault;
use crate::ledger::Reader;
use crate::pg::dynamic::{Moment, each, literal};
use crate::pg::lock::{Brief, Key, use_queues};
use crate::pg::predicate::RowOf;
use crate::pg::scan::IndexScan;
use crate::pg::statement::{Statement, Value};
use crate::publish;
use crate::queue::Queue;
use pgrx::{PgLogLevel, ereport};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::Why;
use slotkeeper_core::search::Held;
use slotkeeper_core::seat;
use slotkeeper_core::slots::Slot;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};

/// How often a long pass says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// A row that takes a seat.
#[derive(Clone, Debug)]
pub(super) struct Occupant {
    pub(super) content_id: String,
    pub(super) profile_id: String,
    pub(super) platform: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) at: Instant,
    /// The application's own worker has published it.
    pub(super) is_published: bool,
}

/// A row whose instant another holds.
#[derive(Clone, Debug)]
pub(super) struct Collision {
    pub(super) content_id: String,
    pub(super) queue_id: i64,
    pub(super) profile_id: String,
    pub(super) platform: String,
    pub(super) at: Instant,
}

impl Collision {
    /// The row, at the instant that it asks for in its queue.
    pub(super) fn of(row: &Occupant, queue: &Queue) -> Self {
        Self {
            content_id: row.content_id.clone(),
            queue_id: queue.queue_id,
            profile_id: queue.profile_id.clone(),
            platform: queue.platform.clone(),
            at: row.at,
        }
    }
}

/// Which rows to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those that ask for a seat, in order of queue and time.
    Taking,
    /// Also those that keep the seat that they have, in any order.
    Holding,
    /// Those that the application's own worker has published, in any order.
    Published,
}

/// What a row is to its seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is to have one.
    Takes,
    /// It keeps the one it has, at whichever time: it has been published.
    Keeps,
    /// It asks for one, and cannot have any.
    Cannot(Why),
}

/// A row that asks for a seat and cannot be booked.
#[derive(Clone, Debug)]
pub(super) struct Unbooked {
    pub(super) content_id: String,
    pub(super) why: Why,
}

impl Unbooked {
    /// The row of a content whose queue does not exist.
    pub(super) fn without_queue(row: &Occupant) -> Self {
        Self {
            content_id: row.content_id.clone(),
            why: Why::NoQueue {
                profile_id: row.profile_id.clone(),
                platform: row.platform.clone(),
            },
        }
    }
}

/// Times from here on are beyond what a 64-bit number of microseconds counts.
const LATEST: &str = "294247-01-10 04:00:54+00";

/// Calls `act` for these rows, as they were committed then; of those that `only` names, where it is given.
pub(super) fn occupants(
    binding: &Binding,
    rows: Rows,
    moment: &Moment,
    only: Option<&Changes>,
    mut act: impl FnMut(Occupant, Claim) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let conditions = triggers::Conditions::of(binding)?;
    let text = |source: Option<&Source>| -> Result<String, Fault> {
        Ok(match source {
            Some(Source::Column(number)) => match binding.table.column_at(*number) {
                Some(column) => format!("t.{}::pg_catalog.text", column.quoted()?),
                None => return Err(Fault::Internal("a column that is gone".to_owned())),
            },
            Some(Source::Value(value)) => format!("{}::pg_catalog.text", literal(value)?),
            None => "NULL::pg_catalog.text".to_owned(),
        })
    };
    let at = format!("t.{}", binding.at.quoted()?);
    let (profile_id, platform) = (text(Some(&binding.profile_id))?, text(binding.platform.as_ref())?);
    let asks = conditions.takes_seat(RowOf::Table)?;
    let wanted = match rows {
        Rows::Taking => asks.clone(),
        Rows::Holding => format!("({asks}) OR {}", conditions.holds(RowOf::Table)?),
        Rows::Published => match conditions.is_published(RowOf::Table) {
            Some(published) => published,
            None => return Ok(()),
        },
    };
    let sql = format!(
        "SELECT t.{id}::pg_catalog.text, {profile_id}, {platform}, {user_id}, \
                CASE WHEN pg_catalog.isfinite({at}) AND {at} OPERATOR(pg_catalog.<) '{LATEST}' \
                     THEN (EXTRACT(epoch FROM {at}) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 END, \
                ({asks}) IS TRUE, {at} IS NULL, {published} \
         FROM {table} AS t WHERE ({wanted}){only}{order}",
        id = binding.id.quoted()?,
        published = conditions.is_published(RowOf::Table).as_deref().unwrap_or("false"),
        user_id = text(binding.user_id.as_ref())?,
        table = binding.table.quoted()?,
        only = only.map_or(Ok(String::new()), |only| only.condition(binding))?,
        order = if rows == Rows::Taking {
            format!(
                " ORDER BY {profile_id} COLLATE \"C\", {platform} COLLATE \"C\", {at}, t.{}",
                binding.id.quoted()?
            )
        } else {
            String::new()
        }
    );
    each(&sql, moment, |row| {
        let (content_id, profile_id) = (row.get::<String>(1)?, row.get::<String>(2)?);
        let stored: Option<i64> = row.get(5)?;
        let claim = match (row.must::<bool>(6)?, &content_id, &profile_id) {
            (false, Some(_), Some(_)) => Claim::Keeps,
            (_, Some(_), Some(_)) if rows == Rows::Published => Claim::Keeps,
            _ if rows == Rows::Published => return Ok(()),
            (false, _, _) => return Ok(()),
            (true, None, _) => Claim::Cannot(Why::NoId),
            (true, _, None) => Claim::Cannot(Why::NoProfile),
            _ if stored.is_some() => Claim::Takes,
            _ if row.must::<bool>(7)? => Claim::Cannot(Why::NoTime),
            _ => Claim::Cannot(Why::Infinite),
        };
        let occupant = Occupant {
            content_id: content_id.unwrap_or_default(),
            profile_id: profile_id.unwrap_or_default(),
            platform: row.get(3)?,
            user_id: row.get(4)?,
            at: binding.time.instant_of_stored(stored.unwrap_or_default()),
            is_published: row.must(8)?,
        };
        act(occupant, claim)
    })
}

/// Ids of the queues that rows name, each looked up once.
pub(super) struct QueueIds<'b> {
    binding: &'b Binding,
    known: HashMap<(String, Option<String>), Option<i64>>,
}

impl<'b> QueueIds<'b> {
    pub(super) fn of(binding: &'b Binding) -> Self {
        Self {
            binding,
            known: HashMap::new(),
        }
    }

    /// The queue that a row names; none where it does not exist.
    pub(super) fn named_by(&mut self, row: &Occupant) -> Result<Option<i64>, Fault> {
        let name = (row.profile_id.clone(), row.platform.clone());
        if let Some(known) = self.known.get(&name) {
            return Ok(*known);
        }
        let queue = queue_of(self.binding, &row.profile_id, row.platform.as_deref(), true)?;
        Ok(*self.known.entry(name).or_insert(queue.map(|queue| queue.queue_id)))
    }
}

thread_local! {
    static KEPT: Statement = const { Statement::by_index(c"
SELECT 1
FROM slotkeeper.booking AS b
JOIN slotkeeper.dropped_queue AS d ON d.queue_id OPERATOR(pg_catalog.=) b.queue_id
WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.source OPERATOR(pg_catalog.=) $2 AND b.released_at IS NULL
  AND d.profile_id OPERATOR(pg_catalog.=) $3 AND ($4 IS NULL OR d.platform OPERATOR(pg_catalog.=) $4)
LIMIT 1") };
}

/// Whether the row's content keeps its seat in the queue of this name that was dropped: it was published there, or what came of
/// it is unknown.
pub(super) fn is_kept(binding: &Binding, row: &Occupant) -> Result<bool, Fault> {
    let platform = row.platform.as_deref().map(|name| platform_name("platform", name));
    let platform = platform.transpose()?;
    let values = [
        Value::Text(&row.content_id),
        Value::Text(&binding.source),
        Value::Text(&row.profile_id),
        Value::OptionalText(platform.as_deref()),
    ];
    Ok(!KEPT.with(|kept| kept.read(&values, |_| Ok(())))?.is_empty())
}

/// So many contents are closed by one statement.
const CLOSED_AT_ONCE: usize = 10_000;

/// Closes the contents of rows that the application's own worker has published; returns how many were not closed before. None
/// where the binding doesn't say which rows these are. Rows of queues that don't exist are left for the next time.
pub(super) fn close_published(
    binding: &Binding,
    moment: &Moment,
    only: Option<&Changes>,
) -> Result<Option<i64>, Fault> {
    if binding.options.published_when.is_none() {
        return Ok(None);
    }
    let (now, source) = (now()?, binding.source.as_str());
    let in_hand = publish::in_hand(source)?;
    let mut queues = QueueIds::of(binding);
    let mut waiting: Vec<(String, i64)> = Vec::new();
    let mut closed = 0;
    let close = |waiting: &mut Vec<(String, i64)>| {
        let contents: Vec<(&str, i64)> = waiting.iter().map(|(id, queue_id)| (id.as_str(), *queue_id)).collect();
        let closed = publish::close_all(source, &contents, now);
        waiting.clear();
        closed
    };
    occupants(binding, Rows::Published, moment, only, |row, _| {
        let Some(queue_id) = queues.named_by(&row)? else {
            return Ok(());
        };
        let content = (row.content_id, queue_id);
        if in_hand.contains(&content) {
            let found = booking::find(&Content {
                content_id: &content.0,
                source,
                queue_id,
            })?;
            if let Some(booking) = found {
                closed += i64::from(publish::published_by_application(&booking, now)?);
                return Ok(());
            }
        }
        waiting.push(content);
        if waiting.len() >= CLOSED_AT_ONCE {
            closed += close(&mut waiting)?;
        }
        Ok(())
    })?;
    if !waiting.is_empty() {
        closed += close(&mut waiting)?;
    }
    Ok(Some(closed))
}

/// More rows than these are looked at together with all others.
const MANY: usize = 100_000;

/// Rows that may differ from what they were at an earlier moment.
pub(super) struct Changes {
    /// Row versions of this transaction and later ones are new.
    since: u32,
    /// Ids of rows that somebody has changed, deleted or locked.
    pub(super) touched: HashSet<String>,
}

impl Changes {
    /// What has changed since then, but for rows that are new; none where that is too much to be looked at one by one.
    /// `also` are ids to be looked at in any case.
    pub(super) fn since(binding: &Binding, then: &Moment, also: &HashSet<String>) -> Result<Option<Self>, Fault> {
        let mut touched = also.clone();
        // A version that was there then and has been replaced since names who did it. It still is there: the snapshot keeps it.
        let sql = format!(
            "SELECT t.{id}::pg_catalog.text FROM {table} AS t \
             WHERE t.xmax OPERATOR(pg_catalog.<>) '0'::pg_catalog.xid LIMIT {limit}",
            id = binding.id.quoted()?,
            table = binding.table.quoted()?,
            limit = MANY + 1,
        );
        each(&sql, then, |row| {
            touched.extend(row.get::<String>(1)?);
            Ok(())
        })?;
        let since = then.oldest_transaction();
        Ok((touched.len() <= MANY).then_some(Self { since, touched }))
    }

    fn condition(&self, binding: &Binding) -> Result<String, Fault> {
        // In one literal, so that the server looks ids up by their hash.
        let ids: Vec<String> = self.touched.iter().map(|id| quoted_element(id)).collect();
        let ids = literal(&format!("{{{}}}", ids.join(",")))?;
        // An age is a distance back from now, so it compares across the wrap-around of transaction ids.
        Ok(format!(
            " AND (pg_catalog.age(t.xmin) OPERATOR(pg_catalog.<=) pg_catalog.age('{since}'::pg_catalog.xid) \
                   OR t.{id}::pg_catalog.text OPERATOR(pg_catalog.=) ANY ({ids}::pg_catalog.text[]))",
            since = self.since,
            id = binding.id.quoted()?,
        ))
    }
}

/// An id as an element of an array's text.
fn quoted_element(id: &str) -> String {
    format!("\"{}\"", id.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What a pass over the rows has come to.
#[derive(Default)]
pub(super) struct Survey {
    /// Rows that take a seat.
    pub(super) rows: u64,
    /// Those of them that have got one now.
    pub(super) booked: u64,
    /// Those that had one.
    pub(super) known: u64,
    pub(super) collisions: Vec<Collision>,
    pub(super) unbooked: Vec<Unbooked>,
    /// Queues that rows name and that don't exist.
    pub(super) unknown_queues: BTreeSet<(String, String)>,
    /// Those that would be created.
    pub(super) new_queues: BTreeSet<(String, String)>,
    /// What the ledger says now of each row, to be compared with the rows later.
    pub(super) ledger: HashMap<String, Seen>,
    /// Ids of which the ledger knows, and no row takes a seat, or takes another.
    pub(super) unmet: HashSet<String>,
}

/// What the ledger says of a content of the binding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) queue_id: i64,
    /// None where it is to be looked at in any case.
    pub(super) at: Option<Instant>,
}

/// Looks at all rows that take a seat, and books for them where `book` is set.
pub(super) fn survey(binding: &Binding, moment: &Moment, book: bool) -> Result<Survey, Fault> {
    let mut survey = Survey::default();
    if book {
        survey.ledger = super::collisions::live(&binding.source)?;
        survey.unmet = survey.ledger.keys().cloned().collect();
    }
    let mut place: Option<Place> = None;
    let mut contents = booking::content_scan()?;
    let mut bookings = if book { Some(Bookings::open()?) } else { None };
    let mut reader = Reader::of_seats()?;
    let (now, mut told) = (now()?, Clock::now());
    occupants(binding, Rows::Taking, moment, None, |row, claim| {
        if let Claim::Cannot(why) = claim {
            let content_id = row.content_id;
            survey.unbooked.push(Unbooked { content_id, why });
            return Ok(());
        }
        survey.rows += 1;
        survey.unmet.remove(&row.content_id);
        if told.elapsed() >= TELL_EVERY {
            told = Clock::now();
            let verb = if book { "booked" } else { "looked at" };
            let what = format!("slotkeeper: {} rows of {} {verb}", survey.rows, binding.source);
            ereport!(
                PgLogLevel::NOTICE,
                pgrx::PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                what
            );
        }
        if place.as_ref().is_none_or(|place| !place.is_queue_of(&row)) {
            let mut queue = queue_of(binding, &row.profile_id, row.platform.as_deref(), book)?;
            if let (None, false, Some(platform)) = (&queue, book, &row.platform)
                && let Some(defaults) = &binding.options.queue_defaults
            {
                let platform = platform_name("platform", platform)?;
                queue = Some(Rc::new(Queue::planned(&row.profile_id, &platform, defaults)?));
                survey.new_queues.insert((row.profile_id.clone(), platform));
            }
            place = queue.map(|queue| Place::new(queue, &row));
            if let (Some(place), true) = (&place, book) {
                use_queues(&mut [place.key()]);
            }
        }
        let Some(place) = &mut place else {
            if is_kept(binding, &row)? {
                survey.known += 1;
                return Ok(());
            }
            survey
                .unknown_queues
                .insert((row.profile_id.clone(), row.platform.clone().unwrap_or_default()));
            survey.unbooked.push(Unbooked::without_queue(&row));
            return Ok(());
        };
        let mut seen = Seen {
            queue_id: place.queue.queue_id,
            at: Some(row.at),
        };
        match place.seat(binding, &row, &mut contents, &mut reader, bookings.as_mut(), now)? {
            Seated::Now => survey.booked += 1,
            Seated::Before => {
                survey.known += 1;
                // Where that is known already; what was adopted just now is not.
                seen = survey
                    .ledger
                    .get(&row.content_id)
                    .copied()
                    .unwrap_or(Seen { at: None, ..seen });
                // Booked under this source by a call that knew of no row: its own time is the row's.
                if seen.at != Some(row.at) || seen.queue_id != place.queue.queue_id {
                    survey.unmet.insert(row.content_id.clone());
                }
            }
            Seated::Contended => seen.at = None,
            Seated::Not => survey.collisions.push(Collision::of(&row, &place.queue)),
        }
        if book {
            survey.ledger.insert(row.content_id, seen);
        }
        Ok(())
    })?;
    if let Some(bookings) = &mut bookings {
        bookings.flush();
    }
    Ok(survey)
}

enum Seated {
    Now,
    Before,
    /// Another holds its instant.
    Not,
    /// Another session is just booking there.
    Contended,
}

/// The queue that the pass is at, and the seats of its current granule.
struct Place {
    queue: Rc<Queue>,
    profile_id: String,
    platform: Option<String>,
    granule: i64,
    taken: Vec<i16>,
}

impl Place {
    fn new(queue: Rc<Queue>, row: &Occupant) -> Self {
        Self {
            queue,
            profile_id: row.profile_id.clone(),
            platform: row.platform.clone(),
            granule: i64::MIN,
            taken: Vec::new(),
        }
    }

    fn is_queue_of(&self, row: &Occupant) -> bool {
        self.profile_id == row.profile_id && self.platform == row.platform
    }

    fn key(&self) -> Key<'_> {
        Key::Queue {
            profile_id: &self.queue.profile_id,
            platform: &self.queue.platform,
        }
    }

    fn seat(
        &mut self,
        binding: &Binding,
        row: &Occupant,
        contents: &mut IndexScan,
        reader: &mut Reader,
        bookings: Option<&mut Bookings>,
        now: Instant,
    ) -> Result<Seated, Fault> {
        let queue_id = self.queue.queue_id;
        let content = Content {
            content_id: &row.content_id,
            source: &binding.source,
            queue_id,
        };
        // Calls that name the source go on until the last pass.
        let _turn = bookings.is_some().then(|| Brief::acquire(&content.key()));
        if !matches!(booking::state(contents, &content)?, State::Free) {
            return Ok(Seated::Before);
        }
        if bookings.is_some() && booking::adopt(&content)?.is_some() {
            return Ok(Seated::Before);
        }
        let granule = self.queue.granule_of(row.at);
        if granule != self.granule {
            self.granule = granule;
            self.taken = held_seats(reader, queue_id, granule)?;
        }
        let slot = self.queue.slots().slot_in_granule(granule);
        let capacity = slot.as_ref().map_or(1, |slot| slot.capacity);
        let Some(seat) = seat::free_seat(capacity, &self.taken) else {
            return Ok(Seated::Not);
        };
        if let Some(bookings) = bookings {
            let key = Key::Seat {
                queue_id,
                granule,
                seat,
            };
            // Another session that is inserting here has the seat; so has one that did since we looked.
            let lock = Brief::try_acquire(&key);
            if lock.is_none() || held_seats(reader, queue_id, granule)?.contains(&seat) {
                return Ok(Seated::Contended);
            }
            bookings.insert(&NewBooking {
                content,
                user_id: row.user_id.as_deref(),
                slot: &Slot {
                    at: row.at,
                    granule,
                    capacity,
                    slot_ref: slot.and_then(|slot| slot.slot_ref),
                },
                seat,
                booked_at: now,
                claimed_at: row.is_published.then_some(now),
                full_before: None,
            })?;
        }
        let position = self.taken.partition_point(|&taken| taken < seat);
        self.taken.insert(position, seat);
        Ok(Seated::Now)
    }
}

fn held_seats(reader: &mut Reader, queue_id: i64, granule: i64) -> Result<Vec<i16>, Fault> {
    let mut held: Vec<(i64, Held)> = Vec::new();
    reader.seats(queue_id, granule, granule.saturating_add(1), &mut held)?;
    Ok(held.into_iter().map(|(_, held)| held.seat).collect())
}
