//! Changing rows of slotkeeper's own tables without a query: the heap's routines for one row that a scan has found, or that
//! this transaction has just inserted.
//!
//! A kept plan costs more than what it does when it does one row, and is made when its table is small: the index that
//! it has chosen then may be the wrong one later. Here the row is at hand: the caller has looked under his lock, with
//! a scan that sees uncommitted rows, and changes what he has seen. An update that changes no indexed column touches no
//! index, and opens none. A table that asks more than that of its rows is left to the executor.
//!
//! A row that was changed meanwhile (by somebody without these locks) is left alone, which is told; nothing raises 40001.
//! Who decided by what he read may therefore rely on it: what was changed is the very version that was read.

use super::across_rows::is_abandoned;
use super::executor::{Entries, Executor, asks_more};
use super::relation_oid;
use super::scan::{Found, column_number, dirty_snapshot};
use super::statement::Value;
use super::versions::Versions;
use crate::fault::Fault;
use pgrx::{PgMemoryContexts, pg_sys};
use std::ffi::CStr;

/// A table, open for changing.
pub(crate) struct Writer {
    table: pg_sys::Relation,
    asks_more: bool,
    /// Opened by the first change that needs the indexes, in the context where the table was.
    versions: Option<Versions>,
    /// The same where only the executor knows how to enter a row into them.
    executor: Option<Executor>,
    memory: pg_sys::MemoryContext,
}

/// What a column is set to.
pub(crate) type Set<'a> = (&'static CStr, Value<'a>);

/// What became of a change by handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Done,
    /// Somebody else was quicker.
    Overtaken,
    /// The table asks more of its rows (triggers, a CHECK): a statement must do it.
    AsksMore,
}

impl Writer {
    pub(crate) fn open(table: &'static CStr) -> Result<Self, Fault> {
        let oid = relation_oid(table)?;
        // SAFETY: the relation stays open, with its lock to the end of the transaction, until drop.
        unsafe {
            let table = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            Ok(Self {
                table,
                asks_more: asks_more(table),
                versions: None,
                executor: None,
                memory: pg_sys::CurrentMemoryContext,
            })
        }
    }

    /// Closes what must not stay open with it: the executor's ends before the memory that it is in.
    pub(crate) fn rest(&mut self) {
        self.executor = None;
    }

    fn executor(&mut self) -> &Executor {
        let (table, memory) = (self.table, self.memory);
        self.executor.get_or_insert_with(|| {
            // SAFETY: the table is open, and the context lives, as long as we do.
            unsafe { PgMemoryContexts::For(memory).switch_to(|_| Executor::open(table)) }
        })
    }

    /// Enters a row's new version into the indexes.
    ///
    /// # Safety
    /// As [`Versions::enter`] says.
    unsafe fn enter(&mut self, new: pg_sys::HeapTuple, entries: Entries, changed: &[i32]) {
        // SAFETY: as our caller promises; the table is open, and the context lives, as long as we do.
        unsafe {
            if entries == Entries::All && self.versions.is_none() && self.executor.is_none() {
                let table = self.table;
                self.versions = PgMemoryContexts::For(self.memory).switch_to(|_| Versions::open(table));
            }
            match &self.versions {
                Some(versions) if entries == Entries::All => versions.enter(new, changed),
                _ => self.executor().enter(new, entries),
            }
        }
    }

    /// A row with other values in some columns, and their numbers.
    ///
    /// # Safety
    /// The tuple must be one of this table.
    unsafe fn modified(&self, old: pg_sys::HeapTuple, set: &[Set<'_>]) -> Result<(pg_sys::HeapTuple, Vec<i32>), Fault> {
        let (mut numbers, mut values, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in set {
            // SAFETY: the table is open.
            let (oid, columns) = unsafe { ((*self.table).rd_id, (*self.table).rd_att) };
            let number = i32::from(column_number(oid, name)?);
            // SAFETY: the table is open; the server checks the number.
            if unsafe { pg_sys::SPI_gettypeid(columns, number) } != value.type_oid() {
                return Err(Fault::Internal(format!("table column {number} has another type")));
            }
            let datum = value.datum();
            numbers.push(number);
            nulls.push(datum.is_none());
            values.push(datum.unwrap_or(pg_sys::Datum::from(0)));
        }
        // SAFETY: as our caller promises; the values are of their columns' types.
        let new = unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                old,
                (*self.table).rd_att,
                numbers.len() as i32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            )
        };
        Ok((new, numbers))
    }

    /// Puts a new version in the place of the one that lies there.
    ///
    /// # Safety
    /// The tuple must be made of the one that was seen there.
    unsafe fn replace(
        &mut self,
        at: &mut pg_sys::ItemPointerData,
        (new, changed): &(pg_sys::HeapTuple, Vec<i32>),
        wait: bool,
    ) -> bool {
        // SAFETY: as our caller promises; the heap checks the old version again under the buffer's lock. It tells in the
        // tuple where it has put it, and whether on the same page, also where it has stored a toasted copy.
        unsafe {
            let Some(entries) = heap_update(self.table, at, *new, wait) else {
                return false;
            };
            if entries != Entries::None {
                self.enter(*new, entries, changed);
            }
            pg_sys::CommandCounterIncrement();
        }
        true
    }

    /// Updates the row that a scan of this table has reached. Waits for whoever is at it; false where it was changed.
    pub(crate) fn update(&mut self, row: &Found<'_>, set: &[Set<'_>]) -> Result<bool, Fault> {
        // SAFETY: the row is one of this table, and stays in its buffer while the scan stands on it; the new tuple is ours.
        unsafe {
            let mut must_free = false;
            let old = pg_sys::ExecFetchSlotHeapTuple(row.slot(), false, &mut must_free);
            let new = self.modified(old, set)?;
            let done = if self.asks_more {
                let done = self.executor().update(row.slot(), new.0);
                pg_sys::CommandCounterIncrement();
                done
            } else {
                let mut at = (*row.slot()).tts_tid;
                self.replace(&mut at, &new, true)
            };
            pg_sys::heap_freetuple(new.0);
            Ok(done)
        }
    }

    /// Updates the row with this handle, which was visible within this statement. Waits for nobody. The row's key must stay
    /// what it is.
    pub(crate) fn update_at(&mut self, id: u64, set: &[Set<'_>]) -> Result<Changed, Fault> {
        if self.asks_more {
            return Ok(Changed::AsksMore);
        }
        // SAFETY: the statement's snapshot keeps vacuum from giving the row's place to another; the old tuple is read while
        // its buffer is pinned.
        unsafe {
            let mut at = pg_sys::ItemPointerData::default();
            pgrx::itemptr::u64_to_item_pointer(id, &mut at);
            let mut old = pg_sys::HeapTupleData {
                t_self: at,
                ..Default::default()
            };
            let (mut snapshot, mut buffer) = (dirty_snapshot(), 0);
            if !pg_sys::heap_fetch(self.table, &mut snapshot, &mut old, &mut buffer, false) {
                return Ok(Changed::Overtaken);
            }
            let new = self.modified(&mut old, set);
            pg_sys::ReleaseBuffer(buffer);
            let new = new?;
            let done = self.replace(&mut at, &new, false);
            pg_sys::heap_freetuple(new.0);
            Ok(if done { Changed::Done } else { Changed::Overtaken })
        }
    }

    /// Deletes the row that a scan of this table has reached. False where it was changed meanwhile.
    pub(crate) fn delete(&mut self, row: &Found<'_>) -> bool {
        // SAFETY: the row is one of this table; the heap checks it again under the buffer's lock.
        unsafe {
            let done = if self.asks_more {
                self.executor().delete(row.slot());
                true
            } else {
                heap_delete(self.table, &mut (*row.slot()).tts_tid.clone(), true)
            };
            if done {
                pg_sys::CommandCounterIncrement();
            }
            done
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if is_abandoned() {
            return; // the abort that is under way closes everything
        }
        // Both close the indexes, before the table.
        (self.versions, self.executor) = (None, None);
        // SAFETY: opened by `open`, and closed once.
        unsafe { pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE) };
    }
}

/// The heap's update, and which indexes have to be told; `None` where the old version is no longer the latest or, without
/// waiting, somebody is at it.
///
/// # Safety
/// The tuple must be one for this table, made of the one that was seen there.
unsafe fn heap_update(
    table: pg_sys::Relation,
    at: &mut pg_sys::ItemPointerData,
    new: pg_sys::HeapTuple,
    wait: bool,
) -> Option<Entries> {
    let mut failure = pg_sys::TM_FailureData::default();
    let mut lock = pg_sys::LockTupleMode::LockTupleNoKeyExclusive;
    let no_crosscheck = std::ptr::null_mut();
    // SAFETY: as our caller promises; what it tells of is ours.
    unsafe {
        let command = pg_sys::GetCurrentCommandId(true);
        #[cfg(feature = "pg15")]
        let result = pg_sys::heap_update(table, at, new, command, no_crosscheck, wait, &mut failure, &mut lock);
        #[cfg(not(feature = "pg15"))]
        let mut told = pg_sys::TU_UpdateIndexes::TU_None;
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::heap_update(
            table,
            at,
            new,
            command,
            no_crosscheck,
            wait,
            &mut failure,
            &mut lock,
            &mut told,
        );
        if result != pg_sys::TM_Result::TM_Ok {
            return None;
        }
        #[cfg(feature = "pg15")]
        return Some(
            match u32::from((*(*new).t_data).t_infomask2) & pg_sys::HEAP_ONLY_TUPLE {
                0 => Entries::All,
                _ => Entries::None,
            },
        );
        #[cfg(not(feature = "pg15"))]
        Some(match told {
            pg_sys::TU_UpdateIndexes::TU_None => Entries::None,
            pg_sys::TU_UpdateIndexes::TU_Summarizing => Entries::Summarizing,
            _ => Entries::All,
        })
    }
}

/// The heap's delete. False where the version is no longer the latest or, without waiting, somebody is at it.
///
/// # Safety
/// The place must be one of a row of this table that this statement has seen.
pub(super) unsafe fn heap_delete(table: pg_sys::Relation, at: &mut pg_sys::ItemPointerData, wait: bool) -> bool {
    let mut failure = pg_sys::TM_FailureData::default();
    // SAFETY: as our caller promises.
    unsafe {
        let (command, no_crosscheck) = (pg_sys::GetCurrentCommandId(true), std::ptr::null_mut());
        pg_sys::heap_delete(table, at, command, no_crosscheck, wait, &mut failure, false) == pg_sys::TM_Result::TM_Ok
    }
}
