//! Everything that touches the server's C interface: the one module where unsafe code is allowed.
//!
//! What it exports is safe to call from the rest of the extension, on a backend's only thread, inside a transaction.

pub(crate) mod insert;
pub(crate) mod json;
pub(crate) mod lock;
pub(crate) mod role;
pub(crate) mod scan;
pub(crate) mod statement;
pub(crate) mod subtransaction;
pub(crate) mod time;

use crate::fault::Fault;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The schema in which everything of slotkeeper lives.
const SCHEMA: &CStr = c"slotkeeper";

/// The OID of one of slotkeeper's own tables or indexes.
fn relation_oid(name: &CStr) -> Result<pg_sys::Oid, Fault> {
    // SAFETY: both are syscache look-ups of NUL-terminated names; neither keeps the pointer.
    let oid = unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(SCHEMA.as_ptr(), true)) };
    if oid == pg_sys::InvalidOid {
        return Err(Fault::Internal(format!(
            "relation slotkeeper.{} is missing",
            name.to_string_lossy()
        )));
    }
    Ok(oid)
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
