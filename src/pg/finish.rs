//! The end of a statement, whoever runs it and whatever table or partition it names. A statement's triggers know only the
//! table that it names, and row triggers only rows that are stored.

use crate::fault::Fault;
use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::sync::OnceLock;

/// What is done when a statement has ended, its AFTER triggers included; it gets the statement's command.
type AtEnd = fn(pg_sys::CommandId) -> Result<(), Fault>;

static AT_END: OnceLock<AtEnd> = OnceLock::new();
static BEFORE_US: OnceLock<pg_sys::ExecutorFinish_hook_type> = OnceLock::new();

/// Has `act` called at the end of each statement of this backend.
pub(crate) fn at_end_of_statements(act: AtEnd) {
    if AT_END.set(act).is_ok() {
        // SAFETY: the backend's own hook, set when the library is loaded; whoever had set it before us is called by us.
        unsafe {
            let _ = BEFORE_US.set(pg_sys::ExecutorFinish_hook);
            pg_sys::ExecutorFinish_hook = Some(finish);
        }
    }
}

/// # Safety
/// For the server to call.
#[pg_guard]
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as the server calls it.
    unsafe {
        match BEFORE_US.get().copied().flatten() {
            Some(next) => pg_guard_ffi_boundary(|| next(query)),
            None => pg_sys::standard_ExecutorFinish(query),
        }
        // The triggers of a statement that a foreign key runs fire when the statement around it ends.
        let is_part = (*(*query).estate).es_top_eflags as u32 & pg_sys::EXEC_FLAG_SKIP_TRIGGERS != 0;
        let snapshot = (*query).snapshot;
        if is_part || snapshot.is_null() {
            return;
        }
        if let Some(act) = AT_END.get()
            && let Err(fault) = act((*snapshot).curcid)
        {
            ErrorReport::from(fault).report(PgLogLevel::ERROR);
        }
    }
}
