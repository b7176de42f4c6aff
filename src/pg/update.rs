//! Changing one of slotkeeper's own rows without a query: a row that a scan has just read, or that this transaction has
//! just inserted.
//!
//! It neither waits nor raises 40001: a row that somebody else has changed since, or is at, is told as such. Who
//! decided by what he read may therefore rely on it: what was changed is the very version that was read.

use super::insert::insert_index_entries;
use super::relation_oid;
use super::scan::dirty_snapshot;
use super::statement::Value;
use crate::fault::Fault;
use pgrx::pg_sys;
use std::ffi::CStr;

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done,
    /// Somebody else was quicker.
    Overtaken,
    /// The table has triggers, which only a statement fires.
    Triggers,
}

/// Gives columns of a row other values. `id` is the row's handle, `values` are the columns' numbers and values; the row's
/// key must stay what it is. No constraint is checked.
pub(crate) fn update(table: &'static CStr, id: u64, values: &[(i32, Value<'_>)]) -> Result<Changed, Fault> {
    let table = relation_oid(table)?;
    // SAFETY: the relation is open while it is used. The handle is of a row that was visible within this statement, whose
    // snapshot keeps vacuum from giving its place to another; heap_update checks again under the buffer lock.
    unsafe {
        let heap = pg_sys::table_open(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let changed = if (*heap).trigdesc.is_null() {
            change(heap, id, values)
        } else {
            Ok(Changed::Triggers)
        };
        pg_sys::table_close(heap, pg_sys::NoLock as pg_sys::LOCKMODE);
        changed
    }
}

/// # Safety
/// The table is open and locked for writing, and the handle is of a row that this statement has seen.
unsafe fn change(heap: pg_sys::Relation, id: u64, values: &[(i32, Value<'_>)]) -> Result<Changed, Fault> {
    let (mut columns, mut datums, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for (number, value) in values {
        // SAFETY: the relation is open; the server checks the number.
        if unsafe { pg_sys::SPI_gettypeid((*heap).rd_att, *number) } != value.type_oid() {
            return Err(Fault::Internal(format!("table column {number} has another type")));
        }
        let datum = value.datum();
        columns.push(*number);
        nulls.push(datum.is_none());
        datums.push(datum.unwrap_or(pg_sys::Datum::from(0)));
    }
    // SAFETY: the values are of their columns' types; the old tuple is read while its buffer is pinned; the new one is
    // copied into the table.
    unsafe {
        let mut tid = pg_sys::ItemPointerData::default();
        pgrx::itemptr::u64_to_item_pointer(id, &mut tid);
        let mut old = pg_sys::HeapTupleData {
            t_self: tid,
            ..Default::default()
        };
        let (mut snapshot, mut buffer) = (dirty_snapshot(), 0);
        if !pg_sys::heap_fetch(heap, &mut snapshot, &mut old, &mut buffer, false) {
            return Ok(Changed::Overtaken);
        }
        let new = pg_sys::heap_modify_tuple_by_cols(
            &mut old,
            (*heap).rd_att,
            columns.len() as i32,
            columns.as_mut_ptr(),
            datums.as_mut_ptr(),
            nulls.as_mut_ptr(),
        );
        pg_sys::ReleaseBuffer(buffer);
        let done = heap_update(heap, &mut tid, new) == pg_sys::TM_Result::TM_Ok;
        if done {
            if u32::from((*(*new).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE == 0 {
                index(heap, new);
            }
            pg_sys::CommandCounterIncrement();
        }
        pg_sys::heap_freetuple(new);
        Ok(if done { Changed::Done } else { Changed::Overtaken })
    }
}

/// # Safety
/// The new tuple is one of the table's, as heap_modify_tuple makes it.
unsafe fn heap_update(
    heap: pg_sys::Relation,
    tid: &mut pg_sys::ItemPointerData,
    new: pg_sys::HeapTuple,
) -> pg_sys::TM_Result::Type {
    let mut failure = pg_sys::TM_FailureData::default();
    let mut lock = pg_sys::LockTupleMode::LockTupleNoKeyExclusive;
    let (no_crosscheck, wait) = (std::ptr::null_mut(), false);
    // SAFETY: as our caller promises; what it tells of is ours.
    unsafe {
        let command = pg_sys::GetCurrentCommandId(true);
        #[cfg(feature = "pg15")]
        return pg_sys::heap_update(heap, tid, new, command, no_crosscheck, wait, &mut failure, &mut lock);
        #[cfg(not(feature = "pg15"))]
        {
            let mut indexes = pg_sys::TU_UpdateIndexes::TU_None;
            pg_sys::heap_update(
                heap,
                tid,
                new,
                command,
                no_crosscheck,
                wait,
                &mut failure,
                &mut lock,
                &mut indexes,
            )
        }
    }
}

/// Enters a row that has moved to another page into the table's indexes.
///
/// # Safety
/// The tuple is in the table, and the indexes don't know it.
unsafe fn index(heap: pg_sys::Relation, tuple: pg_sys::HeapTuple) {
    // SAFETY: all that is made here is freed here. A range-table index of 0 says that there is no range table.
    unsafe {
        let executor = pg_sys::CreateExecutorState();
        let target: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
        (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
        pg_sys::InitResultRelInfo(target, heap, 0, std::ptr::null_mut(), 0);
        pg_sys::ExecOpenIndices(target, false);
        let slot = pg_sys::table_slot_create(heap, std::ptr::null_mut());
        pg_sys::ExecForceStoreHeapTuple(tuple, slot, false);
        (*slot).tts_tid = (*tuple).t_self;
        insert_index_entries(target, slot, executor);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::ExecCloseIndices(target);
        pg_sys::FreeExecutorState(executor);
        pg_sys::pfree(target.cast());
    }
}
