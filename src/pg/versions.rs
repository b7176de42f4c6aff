//! Entering new versions of rows into a table's indexes, which every update must that changes an indexed column or finds no room
//! on its page.
//!
//! Most of the indexes know the row already under the same key. Whoever changes a row holds it, and with it its keys: that no other
//! row has one of them need not be looked up again, as it need not be where an update stays on its page.

use super::across_rows::is_abandoned;
use super::insert::{Key, PlainIndex, plain_indexes};
use pgrx::pg_sys;

/// The indexes of a table, open for new versions of its rows.
pub(super) struct Versions {
    table: pg_sys::Relation,
    indexes: Vec<(PlainIndex, pg_sys::Relation)>,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Versions {
    /// `None` where only the executor knows how to enter a row into one of them.
    ///
    /// # Safety
    /// The table must stay open, and the current memory context live, for longer than what is returned.
    pub(super) unsafe fn open(table: pg_sys::Relation) -> Option<Self> {
        // SAFETY: as our caller promises. The indexes stay open, with their locks to the end of the transaction, until drop.
        unsafe {
            let open = |index: PlainIndex| {
                let relation = pg_sys::index_open(index.oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
                (index, relation)
            };
            let indexes = plain_indexes(table)?.into_iter().map(open).collect();
            let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsHeapTuple);
            Some(Self { table, indexes, slot })
        }
    }

    /// Enters a new version of a row. `changed` are the numbers of the columns that may differ from the one that it replaces.
    ///
    /// # Safety
    /// The tuple must lie in the table, in the place of a version with the same values in all other columns, and no index may
    /// know it.
    pub(super) unsafe fn enter(&self, tuple: pg_sys::HeapTuple, changed: &[i32]) {
        let differs = |column: usize| changed.iter().any(|&number| usize::try_from(number) == Ok(column + 1));
        // SAFETY: as our caller promises; columns are the table's, and no index has more than there is room for.
        unsafe {
            pg_sys::ExecStoreHeapTuple(tuple, self.slot, false);
            pg_sys::slot_getsomeattrs(self.slot, (*(*self.slot).tts_tupleDescriptor).natts);
            let mut key = Key::default();
            for (index, relation) in &self.indexes {
                if !key.fill(index, self.slot) {
                    continue;
                }
                let mut read = index
                    .columns
                    .iter()
                    .chain(index.only_if.iter().map(|(column, _)| column));
                let is_known = !read.any(|&column| differs(column));
                let check = match index.unique && !is_known {
                    true => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                    false => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                };
                pg_sys::index_insert(
                    *relation,
                    key.values.as_mut_ptr(),
                    key.nulls.as_mut_ptr(),
                    &raw mut (*tuple).t_self,
                    self.table,
                    check,
                    is_known,
                    std::ptr::null_mut(),
                );
            }
            pg_sys::ExecClearTuple(self.slot);
        }
    }
}

impl Drop for Versions {
    fn drop(&mut self) {
        if is_abandoned() {
            return; // the abort that is under way closes everything
        }
        // SAFETY: each was opened by `open`, and is closed once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            for (_, relation) in &self.indexes {
                pg_sys::index_close(*relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
    }
}
