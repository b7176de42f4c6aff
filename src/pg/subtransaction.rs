//! A part of a transaction that can be undone alone.

use super::{Isolation, isolation};
use crate::fault::Fault;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder, pg_sys};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs `act`; what it wrote stays if it returns `Ok`, and is undone if it returns `Err`, raises an error, or meets a
/// unique index that refuses a row, for which `duplicate` says what to return.
pub(crate) fn undoing<T, E>(duplicate: fn() -> E, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    within(|| {
        PgTryBuilder::new(AssertUnwindSafe(act))
            .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| Err(duplicate()))
            .execute()
    })
}

/// Runs `act`; `None`, and nothing of it left, where it raises this error.
pub(crate) fn unless<T>(code: PgSqlErrorCode, act: impl FnOnce() -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    let result = within(|| {
        PgTryBuilder::new(AssertUnwindSafe(|| act().map_err(Some)))
            .catch_when(code, |_| Err(None))
            .execute()
    });
    match result {
        Ok(done) => Ok(Some(done)),
        Err(None) => Ok(None),
        Err(Some(fault)) => Err(fault),
    }
}

/// How often [`until_not_overtaken`] tries. Being overtaken takes somebody who commits a change of the same row within the
/// microseconds of a try; an error that comes every time is another's, a trigger's or a policy's.
const TRIES: u32 = 100;

/// Runs a statement that locks or changes rows as they are committed now. In REPEATABLE READ the server raises 40001 where
/// somebody commits a change of such a row between the statement's snapshot and the row's lock: then it is run again, with
/// another snapshot. `act` must take its snapshot itself, and do nothing but the statement.
///
/// In READ COMMITTED the server goes on with the row's new version by itself; in SERIALIZABLE 40001 is the caller's.
pub(crate) fn until_not_overtaken<T>(mut act: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    if isolation() == Isolation::RepeatableRead {
        for _ in 1..TRIES {
            if let Some(done) = unless(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, &mut act)? {
                return Ok(done);
            }
        }
    }
    act()
}

/// An error that was raised by something of the application's and undone.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) sqlstate: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
}

/// Runs `act`; what it raises, if anything, with nothing of it left. A fault of ours is returned, undone too. An error that says nothing about `act` passes
/// through: a cancelled statement, a lost race that only the whole transaction can run again, a broken server.
pub(crate) fn attempt<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<Result<T, Failure>, Fault> {
    let result = within(|| {
        PgTryBuilder::new(AssertUnwindSafe(|| act().map_err(Err)))
            .catch_others(|error| {
                let failure = match &error {
                    CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => Failure {
                        sqlstate: sqlstate(report.sql_error_code()),
                        message: report.message().to_owned(),
                        detail: report.detail().map(str::to_owned),
                    },
                    CaughtError::RustPanic { .. } => error.rethrow(),
                };
                if PASSES.iter().any(|class| failure.sqlstate.starts_with(class)) {
                    error.rethrow();
                }
                Err(Ok(failure))
            })
            .execute()
    });
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(Ok(failure)) => Ok(Err(failure)),
        Err(Err(fault)) => Err(fault),
    }
}

/// Classes of errors that are not undone alone: invalid transaction state, rollback, resources, intervention, system,
/// internal.
const PASSES: [&str; 6] = ["25", "40", "53", "57", "58", "XX"];

/// The five characters of a SQLSTATE, six bits each.
pub(crate) fn sqlstate(code: PgSqlErrorCode) -> String {
    let packed = code as u32;
    let character = |place: u32| ((packed >> (6 * place)) & 0x3f) as u8 + b'0';
    (0..5).map(|place| char::from(character(place))).collect()
}

/// What `act` does is kept if it returns `Ok`, and undone if it returns `Err` or raises an error.
pub(crate) fn within<T, E>(act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: the pattern of the server's own procedural languages: memory context and resource owner are put back
    // after begin and after end, and the subtransaction is ended on every path, also when an error passes through.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = catch_unwind(AssertUnwindSafe(act));
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

/// Whether a subtransaction of this transaction is the current one or around it. One that is not has ended.
pub(crate) fn is_subtransaction_active(id: pg_sys::SubTransactionId) -> bool {
    // SAFETY: walks over the transaction state.
    unsafe { pg_sys::SubTransactionIsActive(id) }
}
