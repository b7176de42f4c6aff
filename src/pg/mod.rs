//! Everything that touches the server's C interface: the one module where unsafe code is allowed.
//!
//! What it exports is safe to call from the rest of the extension, on a backend's only thread, inside a transaction.

pub(crate) mod across_rows;
pub(crate) mod before_row;
pub(crate) mod call;
pub(crate) mod change;
pub(crate) mod condition;
pub(crate) mod durable;
pub(crate) mod dynamic;
mod executor;
mod index_key;

pub(crate) mod insert;
pub(crate) mod json;
pub(crate) mod lock;
pub(crate) mod patience;
pub(crate) mod predicate;
pub(crate) mod probe;
pub(crate) mod random;
pub(crate) mod role;
pub(crate) mod running;
pub(crate) mod scan;
pub(crate) mod statement;
pub(crate) mod subtransaction;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod told;
pub(crate) mod transaction;
pub(crate) mod trigger;
mod versions;
pub(crate) mod whole_table;

use crate::fault::Fault;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;

/// The schema in which everything of slotkeeper lives.
const SCHEMA: &CStr = c"slotkeeper";

thread_local! {
    /// OIDs of slotkeeper's relations by name. A call opens a dozen of them, and looking
    /// each up by schema and name would cost as much as a good part of the call.
    static OIDS: RefCell<Vec<(&'static CStr, pg_sys::Oid)>> = const { RefCell::new(Vec::new()) };
    /// Set when some relation was made, dropped, rebuilt or renamed since: then OIDs are looked up anew.
    static STALE: Cell<bool> = const { Cell::new(false) };
    /// Counts the same events, for others who remember something about relations.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    /// Counts changes of schemas, types and operators, which leave the relations that they are of as they were.
    static NAMES: Cell<u64> = const { Cell::new(0) };
}

/// Changes when some relation has changed, a trigger on it included. What was remembered about relations at another
/// generation has to be looked up anew.
pub(crate) fn relations_generation() -> u64 {
    GENERATION.get()
}

/// Changes when some schema, type or operator has, its name included: what was written with their names has to be written anew.
pub(crate) fn names_generation() -> u64 {
    NAMES.get()
}

/// Has OIDs and names forgotten when the server's own caches are told to forget.
pub(crate) fn watch_catalogs() {
    use pg_sys::SysCacheIdentifier::{NAMESPACEOID, OPEROID, TYPEOID};
    let nothing = pg_sys::Datum::from(0);
    // SAFETY: the callbacks only set flags, and live as long as the backend.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relations_changed), nothing);
        for cache in [NAMESPACEOID, TYPEOID, OPEROID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(names_changed), nothing);
        }
    }
}

/// # Safety
/// For the server to call; touches nothing but a number.
unsafe extern "C-unwind" fn names_changed(_: pg_sys::Datum, _: i32, _: u32) {
    let _ = NAMES.try_with(|names| names.set(names.get().wrapping_add(1)));
}

/// # Safety
/// For the server to call; touches nothing but flags and counters.
unsafe extern "C-unwind" fn relations_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    if told::note(relation) {
        return;
    }
    // The thread-local is gone only while the backend exits.
    let _ = STALE.try_with(|stale| stale.set(true));
    let _ = GENERATION.try_with(|generation| generation.set(generation.get().wrapping_add(1)));
}

/// The OID of one of slotkeeper's own tables or indexes.
fn relation_oid(name: &'static CStr) -> Result<pg_sys::Oid, Fault> {
    if STALE.replace(false) {
        OIDS.with_borrow_mut(Vec::clear);
    }
    let known = OIDS.with_borrow(|oids| oids.iter().find(|(known, _)| *known == name).map(|(_, oid)| *oid));
    if let Some(oid) = known {
        return Ok(oid);
    }
    // SAFETY: both are syscache look-ups of NUL-terminated names; neither keeps the pointer.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true)) };
    if oid == pg_sys::InvalidOid {
        return Err(Fault::Internal(format!(
            "relation slotkeeper.{} is missing",
            name.to_string_lossy()
        )));
    }
    OIDS.with_borrow_mut(|oids| oids.push((name, oid)));
    Ok(oid)
}

/// Keeps a relation from being dropped or changed until the transaction ends. One that is not there is no error.
pub(crate) fn keep_relation(oid: pg_sys::Oid) {
    // SAFETY: takes a lock that lasts to the end of the transaction; the relation is closed again at once.
    unsafe {
        let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        if !relation.is_null() {
            pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// Raises 25006 in a read-only transaction or on a standby, naming the command.
pub(crate) fn refuse_read_only(command: &CStr) {
    // SAFETY: the name is NUL-terminated and only printed.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
    }
}

/// No setting with this prefix can be made up, and values set before the library was loaded are checked.
pub(crate) fn reserve_prefix(prefix: &CStr) {
    // SAFETY: the name is NUL-terminated and copied.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) };
}

/// When the current transaction began: tells one from the next.
pub(crate) fn transaction_start() -> i64 {
    // SAFETY: reads a field of the transaction state.
    unsafe { pg_sys::GetCurrentTransactionStartTimestamp() }
}

/// When the client's statement came. Functions called by one statement see one value, however many transactions it makes.
pub(crate) fn statement_start() -> i64 {
    // SAFETY: reads a field of this backend's state.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// Bytes that nobody can guess.
pub(crate) fn secret() -> Result<[u8; 16], Fault> {
    let mut bytes = [0; 16];
    // SAFETY: fills the buffer of this length.
    let strong = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    strong
        .then_some(bytes)
        .ok_or_else(|| Fault::Internal("the server has no randomness".to_owned()))
}

/// How the transaction sees what others commit while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// The isolation level of the current transaction.
pub(crate) fn isolation() -> Isolation {
    // SAFETY: a plain global of this backend.
    match unsafe { pg_sys::XactIsoLevel } as u32 {
        pg_sys::XACT_SERIALIZABLE => Isolation::Serializable,
        pg_sys::XACT_REPEATABLE_READ => Isolation::RepeatableRead,
        _ => Isolation::ReadCommitted,
    }
}
