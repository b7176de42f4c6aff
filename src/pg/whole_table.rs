//! A scan over the whole of one of slotkeeper's tables, rows of open transactions included. What an index would have to be asked
//! for one by one it finds as fast as a query does.

use super::relation_oid;
use super::scan::{column_number, dirty_snapshot};
use crate::fault::Fault;
use pgrx::{FromDatum, pg_sys};
use std::ffi::CStr;

/// A row that such a scan has come to.
pub(crate) struct Row {
    table: pg_sys::Relation,
    tuple: pg_sys::HeapTuple,
    /// The other open transaction that has inserted it, changes or deletes it.
    pub(crate) busy: Option<pg_sys::TransactionId>,
}

impl Row {
    /// The value of a column that has this type.
    pub(crate) fn column<T: FromDatum>(&self, name: &'static CStr) -> Result<Option<T>, Fault> {
        // SAFETY: the table is open, and the tuple is one of its, whose page is pinned.
        unsafe {
            let number = column_number((*self.table).rd_id, name)?;
            let mut is_null = false;
            let datum = pg_sys::heap_getattr(self.tuple, number.into(), (*self.table).rd_att, &mut is_null);
            Ok(T::from_datum(datum, is_null))
        }
    }

    /// The same of a column that is never NULL.
    pub(crate) fn must<T: FromDatum>(&self, name: &'static CStr) -> Result<T, Fault> {
        self.column(name)?
            .ok_or_else(|| Fault::Internal(format!("table column {name:?} is NULL")))
    }
}

struct Scan {
    table: pg_sys::Relation,
    scan: pg_sys::TableScanDesc,
    snapshot: Box<pg_sys::SnapshotData>,
}

impl Drop for Scan {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that is under way closes everything
        }
        // SAFETY: opened by `each_row`, and closed once. The lock stays until the transaction ends.
        unsafe {
            pg_sys::heap_endscan(self.scan);
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// Calls `act` for each row of the table.
pub(crate) fn each_row(table: &'static CStr, mut act: impl FnMut(&Row) -> Result<(), Fault>) -> Result<(), Fault> {
    let oid = relation_oid(table)?;
    let mut snapshot = Box::new(dirty_snapshot());
    // SAFETY: the table is one of slotkeeper's, which are heaps, and is opened with a lock that lasts; the boxed snapshot outlives
    // the scan.
    let scan = unsafe {
        let table = pg_sys::table_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_STRAT;
        let (no_key, alone) = (std::ptr::null_mut(), std::ptr::null_mut());
        Scan {
            table,
            scan: pg_sys::heap_beginscan(table, &mut *snapshot, 0, no_key, alone, flags),
            snapshot,
        }
    };
    loop {
        // SAFETY: the scan is open; what it comes to is pinned until it is asked for the next.
        let tuple = unsafe { pg_sys::heap_getnext(scan.scan, pg_sys::ScanDirection::ForwardScanDirection) };
        if tuple.is_null() {
            return Ok(());
        }
        let busy = [scan.snapshot.xmin, scan.snapshot.xmax];
        act(&Row {
            table: scan.table,
            tuple,
            busy: busy.into_iter().find(|&other| other != pg_sys::InvalidTransactionId),
        })?;
        pgrx::check_for_interrupts!();
    }
}
