//! Statements as the executor runs them, whoever has them run and whatever table or partition they name: what triggers are not
//! told of the one that fires them, and when one has ended.

use super::statement_start;
use crate::fault::Fault;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, CmdType, OnConflictAction};
use pgrx::prelude::*;
use pgrx::{PgList, is_a};
use std::cell::RefCell;
use std::ffi::c_char;
use std::sync::OnceLock;

/// What is done when a statement has ended, its AFTER triggers included; it gets the statement's command.
type AtEnd = fn(pg_sys::CommandId) -> Result<(), Fault>;

static AT_END: OnceLock<AtEnd> = OnceLock::new();
static RUN_BEFORE_US: OnceLock<pg_sys::ExecutorRun_hook_type> = OnceLock::new();
static FINISH_BEFORE_US: OnceLock<pg_sys::ExecutorFinish_hook_type> = OnceLock::new();
static UTILITY_BEFORE_US: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// When the client's statement came that had the library loaded: it may have begun before we were told of any.
static LOADED: OnceLock<i64> = OnceLock::new();

thread_local! {
    /// The statements that run, the innermost last.
    static RUNNING: RefCell<Vec<*const pg_sys::QueryDesc>> = const { RefCell::new(Vec::new()) };
}

/// Has the executor tell of statements from here on, and `act` called at the end of each.
pub(crate) fn watch_statements(act: AtEnd) {
    if AT_END.set(act).is_ok() {
        let _ = LOADED.set(statement_start());
        // SAFETY: the backend's own hooks, set when the library is loaded; whoever had set them before us is called by us.
        unsafe {
            let _ = RUN_BEFORE_US.set(pg_sys::ExecutorRun_hook);
            pg_sys::ExecutorRun_hook = Some(run);
            let _ = FINISH_BEFORE_US.set(pg_sys::ExecutorFinish_hook);
            pg_sys::ExecutorFinish_hook = Some(finish);
            let _ = UTILITY_BEFORE_US.set(pg_sys::ProcessUtility_hook);
            pg_sys::ProcessUtility_hook = Some(utility);
        }
    }
}

/// What a statement that says ON CONFLICT does with a row that it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Upsert {
    LeavesIt,
    UpdatesIt,
}

/// Whether the statement that runs may update rows that it was to insert, or leave them: it says ON CONFLICT. COPY, which the
/// executor doesn't run, never does.
pub(crate) fn is_upsert() -> Option<Upsert> {
    let running = RUNNING.with_borrow(|all| all.last().copied());
    // SAFETY: what runs lives, and so does its plan; the client's statement lives as long as its portal.
    unsafe {
        match running {
            Some(statement) => upserts((*statement).plannedstmt),
            None if LOADED.get() == Some(&statement_start()) => may_upsert_unseen(),
            None => None,
        }
    }
}

/// # Safety
/// The plan must live.
unsafe fn upserts(plan: *const pg_sys::PlannedStmt) -> Option<Upsert> {
    // SAFETY: as our caller promises. What a WITH inserts is a plan beside the main one.
    unsafe {
        let beside = PgList::<pg_sys::Plan>::from_pg((*plan).subplans);
        let all = std::iter::once((*plan).planTree).chain(beside.iter_ptr());
        let inserts = all
            .filter(|plan| !plan.is_null() && is_a(plan.cast(), pg_sys::NodeTag::T_ModifyTable))
            .map(|plan| &*plan.cast::<pg_sys::ModifyTable>())
            .filter(|write| write.operation == CmdType::CMD_INSERT);
        inserts
            .filter_map(|write| match write.onConflictAction {
                OnConflictAction::ONCONFLICT_UPDATE => Some(Upsert::UpdatesIt),
                OnConflictAction::ONCONFLICT_NOTHING => Some(Upsert::LeavesIt),
                _ => None,
            })
            .max()
    }
}

/// The same of the client's statement that had the library loaded, which began unseen. What a function runs inside it cannot be
/// told.
unsafe fn may_upsert_unseen() -> Option<Upsert> {
    // SAFETY: as in `is_upsert`.
    unsafe {
        let Some(portal) = pg_sys::ActivePortal.as_ref() else {
            return Some(Upsert::UpdatesIt);
        };
        PgList::<pg_sys::PlannedStmt>::from_pg(portal.stmts)
            .iter_ptr()
            .filter_map(|plan| {
                let utility = (*plan).utilityStmt;
                match (*plan).commandType {
                    CmdType::CMD_INSERT | CmdType::CMD_MERGE => upserts(plan),
                    CmdType::CMD_UTILITY if is_a(utility, pg_sys::NodeTag::T_CopyStmt) => None,
                    _ => Some(Upsert::UpdatesIt),
                }
            })
            .max()
    }
}

/// A statement that runs, until it is dropped, also by an error that passes through.
struct Running;

impl Running {
    fn begin(statement: *const pg_sys::QueryDesc) -> Self {
        RUNNING.with_borrow_mut(|all| all.push(statement));
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(Vec::pop);
    }
}

/// # Safety
/// For the server to call.
#[cfg(not(feature = "pg18"))]
#[pg_guard]
unsafe extern "C-unwind" fn run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    let _running = Running::begin(query);
    // SAFETY: as the server calls it.
    unsafe {
        match RUN_BEFORE_US.get().copied().flatten() {
            Some(next) => pg_guard_ffi_boundary(|| next(query, direction, count, once)),
            None => pg_sys::standard_ExecutorRun(query, direction, count, once),
        }
    }
}

/// # Safety
/// For the server to call.
#[cfg(feature = "pg18")]
#[pg_guard]
unsafe extern "C-unwind" fn run(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64) {
    let _running = Running::begin(query);
    // SAFETY: as the server calls it.
    unsafe {
        match RUN_BEFORE_US.get().copied().flatten() {
            Some(next) => pg_guard_ffi_boundary(|| next(query, direction, count)),
            None => pg_sys::standard_ExecutorRun(query, direction, count),
        }
    }
}

/// # Safety
/// For the server to call.
#[pg_guard]
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as the server calls it.
    unsafe {
        match FINISH_BEFORE_US.get().copied().flatten() {
            Some(next) => pg_guard_ffi_boundary(|| next(query)),
            None => pg_sys::standard_ExecutorFinish(query),
        }
        // The triggers of a statement that a foreign key runs fire when the statement around it ends.
        let is_part = (*(*query).estate).es_top_eflags as u32 & pg_sys::EXEC_FLAG_SKIP_TRIGGERS != 0;
        let snapshot = (*query).snapshot;
        if is_part || snapshot.is_null() {
            return;
        }
        has_ended((*snapshot).curcid);
    }
}

/// COPY stores rows without the executor, and nobody else tells that it has ended.
///
/// # Safety
/// For the server to call.
#[pg_guard]
#[allow(clippy::too_many_arguments, reason = "the server's hook")]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: as the server calls it. The node is what its tag says.
    unsafe {
        let node = (*statement).utilityStmt;
        let stores = is_a(node, pg_sys::NodeTag::T_CopyStmt) && (*node.cast::<pg_sys::CopyStmt>()).is_from;
        let command = stores.then(|| pg_sys::GetCurrentCommandId(false));
        match UTILITY_BEFORE_US.get().copied().flatten() {
            Some(next) => pg_guard_ffi_boundary(|| {
                next(
                    statement,
                    text,
                    read_only_tree,
                    context,
                    parameters,
                    environment,
                    receiver,
                    completion,
                );
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                parameters,
                environment,
                receiver,
                completion,
            ),
        }
        if let Some(command) = command {
            has_ended(command);
        }
    }
}

fn has_ended(command: pg_sys::CommandId) {
    if let Some(act) = AT_END.get()
        && let Err(fault) = act(command)
    {
        ErrorReport::from(fault).report(PgLogLevel::ERROR);
    }
}
