//! Locks: a courtesy that keeps callers from colliding and from waiting. The unique indexes are the truth.
//!
//! All of them are advisory locks of the server's lock manager under a class that no SQL function uses, so an
//! application's own advisory locks are never met. Keys are 64-bit keyed hashes: a collision makes a caller step over
//! a free seat or wait a moment, nothing worse. None outlives the transaction.
//!
//! Three kinds:
//! - **brief** locks are held between a look and the insert that follows it, and never while waiting for anything but
//!   another brief lock; at most a few hundred at once, whatever the size of a batch;
//! - **queue in use** is shared by everyone who books in a queue, until the transaction ends, and exclusive for those
//!   who take the queue away; a transaction holds at most [`MANY_QUEUES`] of them and [`BUCKETS`];
//! - **kept** locks say what no row says yet, until the transaction ends or the row is there: see `src/slug/held.rs`,
//!   which bounds them.

use super::relation_oid;
use super::subtransaction::unless;
use crate::fault::Fault;
use pgrx::{PgSqlErrorCode, pg_sys};
use siphasher::sip::SipHasher13;
use slotkeeper_core::Instant;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::hash::{Hash, Hasher};
use std::time::Duration;

/// Marks the lock tag as slotkeeper's: the server's own SQL functions use 1 and 2.
const CLASS: u16 = 0x534b;

/// A transaction that books in more queues than this locks them by buckets, of which there are so many.
const MANY_QUEUES: u32 = 64;
const BUCKETS: u64 = 64;

/// What a lock protects.
#[derive(Clone, Copy, Hash)]
pub(crate) enum Key<'a> {
    /// One seat: held by whoever is about to insert or move a booking there.
    Seat { queue_id: i64, granule: i64, seat: i16 },
    /// One content in one queue: held by whoever decides whether it is booked.
    Content {
        queue_id: i64,
        source: &'a str,
        content_id: &'a str,
    },
    /// What publishing knows of one booking: held by whoever looks at it and changes it.
    Publication { booking_id: i64 },
    /// Batches take turns between their look and their inserts.
    Batches,
    /// The row of a queue: held by whoever creates or changes it.
    QueueRow { profile_id: &'a str, platform: &'a str },
    /// One queue must not disappear or change its granule.
    Queue { profile_id: &'a str, platform: &'a str },
    /// No queue of this bucket may.
    Bucket(u64),
    /// One of the sources that no table is attached under: shared by whoever books for it.
    Source(u64),
    /// One slug of a column of an application's table: held by the transaction that it was given to.
    Slug {
        table: u32,
        column: i16,
        scope: u64,
        slug: &'a str,
    },
    /// One draft of an application's table: held by whoever looks whether somebody else is at it.
    Draft { table: u32, draft: u64 },
    /// One keyed request: held by whoever decides what becomes of it.
    Request([u8; 16]),
}

impl Key<'_> {
    /// The order in which several brief locks are taken.
    pub(crate) fn hash64(&self) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(0x736c_6f74_6b65_6570, 0x6572_206c_6f63_6b73);
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn bucket(&self) -> u64 {
        self.hash64() % BUCKETS
    }

    fn tag(&self) -> pg_sys::LOCKTAG {
        tag_of(self.hash64())
    }
}

/// The lock of the key that has this hash.
fn tag_of(hash: u64) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a plain global that is set once at backend start.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: (hash >> 32) as u32,
        locktag_field3: hash as u32,
        locktag_field4: CLASS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

fn acquire(tag: &pg_sys::LOCKTAG, mode: u32, wait: bool) -> bool {
    // SAFETY: the tag is a complete LOCKTAG that the lock manager copies. Not a session lock: any abort releases it.
    let result = unsafe { pg_sys::LockAcquire(tag, mode as pg_sys::LOCKMODE, false, !wait) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// An exclusive lock that is given back when this is dropped, long before the transaction ends.
pub(crate) struct Brief(pg_sys::LOCKTAG);

impl Brief {
    /// Waits for the lock. Holders never wait for transactions, so this is a matter of microseconds.
    pub(crate) fn acquire(key: &Key<'_>) -> Self {
        Self::acquire_hash(key.hash64())
    }

    /// The same where the key's hash is known already.
    pub(crate) fn acquire_hash(hash: u64) -> Self {
        let tag = tag_of(hash);
        acquire(&tag, pg_sys::ExclusiveLock, true);
        Self(tag)
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn try_acquire(key: &Key<'_>) -> Option<Self> {
        let tag = key.tag();
        // Lazily: a Brief that was never acquired must not come to be, for dropping it would release.
        acquire(&tag, pg_sys::ExclusiveLock, false).then(|| Self(tag))
    }
}

impl Drop for Brief {
    fn drop(&mut self) {
        // After an error the abort gives every lock back; calling into the server while it unwinds would be wrong.
        if !std::thread::panicking() {
            // SAFETY: acquired in this (sub)transaction with the same tag, mode and sessionLock.
            unsafe { pg_sys::LockRelease(&self.0, pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false) };
        }
    }
}

/// An exclusive lock that lasts until its (sub)transaction is undone or the transaction ends.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    tag: pg_sys::LOCKTAG,
    /// How deep among the open subtransactions its owner is. 1 is the transaction itself.
    level: i32,
}

/// What came of asking for a lock to keep.
pub(crate) enum Asked {
    Kept(Kept),
    /// This transaction has it already.
    Mine,
    /// Another session has it.
    Others,
}

impl Kept {
    /// Takes the lock if nobody has it.
    pub(crate) fn ask(key: &Key<'_>) -> Asked {
        let tag = key.tag();
        if held_by_me(&tag, pg_sys::ExclusiveLock) {
            return Asked::Mine;
        }
        let level = subtransaction_level();
        // Not the portal's, as it would be otherwise: who gives a lock back has to know whose it is.
        if as_resource_owner(level, || acquire(&tag, pg_sys::ExclusiveLock, false)) {
            Asked::Kept(Self { tag, level })
        } else {
            Asked::Others
        }
    }

    /// Whether this transaction keeps the lock.
    pub(crate) fn is_mine(key: &Key<'_>) -> bool {
        held_by_me(&key.tag(), pg_sys::ExclusiveLock)
    }

    /// Where its owner is among the open subtransactions.
    pub(crate) fn level(&self) -> i32 {
        self.level
    }

    /// The subtransaction that took it has become part of the one around it.
    pub(crate) fn joins(&mut self, level: i32) {
        self.level = self.level.min(level);
    }

    /// Gives the lock back.
    pub(crate) fn give_back(self) {
        as_resource_owner(self.level, || {
            // SAFETY: acquired with the same tag, mode, owner and sessionLock.
            unsafe { pg_sys::LockRelease(&self.tag, pg_sys::ExclusiveLock as pg_sys::LOCKMODE, false) };
        });
    }
}

/// How deep the innermost open subtransaction is; 1 is the transaction itself.
pub(crate) fn subtransaction_level() -> i32 {
    // SAFETY: reads the transaction state.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Runs `act` for the resource owner of the open (sub)transaction at this level.
fn as_resource_owner<T>(level: i32, act: impl FnOnce() -> T) -> T {
    // SAFETY: each open subtransaction's owner is the child of the one around it. Should `act` raise an error, the
    // abort sets the owner itself.
    unsafe {
        let before = pg_sys::CurrentResourceOwner;
        let mut owner = pg_sys::CurTransactionResourceOwner;
        for _ in level..subtransaction_level() {
            owner = pg_sys::ResourceOwnerGetParent(owner);
        }
        pg_sys::CurrentResourceOwner = owner;
        let result = act();
        pg_sys::CurrentResourceOwner = before;
        result
    }
}

thread_local! {
    /// When the current transaction began, and how many queues it has locked.
    static QUEUES_IN_USE: Cell<(i64, u32)> = const { Cell::new((0, 0)) };
}

/// Until the transaction ends these queues stay, with the granule they have. Locks buckets of queues where a
/// transaction would otherwise hold many locks.
pub(crate) fn use_queues(keys: &mut [Key<'_>]) {
    // SAFETY: reads a field of the transaction state.
    let transaction = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    let used = QUEUES_IN_USE.with(|cell| {
        let (seen, count) = cell.get();
        let new = keys
            .iter()
            .filter(|key| !held_by_me(&key.tag(), pg_sys::ShareLock))
            .count() as u32;
        let used = (if seen == transaction { count } else { 0 }).saturating_add(new);
        cell.set((transaction, used));
        used
    });
    keys.sort_by_key(Key::hash64);
    if used > MANY_QUEUES {
        let buckets: BTreeSet<u64> = keys.iter().map(Key::bucket).collect();
        for bucket in buckets {
            acquire(&Key::Bucket(bucket).tag(), pg_sys::ShareLock, true);
        }
        return;
    }
    for key in keys {
        acquire(&key.tag(), pg_sys::ShareLock, true);
    }
}

fn held_by_me(tag: &pg_sys::LOCKTAG, mode: u32) -> bool {
    let mode = mode as pg_sys::LOCKMODE;
    // SAFETY: looks the tag up in this backend's own table of locks.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::LockHeldByMe(tag, mode);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::LockHeldByMe(tag, mode, false);
    }
}

impl Key<'_> {
    /// How `pg_locks` shows the locks of a queue: objsubid, then classid and objid of its own and of its bucket's.
    pub(crate) fn shown_of_queue(&self) -> [i64; 5] {
        shown(self, &Key::Bucket(self.bucket()))
    }
}

/// The same of a source's lock.
pub(crate) fn shown_of_source(source: &str) -> [i64; 5] {
    let key = source_key(source);
    shown(&key, &key)
}

fn shown(one: &Key<'_>, other: &Key<'_>) -> [i64; 5] {
    let halves = |tag: &pg_sys::LOCKTAG| [i64::from(tag.locktag_field2), i64::from(tag.locktag_field3)];
    let ([a, b], [c, d]) = (halves(&one.tag()), halves(&other.tag()));
    [i64::from(CLASS), a, b, c, d]
}

/// From here to the end of the transaction nobody else books in this queue. False when a transaction that did is
/// still open and `wait` is not set.
pub(crate) fn take_queue(key: &Key<'_>, wait: bool) -> bool {
    // The mode on the bucket conflicts with sharing it, but not with others who take a queue of the same bucket.
    acquire(&key.tag(), pg_sys::ExclusiveLock, wait)
        && acquire(&Key::Bucket(key.bucket()).tag(), pg_sys::RowExclusiveLock, wait)
}

fn source_key(source: &str) -> Key<'static> {
    // By buckets: a transaction may name any number of sources.
    let mut hasher = SipHasher13::new();
    source.hash(&mut hasher);
    Key::Source(hasher.finish() % BUCKETS)
}

/// Until the transaction ends no table is attached under this source; waits for one that just is.
pub(crate) fn use_source(source: &str) {
    acquire(&source_key(source).tag(), pg_sys::ShareLock, true);
}

/// The view that stands for all tables: whoever books a content of none keeps any from being attached. Nobody else locks it but to
/// read it. Weak locks of relations cost next to nothing, however many share them, for the server keeps them with each backend; and
/// whoever gets one has heard of what was attached before.
pub(super) const ALL_TABLES: &CStr = c"binding_health";

/// Until the transaction ends no table is attached; waits for one that just is, and hears of it.
pub(crate) fn use_no_source() -> Result<(), Fault> {
    hold_relation(relation_oid(ALL_TABLES)?, pg_sys::RowShareLock as pg_sys::LOCKMODE);
    Ok(())
}

/// The same until it is dropped, when the uncommitted row tells. Who is about to attach a table waits for nobody who may be waiting
/// for him to write that table.
pub(crate) struct NoSource(pg_sys::Oid);

impl NoSource {
    pub(crate) fn begin() -> Result<Self, Fault> {
        use_no_source()?;
        relation_oid(ALL_TABLES).map(Self)
    }
}

impl Drop for NoSource {
    fn drop(&mut self) {
        // As for a brief lock.
        if !std::thread::panicking() {
            // SAFETY: acquired in this (sub)transaction in the same mode.
            unsafe { pg_sys::UnlockRelationOid(self.0, pg_sys::RowShareLock as pg_sys::LOCKMODE) };
        }
    }
}

/// Waits for everyone who has booked under this source, or is just booking under none, while no table was attached, and keeps others from it
/// until the transaction ends.
pub(crate) fn take_source(source: &str) -> Result<(), Fault> {
    acquire(&source_key(source).tag(), pg_sys::ExclusiveLock, true);
    hold_relation(relation_oid(ALL_TABLES)?, pg_sys::ExclusiveLock as pg_sys::LOCKMODE);
    Ok(())
}

/// Locks a relation until the transaction ends.
pub(crate) fn hold_relation(oid: pg_sys::Oid, mode: pg_sys::LOCKMODE) {
    // SAFETY: a relation that is gone can be locked, too: whoever uses it finds that out.
    unsafe { pg_sys::LockRelationOid(oid, mode) };
}

/// Waits until a transaction has ended, whichever way.
pub(crate) fn wait_for(transaction: pg_sys::TransactionId) {
    // SAFETY: relation and tuple are only for the error context and may be null.
    unsafe {
        pg_sys::XactLockTableWait(
            transaction,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            pg_sys::XLTW_Oper::XLTW_None,
        )
    };
}

/// The same, but no longer than so many microseconds; false where the transaction has not ended by then. Whoever waits
/// here is seen by the deadlock detector, and wakes up at once.
pub(crate) fn wait_for_at_most(transaction: pg_sys::TransactionId, limit: Instant) -> Result<bool, Fault> {
    let _limit = Setting::lock_timeout(milliseconds(Duration::from_micros(limit.max(0).unsigned_abs())));
    unless(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, || {
        wait_for(transaction);
        Ok(())
    })
    .map(|ended| ended.is_some())
}

/// While this lives nobody is waited for longer. A circle of waiters is found while it lasts, too, and an autovacuum that
/// is in the way is sent away, as it would be for one who waits longer.
pub(crate) struct Waiting {
    _lock_timeout: Setting,
    _deadlock_timeout: Setting,
}

impl Waiting {
    pub(crate) fn at_most(limit: Duration) -> Self {
        let limit = milliseconds(limit);
        Self {
            _lock_timeout: Setting::lock_timeout(limit),
            _deadlock_timeout: Setting::deadlock_timeout((limit / 2).max(1)),
        }
    }

    /// How long the session waits for a lock, if it has said so.
    pub(crate) fn session_limit() -> Option<Duration> {
        // SAFETY: a plain global of this backend.
        let milliseconds = unsafe { pg_sys::LockTimeout };
        u64::try_from(milliseconds)
            .ok()
            .filter(|&limit| limit > 0)
            .map(Duration::from_millis)
    }
}

fn milliseconds(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// A setting of the session's in milliseconds, another one for a while.
struct Setting {
    place: *mut i32,
    before: i32,
}

impl Setting {
    fn lock_timeout(milliseconds: i32) -> Self {
        Self::set(&raw mut pg_sys::LockTimeout, milliseconds)
    }

    fn deadlock_timeout(milliseconds: i32) -> Self {
        Self::set(&raw mut pg_sys::DeadlockTimeout, milliseconds)
    }

    fn set(place: *mut i32, milliseconds: i32) -> Self {
        // SAFETY: one of the two plain globals of this backend above, which are read when a wait for a lock begins.
        let before = unsafe { std::ptr::replace(place, milliseconds) };
        Self { place, before }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        // SAFETY: puts back what `set` found, also while an error passes through.
        unsafe { *self.place = self.before };
    }
}
