//! Queues as calls use them: found by name, with the parsed timetable cached per backend.

use crate::arguments::queue_name;
use crate::booking::Which;
use crate::fault::Fault;
use crate::manage;
use crate::pg::before_row::TriggerRow;
use crate::pg::json::Jsonb;
use crate::pg::lock::{Brief, Key as LockKey, wait_for};
use crate::pg::scan::{Found as QueueRow, IndexScan, Key, Order, See};
use crate::pg::statement::{Statement, Value as Arg};
use crate::pg::time::ServerZone;
use crate::pg::told;
use crate::pg::transaction::has_written_nothing;
use crate::pg::trigger::Fired;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::binding::QueueDefaults;
use slotkeeper_core::options::QueueOptions;
use slotkeeper_core::slots::Slots;
use slotkeeper_core::timetable::Timetable;
use slotkeeper_core::{Instant, MICROS_PER_SEC};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::{Rc, Weak};

/// So many queues stay parsed in one backend; past that the cache starts anew, and its memory with it.
const CACHED_QUEUES: usize = 4096;

/// A queue, ready to compute with.
pub(crate) struct Queue {
    pub(crate) queue_id: i64,
    pub(crate) version: i64,
    /// When the row was written. Versions begin anew where somebody has restored the table, or emptied it with its sequences.
    written_at: Option<Instant>,
    pub(crate) profile_id: String,
    pub(crate) platform: String,
    pub(crate) time_zone: String,
    pub(crate) zone: ServerZone,
    pub(crate) timetable: Rc<Timetable>,
    pub(crate) options: QueueOptions,
    /// Whether this version of it is known to be committed.
    is_committed: Cell<bool>,
    /// Up to this granule it was full for a search of this backend, as the last bookings said. They lie behind it as a rule.
    pub(crate) full_to: Cell<i64>,
    /// Keeps what is shared with other queues alive.
    _rules: Rc<Rules>,
}

/// No queue has this id.
const NO_QUEUE: i64 = -1;

impl Queue {
    /// A queue that could be created so, and isn't there: nothing is booked in it.
    pub(crate) fn planned(profile_id: &str, platform: &str, defaults: &QueueDefaults) -> Result<Self, Fault> {
        let options = QueueOptions::parse(&defaults.options)?;
        let timetable = Rc::new(Timetable::parse(&defaults.timetable, options.granule_secs)?);
        let (zone, time_zone) = manage::zone(&defaults.time_zone).map(|zone| (zone.clone(), zone.name()))?;
        let rules = Rc::new(Rules {
            timetable: Rc::clone(&timetable),
            options,
        });
        Ok(Self {
            queue_id: NO_QUEUE,
            version: 0,
            written_at: None,
            profile_id: profile_id.to_owned(),
            platform: platform.to_owned(),
            zone,
            time_zone,
            timetable,
            options,
            is_committed: Cell::new(false),
            full_to: Cell::new(i64::MIN),
            _rules: rules,
        })
    }

    /// The slots of the timetable.
    pub(crate) fn slots(&self) -> Slots<'_, &ServerZone> {
        Slots::new(&self.timetable, &self.zone, self.options.granule_secs)
    }

    /// The granule in which an instant lies.
    pub(crate) fn granule_of(&self, at: Instant) -> i64 {
        at.div_euclid(self.options.granule_secs * MICROS_PER_SEC)
    }

    /// The last instant at which a content may be scheduled now.
    pub(crate) fn horizon(&self, now: Instant) -> Instant {
        self.options.horizon.after(now).unwrap_or(Instant::MAX)
    }
}

thread_local! {
    static NAME_OF: Statement = const { Statement::by_index(c"
SELECT profile_id, platform FROM slotkeeper.queue WHERE queue_id OPERATOR(pg_catalog.=) $1") };

    static RULES: RefCell<HashMap<(u128, u128), Weak<Rules>>> = RefCell::new(HashMap::new());
    static CACHE: RefCell<HashMap<(pg_sys::Oid, i64), Rc<Queue>>> = RefCell::new(HashMap::new());
    /// Queues by the hash of their names, which need not be looked up as long as nothing else has been told.
    static KNOWN: RefCell<Known> = RefCell::new((0, HashMap::default()));
}

type Known = (u64, HashMap<u64, Rc<Queue>, BuildHasherDefault<IsHash>>);

/// The hasher of what is a hash.
#[derive(Default)]
pub(crate) struct IsHash(u64);

impl Hasher for IsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }
}

/// The queue of this profile and platform, as it is committed now; `None` when there is none.
pub(crate) fn find(profile_id: &str, platform: &str) -> Result<Option<Rc<Queue>>, Fault> {
    let name = LockKey::Queue { profile_id, platform }.hash64();
    let told = told::queues_told();
    let known = KNOWN.with_borrow(|(when, queues)| queues.get(&name).filter(|_| *when == told).cloned());
    if let Some(queue) =
        known.filter(|queue| (queue.profile_id.as_str(), queue.platform.as_str()) == (profile_id, platform))
    {
        return Ok(Some(queue));
    }
    // Without a snapshot first, which costs less. Such a look may miss a row that is being replaced at this very moment,
    // so only one with a snapshot may say that there is none.
    let found = match look_up(profile_id, platform, See::Uncommitted)? {
        Some(found) => Some(found),
        None => look_up(profile_id, platform, See::Committed)?,
    };
    let Some(Found { queue, lasts }) = found else {
        return Ok(None);
    };
    if lasts && told::is_still(told) {
        KNOWN.with_borrow_mut(|(when, queues)| {
            if *when != told || queues.len() >= CACHED_QUEUES {
                queues.clear();
            }
            *when = told;
            queues.insert(name, Rc::clone(&queue));
        });
    }
    Ok(Some(queue))
}

/// A queue as its row says.
struct Found {
    queue: Rc<Queue>,
    /// It stays as it is until this backend is told otherwise.
    lasts: bool,
}

fn look_up(profile_id: &str, platform: &str, see: See) -> Result<Option<Found>, Fault> {
    let mut scan = IndexScan::open(c"queue", c"queue_name", 2, see)?;
    scan.search(
        &[(1, Key::IsText(profile_id)), (2, Key::IsText(platform))],
        Order::Ascending,
    );
    while let Some(row) = scan.next() {
        // What another transaction is about to write is not there yet; what it is about to replace still is.
        if row.inserter().is_none() {
            return Ok(Some(Found {
                lasts: matches!(see, See::Uncommitted) && told::will_be_told_of(&row)?,
                queue: cached(&row)?,
            }));
        }
    }
    Ok(None)
}

/// Fires when rows of `slotkeeper.queue` have been replaced or deleted, by whomever: see [`told`].
#[pg_extern(sql = "
CREATE FUNCTION slotkeeper.tell_of_queues() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
pub(crate) fn tell_of_queues(fcinfo: pg_sys::FunctionCallInfo) -> Result<TriggerRow, ErrorReport> {
    Fired::of_call(fcinfo).ok_or_else(not_a_trigger)?;
    told::tell()?;
    Ok(TriggerRow::none())
}

fn not_a_trigger() -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "slotkeeper.tell_of_queues() is not called by a trigger",
        "It tells of the row that a trigger fires for.",
        "It is for slotkeeper.queue alone.",
    )
}

/// The turn to create or change the queue of this name. Waits first, holding nothing, for a transaction that has
/// created, changed or dropped it, or has locked it to do so, and is still open: what is read and written then is the present, and no isolation
/// level fails over what others did.
pub(crate) fn turn_on(profile_id: &str, platform: &str) -> Result<Brief, Fault> {
    turn_past(profile_id, platform, &[(c"queue", c"queue_name")])
}

/// The turn to make the queue what rows of the application say: past edits of these rows too.
pub(crate) fn turn_to_follow(profile_id: &str, platform: &str) -> Result<Brief, Fault> {
    let both = [(c"queue", c"queue_name"), (c"bound_queue", c"bound_queue_name")];
    turn_past(profile_id, platform, &both)
}

/// The queue's turn, when no open transaction of others has written its row in these tables, or locked it, each with the index on the name.
fn turn_past(profile_id: &str, platform: &str, tables: &[(&'static CStr, &'static CStr)]) -> Result<Brief, Fault> {
    loop {
        let turn = Brief::acquire(&LockKey::QueueRow { profile_id, platform });
        let mut busy = None;
        for (table, index) in tables {
            let mut scan = IndexScan::open(table, index, 2, See::Uncommitted)?;
            scan.search(
                &[(1, Key::IsText(profile_id)), (2, Key::IsText(platform))],
                Order::Ascending,
            );
            while let Some(row) = scan.next() {
                busy = busy.or(row.inserter()).or(row.changer()).or(row.locker());
            }
        }
        let Some(transaction) = busy else { return Ok(turn) };
        drop(turn);
        wait_for(transaction);
    }
}

/// Whether this version of the queue was written by this very transaction. Others, who don't see it yet, leave holes
/// for the version before: no run must be written for this one until it is committed.
pub(crate) fn is_provisional(queue: &Queue) -> Result<bool, Fault> {
    let mut scan = IndexScan::open(c"queue", c"queue_name", 2, See::Uncommitted)?;
    scan.search(
        &[(1, Key::IsText(&queue.profile_id)), (2, Key::IsText(&queue.platform))],
        Order::Ascending,
    );
    while let Some(row) = scan.next() {
        if row.get::<i64>(4)? == queue.version {
            return Ok(row.is_own());
        }
    }
    Ok(true)
}

/// Whether this version of the queue has been committed: then it stays so.
pub(crate) fn is_committed(queue: &Queue) -> Result<bool, Fault> {
    if !queue.is_committed.get() {
        queue.is_committed.set(has_written_nothing() || !is_provisional(queue)?);
    }
    Ok(queue.is_committed.get())
}

/// The queue of this profile and platform, or 42704.
pub(crate) fn require(profile_id: &str, platform: &str, item: Option<usize>) -> Result<Rc<Queue>, Fault> {
    find(profile_id, platform)?.ok_or_else(|| Fault::NoQueue {
        profile_id: profile_id.to_owned(),
        platform: platform.to_owned(),
        item,
    })
}

/// As [`require`], from the arguments of a call.
pub(crate) fn require_named(profile_id: Option<&str>, platform: Option<&str>) -> Result<Rc<Queue>, Fault> {
    let (profile_id, platform) = queue_name(profile_id, platform)?;
    require(&profile_id, &platform, None)
}

/// Whether this queue, as it is committed now, has the profile and the platform that are asked for.
pub(crate) fn is_named(queue_id: i64, which: &Which<'_>) -> Result<bool, Fault> {
    let names = NAME_OF.with(|name| {
        name.read(&[Arg::Int8(queue_id)], |row| {
            Ok((row.must::<String>(1)?, row.must::<String>(2)?))
        })
    })?;
    Ok(names.into_iter().any(|(profile_id, platform)| {
        which.profile_id.is_none_or(|wanted| wanted == profile_id)
            && which.platform.as_deref().is_none_or(|wanted| wanted == platform)
    }))
}

fn cached(row: &QueueRow<'_>) -> Result<Rc<Queue>, Fault> {
    let (key, version): (_, i64) = ((row.table(), row.get(3)?), row.get(4)?);
    let written_at = row.time(c"updated_at")?;
    let hit = CACHE.with_borrow(|cache| cache.get(&key).cloned());
    if let Some(queue) = hit.filter(|queue| (queue.version, queue.written_at) == (version, written_at)) {
        return Ok(queue);
    }
    let queue = Rc::new(parse(row, written_at)?);
    CACHE.with_borrow_mut(|cache| {
        if cache.len() >= CACHED_QUEUES {
            cache.clear();
        }
        cache.insert(key, Rc::clone(&queue));
    });
    Ok(queue)
}

/// Timetable and options, parsed.
struct Rules {
    timetable: Rc<Timetable>,
    options: QueueOptions,
}

/// Queues with the same rules share one copy, which is parsed once: thousands of them then stay in the processor's
/// cache, and a backend that meets them for the first time need not parse thousands of equal texts.
fn shared_rules(row: &QueueRow<'_>) -> Result<Rc<Rules>, Fault> {
    let (timetable, options): (Jsonb, Jsonb) = (row.must_have(c"timetable")?, row.must_have(c"options")?);
    let key = (timetable.fingerprint(), options.fingerprint());
    if let Some(rules) = RULES.with_borrow(|all| all.get(&key).and_then(Weak::upgrade)) {
        return Ok(rules);
    }
    let options = QueueOptions::parse(&options.parsed()?)?;
    let timetable = Rc::new(Timetable::parse(&timetable.parsed()?, options.granule_secs)?);
    let rules = Rc::new(Rules { timetable, options });
    RULES.with_borrow_mut(|all| {
        all.retain(|_, rules| rules.strong_count() > 0);
        all.insert(key, Rc::downgrade(&rules));
    });
    Ok(rules)
}

fn parse(row: &QueueRow<'_>, written_at: Option<Instant>) -> Result<Queue, Fault> {
    let rules = shared_rules(row)?;
    let time_zone: String = row.must_have(c"time_zone")?;
    let zone = ServerZone::named(&time_zone).ok_or_else(|| Fault::Zone {
        name: time_zone.clone(),
        reason: "is no longer known to the server".to_owned(),
        hint: "Give the queue another with slotkeeper.alter_queue().".to_owned(),
    })?;
    Ok(Queue {
        queue_id: row.get(3)?,
        version: row.get(4)?,
        written_at,
        profile_id: row.get(1)?,
        platform: row.get(2)?,
        zone,
        time_zone,
        timetable: Rc::clone(&rules.timetable),
        options: rules.options,
        is_committed: Cell::new(false),
        full_to: Cell::new(i64::MIN),
        _rules: rules,
    })
}
