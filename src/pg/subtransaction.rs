//! A part of a transaction that can be undone alone.

use crate::fault::Fault;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `act`; what it wrote stays if it returns `Ok`, and is undone if it returns `Err`, raises an error, or meets a
/// unique index that refuses a row, for which `duplicate` says what to return.
pub(crate) fn undoing<T, E>(duplicate: fn() -> E, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let attempt = || {
        PgTryBuilder::new(AssertUnwindSafe(act))
            .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| Err(duplicate()))
            .execute()
    };
    // SAFETY: the pattern of the server's own procedural languages: memory context and resource owner are put back
    // after begin and after end, and the subtransaction is ended on every path, also when an error passes through.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = catch_unwind(AssertUnwindSafe(attempt));
        match &result {
            Ok(Ok(_)) => pg_sys::ReleaseCurrentSubTransaction(),
            _ => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Runs a write; `None`, and nothing written, where a unique index refuses it.
pub(crate) fn unless_duplicate<T>(write: impl FnOnce() -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    match undoing(|| None, || write().map_err(Some)) {
        Ok(written) => Ok(Some(written)),
        Err(None) => Ok(None),
        Err(Some(fault)) => Err(fault),
    }
}

/// The subtransaction that the caller is in.
pub(crate) fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: reads a field of the transaction state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}
