//! Changing rows of slotkeeper's own tables without a query: the heap's routines for one row that a scan has found.
//!
//! A kept plan costs more than what it does when it does one row, and is made when its table is small: the index that
//! it has chosen then may be the wrong one later. Here the row is at hand: the caller has looked under his lock, with
//! a scan that sees uncommitted rows, and changes what he has seen. An update that changes no indexed column touches no
//! index, and opens none.
//!
//! A row that was changed meanwhile (by somebody without these locks) is waited for and then left alone: the call
//! returns false, as an UPDATE whose condition no longer holds would.

use super::relation_oid;
use super::scan::{Found, column_number};
use super::statement::Value;
use crate::fault::Fault;
use pgrx::pg_sys;
use std::ffi::CStr;

/// A table, open for changing.
pub(crate) struct Writer {
    table: pg_sys::Relation,
    /// Opened by the first change that needs the indexes.
    indexed: Option<Indexed>,
}

struct Indexed {
    executor: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
}

/// What a column is set to.
pub(crate) type Set<'a> = (&'static CStr, Value<'a>);

/// A value for each column of the table, whether it is NULL, and whether it is set.
type Columns = (Vec<pg_sys::Datum>, Vec<bool>, Vec<bool>);

impl Writer {
    pub(crate) fn open(table: &'static CStr) -> Result<Self, Fault> {
        let oid = relation_oid(table)?;
        // SAFETY: the relation stays open, with its lock to the end of the transaction, until drop.
        let table = unsafe { pg_sys::table_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
        Ok(Self { table, indexed: None })
    }

    fn indexed(&mut self) -> &Indexed {
        let table = self.table;
        self.indexed.get_or_insert_with(|| {
            // SAFETY: the table is open; the executor's state owns the memory of the rest. A range-table index of 0 says
            // that there is no range table.
            unsafe {
                let executor = pg_sys::CreateExecutorState();
                let target: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
                (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
                pg_sys::InitResultRelInfo(target, table, 0, std::ptr::null_mut(), 0);
                pg_sys::ExecOpenIndices(target, false);
                let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsHeapTuple);
                Indexed { executor, target, slot }
            }
        })
    }

    fn columns(&self, set: &[Set<'_>]) -> Result<Columns, Fault> {
        // SAFETY: the table is open.
        let (oid, width) = unsafe { ((*self.table).rd_id, (*(*self.table).rd_att).natts as usize) };
        let (mut values, mut nulls, mut named) = (
            vec![pg_sys::Datum::from(0); width],
            vec![true; width],
            vec![false; width],
        );
        for (name, value) in set {
            let place = column_number(oid, name)? as usize - 1;
            named[place] = true;
            if let Some(datum) = value.datum() {
                (values[place], nulls[place]) = (datum, false);
            }
        }
        Ok((values, nulls, named))
    }

    /// Inserts a row. Columns that are not named are NULL, whatever their default is.
    pub(crate) fn insert(&mut self, set: &[Set<'_>]) -> Result<(), Fault> {
        let (mut values, mut nulls, _) = self.columns(set)?;
        let table = self.table;
        let to = self.indexed();
        // SAFETY: as many values as the table has columns, of their types; the executor checks NOT NULL and CHECK.
        unsafe {
            let tuple = pg_sys::heap_form_tuple((*table).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::ExecStoreHeapTuple(tuple, to.slot, false);
            pg_sys::ExecSimpleRelationInsert(to.target, to.executor, to.slot);
            pg_sys::ExecClearTuple(to.slot);
            pg_sys::CommandCounterIncrement();
        }
        Ok(())
    }

    /// Updates the row that a scan of this table has reached. False where it was changed meanwhile.
    pub(crate) fn update(&mut self, row: &Found<'_>, set: &[Set<'_>]) -> Result<bool, Fault> {
        let (mut values, mut nulls, mut named) = self.columns(set)?;
        // SAFETY: the row is one of this table, and stays in its buffer while the scan stands on it; the new tuple is
        // ours. Entries are added to the indexes as the executor would.
        unsafe {
            let mut must_free = false;
            let old = pg_sys::ExecFetchSlotHeapTuple(row.slot(), false, &mut must_free);
            let new = pg_sys::heap_modify_tuple(
                old,
                (*self.table).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
                named.as_mut_ptr(),
            );
            let mut failure = pg_sys::TM_FailureData::default();
            let mut mode: pg_sys::LockTupleMode::Type = 0;
            #[cfg(not(feature = "pg15"))]
            let mut indexes: pg_sys::TU_UpdateIndexes::Type = 0;
            let result = pg_sys::heap_update(
                self.table,
                &mut (*old).t_self,
                new,
                pg_sys::GetCurrentCommandId(true),
                std::ptr::null_mut(),
                true,
                &mut failure,
                &mut mode,
                #[cfg(not(feature = "pg15"))]
                &mut indexes,
            );
            if result != pg_sys::TM_Result::TM_Ok {
                return Ok(false);
            }
            #[cfg(feature = "pg15")]
            let on_page = u32::from((*(*new).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE != 0;
            #[cfg(not(feature = "pg15"))]
            let on_page = indexes == pg_sys::TU_UpdateIndexes::TU_None;
            if !on_page {
                let to = self.indexed();
                pg_sys::ExecStoreHeapTuple(new, to.slot, false);
                pg_sys::ExecInsertIndexTuples(
                    to.target,
                    to.slot,
                    to.executor,
                    false,
                    false,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    #[cfg(not(feature = "pg15"))]
                    false,
                );
                pg_sys::ExecClearTuple(to.slot);
            }
            pg_sys::CommandCounterIncrement();
        }
        Ok(true)
    }

    /// Deletes the row that a scan of this table has reached. False where it was changed meanwhile.
    pub(crate) fn delete(&mut self, row: &Found<'_>) -> bool {
        // SAFETY: the row is one of this table; the heap checks it again under the buffer's lock.
        unsafe {
            let mut at = (*row.slot()).tts_tid;
            let mut failure = pg_sys::TM_FailureData::default();
            let result = pg_sys::heap_delete(
                self.table,
                &mut at,
                pg_sys::GetCurrentCommandId(true),
                std::ptr::null_mut(),
                true,
                &mut failure,
                false,
            );
            let gone = result == pg_sys::TM_Result::TM_Ok;
            if gone {
                pg_sys::CommandCounterIncrement();
            }
            gone
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that is under way closes everything
        }
        // SAFETY: each was opened by this and is closed once.
        unsafe {
            if let Some(to) = self.indexed.take() {
                pg_sys::ExecDropSingleTupleTableSlot(to.slot);
                pg_sys::ExecCloseIndices(to.target);
                pg_sys::FreeExecutorState(to.executor);
                pg_sys::pfree(to.target.cast());
            }
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}
