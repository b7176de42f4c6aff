//! Word of how transactions and their parts end.

use pgrx::pg_sys;
use std::cell::Cell;

/// What became of a transaction or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The whole transaction, whichever way.
    Transaction,
    /// The subtransaction at this level has become part of the one around it.
    Joined(i32),
    /// The subtransaction at this level was undone.
    Undone(i32),
}

/// Whether the transaction has written nothing so far.
pub(crate) fn has_written_nothing() -> bool {
    // SAFETY: reads the transaction state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() == pg_sys::InvalidTransactionId }
}

thread_local! {
    static LISTENER: Cell<Option<fn(End)>> = const { Cell::new(None) };
}

/// Has every end told to `listener`, which must not touch the server. Called once in the life of a backend.
pub(crate) fn watch_transactions(listener: fn(End)) {
    LISTENER.set(Some(listener));
    // SAFETY: the callbacks only tell the listener, and live as long as the backend.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), std::ptr::null_mut());
    }
}

fn tell(end: End) {
    // The thread-local is gone only while the backend exits.
    if let Ok(Some(listener)) = LISTENER.try_with(Cell::get) {
        listener(end);
    }
}

/// # Safety
/// For the server to call.
unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if matches!(event, XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE) {
        tell(End::Transaction);
    }
}

/// # Safety
/// For the server to call.
unsafe extern "C-unwind" fn subtransaction_ends(
    event: pg_sys::SubXactEvent::Type,
    _: pg_sys::SubTransactionId,
    _: pg_sys::SubTransactionId,
    _: *mut std::ffi::c_void,
) {
    // SAFETY: reads the transaction state, in which the ending subtransaction is still the innermost.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => tell(End::Joined(level)),
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => tell(End::Undone(level)),
        _ => {}
    }
}

/// The id of the innermost open subtransaction, where it has one.
pub(crate) fn innermost() -> Option<pg_sys::TransactionId> {
    // SAFETY: reads the transaction state.
    let id = unsafe { pg_sys::GetCurrentTransactionIdIfAny() };
    (id != pg_sys::InvalidTransactionId).then_some(id)
}
