//! What backends remember of queues, and how they are told that one has changed.
//!
//! A trigger on `slotkeeper.queue` sends a message to all backends when rows of it have been replaced or deleted: at once, not
//! when its transaction commits. Whoever has read the message looks at the row again, and remembers nothing of it as long as
//! that transaction is open. So what is remembered is what is committed: a message sent at commit would come after the moment
//! from which others see the change.
//!
//! The message is the server's own about a relation that has changed, which each backend reads before it goes on with anything
//! it has locked. It names a relation that nothing depends on, the sequence of versions: naming the table would have every
//! backend plan its statements anew.

use super::relation_oid;
use super::scan::Found;
use crate::fault::Fault;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// The trigger that sends messages, as `sql/install` names it.
const TRIGGER: &CStr = c"tell_of_change";

thread_local! {
    /// The relations whose messages are about queues: the table, and the one that is named when rows have changed.
    static ABOUT: Cell<(pg_sys::Oid, pg_sys::Oid)> = const { Cell::new((pg_sys::InvalidOid, pg_sys::InvalidOid)) };
    /// Counts the messages.
    static TOLD: Cell<u64> = const { Cell::new(0) };
}

/// Notes a message that a relation, or with no id any relation, has changed. True where it says only that rows have.
pub(super) fn note(relation: pg_sys::Oid) -> bool {
    // The thread-locals are gone only while the backend exits.
    let (table, rows) = ABOUT.try_with(Cell::get).unwrap_or_default();
    if relation == pg_sys::InvalidOid || relation == table || relation == rows {
        let _ = TOLD.try_with(|told| told.set(told.get().wrapping_add(1)));
    }
    relation != pg_sys::InvalidOid && relation == rows
}

/// Reads the messages that have come. What was remembered of queues when another number was told has to be read again;
/// what is to be remembered has to be read after this, and not be followed by another number.
pub(crate) fn queues_told() -> u64 {
    // SAFETY: the server does the same whenever a relation is locked.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    TOLD.get()
}

/// Whether messages that have come meanwhile say otherwise than `told`.
pub(crate) fn is_still(told: u64) -> bool {
    TOLD.get() == told
}

/// Whether this queue's row, which was found without a snapshot, may be remembered until a message comes: nobody who has not
/// committed is at it, and messages will come.
pub(crate) fn will_be_told_of(row: &Found<'_>) -> Result<bool, Fault> {
    // On a standby no trigger fires.
    // SAFETY: reads this backend's state.
    if unsafe { pg_sys::RecoveryInProgress() } || row.changer().is_some() || row.is_own() || !row.has_trigger(TRIGGER) {
        return Ok(false);
    }
    ABOUT.set((row.table(), relation_oid(c"queue_version_seq")?));
    Ok(true)
}

/// Tells all backends of this database, this one included, to look at queues again.
pub(crate) fn tell() -> Result<(), Fault> {
    let mut message = pg_sys::SharedInvalidationMessage::default();
    message.rc = pg_sys::SharedInvalRelcacheMsg {
        id: pg_sys::SHAREDINVALRELCACHE_ID as i8,
        // SAFETY: a plain global that is set once at backend start.
        dbId: unsafe { pg_sys::MyDatabaseId },
        relId: relation_oid(c"queue_version_seq")?,
    };
    // SAFETY: one complete message, which is copied.
    unsafe { pg_sys::SendSharedInvalidMessages(&message, 1) };
    Ok(())
}
