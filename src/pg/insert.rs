//! Inserting ledger rows without a query: the executor's own routine for one row of a plain table, as logical
//! replication uses it. It checks constraints and maintains the indexes as any INSERT does, and saves planning,
//! a plan's start and end, and the second look that ON CONFLICT takes at every unique index.
//!
//! A row that meets an equal key raises 23505 (after waiting for an open transaction, as any INSERT). Callers have
//! looked under their locks before, so it happens only where somebody inserts without them: then a single call fails and
//! can be made again, and a batch, which runs in a subtransaction, starts over.

use super::relation_oid;
use super::time::to_timestamp;
use crate::fault::Fault;
use pgrx::{IntoDatum, pg_sys};
use slotkeeper_core::Instant;
use std::cell::Cell;
use std::ffi::CStr;

/// The columns that are written, in the order of [`NewBooking`]'s datums; the first is numbered by the sequence.
const COLUMNS: [&CStr; 10] = [
    c"booking_id",
    c"queue_id",
    c"granule",
    c"seat",
    c"source",
    c"content_id",
    c"user_id",
    c"scheduled_at",
    c"slot_ref",
    c"booked_at",
];

thread_local! {
    /// Numbers of the columns in the table of this OID.
    static NUMBERS: Cell<(pg_sys::Oid, [i16; COLUMNS.len()])> = const { Cell::new((pg_sys::InvalidOid, [0; COLUMNS.len()])) };
}

/// A live row of the ledger.
pub(crate) struct NewBooking<'a> {
    pub(crate) queue_id: i64,
    pub(crate) granule: i64,
    pub(crate) seat: i16,
    pub(crate) source: &'a str,
    pub(crate) content_id: &'a str,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) scheduled_at: Instant,
    pub(crate) slot_ref: Option<&'a str>,
    pub(crate) booked_at: Instant,
}

/// The ledger, open for inserting.
pub(crate) struct Inserter {
    table: pg_sys::Relation,
    sequence: pg_sys::Oid,
    executor: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    numbers: [i16; COLUMNS.len()],
}

impl Inserter {
    pub(crate) fn open() -> Result<Self, Fault> {
        let (oid, sequence) = (relation_oid(c"booking")?, relation_oid(c"booking_id_seq")?);
        let numbers = column_numbers(oid)?;
        // SAFETY: the relation stays open, with its lock to the end of the transaction, until drop; the executor's
        // state owns the memory of the rest. A range-table index of 0 says that there is no range table.
        unsafe {
            let table = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let executor = pg_sys::CreateExecutorState();
            let target: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(target, table, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let slot = pg_sys::table_slot_create(table, std::ptr::null_mut());
            Ok(Self {
                table,
                sequence,
                executor,
                target,
                slot,
                numbers,
            })
        }
    }

    /// Inserts a row and returns its id.
    pub(crate) fn insert(&mut self, new: &NewBooking<'_>) -> i64 {
        // SAFETY: the slot has as many places as the table has columns, and the numbers are those of columns of these
        // types; everything the row needs is copied by the insert.
        unsafe {
            let booking_id = pg_sys::nextval_internal(self.sequence, false);
            let values = [
                booking_id.into_datum(),
                new.queue_id.into_datum(),
                new.granule.into_datum(),
                new.seat.into_datum(),
                new.source.into_datum(),
                new.content_id.into_datum(),
                new.user_id.into_datum(),
                to_timestamp(new.scheduled_at).into_datum(),
                new.slot_ref.into_datum(),
                to_timestamp(new.booked_at).into_datum(),
            ];
            pg_sys::ExecClearTuple(self.slot);
            let width = (*(*self.slot).tts_tupleDescriptor).natts as usize;
            let data = std::slice::from_raw_parts_mut((*self.slot).tts_values, width);
            let nulls = std::slice::from_raw_parts_mut((*self.slot).tts_isnull, width);
            nulls.fill(true);
            for (&number, value) in self.numbers.iter().zip(values) {
                if let (Some(value), Some(column)) = (value, (number as usize).checked_sub(1)) {
                    (data[column], nulls[column]) = (value, false);
                }
            }
            pg_sys::ExecStoreVirtualTuple(self.slot);
            pg_sys::ExecSimpleRelationInsert(self.target, self.executor, self.slot);
            booking_id
        }
    }

    /// Makes what was inserted visible to the statements that follow.
    pub(crate) fn flush(&mut self) {
        // SAFETY: no command is running: the inserts are done.
        unsafe { pg_sys::CommandCounterIncrement() };
    }
}

impl Drop for Inserter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that is under way closes everything
        }
        // SAFETY: each was opened by `open` and is closed once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::ExecCloseIndices(self.target);
            pg_sys::FreeExecutorState(self.executor);
            pg_sys::pfree(self.target.cast());
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

fn column_numbers(table: pg_sys::Oid) -> Result<[i16; COLUMNS.len()], Fault> {
    let (known, numbers) = NUMBERS.get();
    if known == table {
        return Ok(numbers);
    }
    let mut numbers = [0; COLUMNS.len()];
    for (number, name) in numbers.iter_mut().zip(COLUMNS) {
        // SAFETY: a syscache look-up of a NUL-terminated name.
        *number = unsafe { pg_sys::get_attnum(table, name.as_ptr()) };
        if *number <= 0 {
            return Err(Fault::Internal(format!(
                "column booking.{} is missing",
                name.to_string_lossy()
            )));
        }
    }
    NUMBERS.set((table, numbers));
    Ok(numbers)
}
