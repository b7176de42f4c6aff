//! Whose rights a statement runs with.
//!
//! slotkeeper's own statements run with the rights of whoever owns its tables; everything else stays with the caller.
//! Nothing of a user's is ever evaluated inside [`as_owner`]: its statements name every operator and function of
//! `pg_catalog`, and no table with foreign triggers or defaults is touched there.

use super::relation_oid;
use crate::fault::Fault;
use pgrx::pg_sys;

struct Restore {
    user: pg_sys::Oid,
    context: i32,
}

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: puts back what GetUserIdAndSecContext returned; on abort the server does the same itself.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// Runs `act` with the rights of the owner of slotkeeper's tables.
pub(crate) fn as_owner<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let owner = owner()?;
    let mut caller = Restore {
        user: pg_sys::InvalidOid,
        context: 0,
    };
    // SAFETY: both pointers are valid for the call; the flags only narrow what the switched role may do.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut caller.user, &mut caller.context);
        pg_sys::SetUserIdAndSecContext(owner, caller.context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
    }
    let result = act();
    drop(caller);
    result
}

fn owner() -> Result<pg_sys::Oid, Fault> {
    let table = relation_oid(c"booking")?;
    // SAFETY: opening takes a lock that lasts to the end of the transaction; rd_rel is valid while it is open.
    unsafe {
        let relation = pg_sys::relation_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        Ok(owner)
    }
}

/// The name of the role that the caller acts as.
pub(crate) fn caller_name() -> String {
    // SAFETY: returns a palloc'd C string, or null for a role that was dropped meanwhile.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true);
        if name.is_null() {
            String::new()
        } else {
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

/// Whether row-level security may hide rows of a table from the caller.
pub(crate) fn hides_rows(table: pg_sys::Oid) -> bool {
    // Owners and roles with BYPASSRLS are told RLS_NONE_ENV: nothing is hidden as long as they are who they are.
    // SAFETY: looks the table and the role up; raises nothing.
    unsafe {
        pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true) == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }
}

/// What a caller does to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    Select,
    Update,
}

impl Privilege {
    fn mode(self) -> pg_sys::AclMode {
        let mode = match self {
            Self::Select => pg_sys::ACL_SELECT,
            Self::Update => pg_sys::ACL_UPDATE,
        };
        pg_sys::AclMode::from(mode)
    }
}

/// Whether the caller has this privilege on a table, or on any column of it. On one that is gone nobody has.
pub(crate) fn has_privilege(table: pg_sys::Oid, privilege: Privilege) -> bool {
    let mode = privilege.mode();
    let mut is_missing = false;
    // SAFETY: look the table and its columns up; the flag is written during the call.
    unsafe {
        let caller = pg_sys::GetUserId();
        let of_table = pg_sys::pg_class_aclcheck_ext(table, caller, mode, &mut is_missing);
        of_table == pg_sys::AclResult::ACLCHECK_OK
            || !is_missing
                && pg_sys::pg_attribute_aclcheck_all(table, caller, mode, pg_sys::AclMaskHow::ACLMASK_ANY)
                    == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether the caller may write this column of a table.
pub(crate) fn may_write(table: pg_sys::Oid, column: i16) -> bool {
    let mode = Privilege::Update.mode();
    let mut is_missing = false;
    // SAFETY: as above.
    unsafe {
        let caller = pg_sys::GetUserId();
        let of_table = pg_sys::pg_class_aclcheck_ext(table, caller, mode, &mut is_missing);
        of_table == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck_ext(table, column, caller, mode, &mut is_missing)
                == pg_sys::AclResult::ACLCHECK_OK
    }
}
