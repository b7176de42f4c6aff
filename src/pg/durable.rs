//! Commits that outlive a crash, whatever the session says, and what tells one database from its copies.

use pgrx::pg_sys;

/// The commit of this transaction waits for the disk, and for the synchronous standbys that there are. For the disk also where
/// the setting is changed again before it.
pub(crate) fn commit_durably() {
    // SAFETY: sets a flag of this transaction; reads a setting; sets it as SET LOCAL would, with constant texts.
    unsafe {
        pg_sys::ForceSyncCommit();
        if pg_sys::synchronous_commit >= pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_FLUSH as i32 {
            return;
        }
        pg_sys::set_config_option(
            c"synchronous_commit".as_ptr(),
            c"on".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// The cluster's system identifier and the database's OID.
pub(crate) fn identity() -> (i64, i64) {
    // SAFETY: both are set once at start.
    unsafe {
        let cluster = pg_sys::GetSystemIdentifier();
        // As pg_control_system() shows it.
        (cluster as i64, pg_sys::MyDatabaseId.to_u32().into())
    }
}
