//! Inserting rows into slotkeeper's own tables without a query: the executor's own routines for rows of a plain table, as
//! logical replication and COPY use them. They check constraints and maintain the indexes as any INSERT does, and save
//! planning, a plan's start and end, and the second look that ON CONFLICT takes at every unique index.
//!
//! A row that meets an equal key raises 23505 (after waiting for an open transaction, as any INSERT). Callers have
//! looked under their locks before, so it happens only where somebody inserts without them: then a single call fails and
//! can be made again, and a batch, which runs in a subtransaction, starts over.

use super::statement::Value;
use super::{relation_oid, relations_generation};
use crate::fault::Fault;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

/// What is inserted where. Columns that are not named become NULL: defaults are not looked at.
pub(crate) struct Columns {
    pub(crate) table: &'static CStr,
    /// In the order in which rows give their values.
    pub(crate) names: &'static [&'static CStr],
}

/// The number and type of each of these columns.
type Layout = Rc<[(i16, pg_sys::Oid)]>;

thread_local! {
    /// Layouts by the columns that they are of, and the generation of relations that they were looked up in.
    static LAYOUTS: RefCell<(u64, Vec<(&'static Columns, Layout)>)> = const { RefCell::new((0, Vec::new())) };
}

/// The next number of one of slotkeeper's sequences.
pub(crate) fn next_number(sequence: &'static CStr) -> Result<i64, Fault> {
    let sequence = relation_oid(sequence)?;
    // SAFETY: the relation is a sequence; no right to it is asked for.
    Ok(unsafe { pg_sys::nextval_internal(sequence, false) })
}

/// One of slotkeeper's tables, open for inserting.
pub(crate) struct Inserter {
    table: pg_sys::Relation,
    executor: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    /// One for each row that is inserted at once.
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    layout: Layout,
}

/// So many rows are written into the table at once.
const AT_ONCE: usize = 64;

impl Inserter {
    pub(crate) fn open(columns: &'static Columns) -> Result<Self, Fault> {
        let oid = relation_oid(columns.table)?;
        // SAFETY: the relation stays open, with its lock to the end of the transaction, until drop; the executor's
        // state owns the memory of the rest. A range-table index of 0 says that there is no range table.
        unsafe {
            let table = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            let executor = pg_sys::CreateExecutorState();
            let target: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(target, table, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let mut inserter = Self {
                table,
                executor,
                target,
                slots: vec![pg_sys::table_slot_create(table, std::ptr::null_mut())],
                layout: [].into(),
            };
            // After the lock: nobody alters the table any more.
            inserter.layout = inserter.layout_of(columns)?;
            Ok(inserter)
        }
    }

    fn layout_of(&self, columns: &'static Columns) -> Result<Layout, Fault> {
        let generation = relations_generation();
        let known = LAYOUTS.with_borrow(|(of, all)| {
            let mut all = all.iter().filter(|_| *of == generation);
            all.find(|(known, _)| std::ptr::eq(*known, columns))
                .map(|(_, layout)| Rc::clone(layout))
        });
        if let Some(layout) = known {
            return Ok(layout);
        }
        let layout: Layout = columns
            .names
            .iter()
            .map(|name| self.column(name))
            .collect::<Result<_, _>>()?;
        LAYOUTS.with_borrow_mut(|(of, all)| {
            if *of != generation {
                (*of, *all) = (generation, Vec::new());
            }
            all.push((columns, Rc::clone(&layout)));
        });
        Ok(layout)
    }

    fn column(&self, name: &'static CStr) -> Result<(i16, pg_sys::Oid), Fault> {
        // SAFETY: the relation is open; a syscache look-up of a NUL-terminated name.
        unsafe {
            let number = pg_sys::get_attnum((*self.table).rd_id, name.as_ptr());
            if number <= 0 {
                return Err(Fault::Internal(format!("column {} is missing", name.to_string_lossy())));
            }
            Ok((number, pg_sys::SPI_gettypeid((*self.table).rd_att, number.into())))
        }
    }

    /// Inserts a row, and tells where it lies: a handle for [`super::update`].
    pub(crate) fn insert(&mut self, values: &[Value<'_>]) -> Result<u64, Fault> {
        self.fill(0, values)?;
        // SAFETY: the slot holds a row of this table; everything that the row needs is copied by the insert.
        unsafe {
            pg_sys::ExecSimpleRelationInsert(self.target, self.executor, self.slots[0]);
            Ok(pgrx::itemptr::item_pointer_to_u64((*self.slots[0]).tts_tid))
        }
    }

    /// Inserts many rows: a page of the table is locked and logged once for all that it takes, and each index is
    /// maintained row by row.
    pub(crate) fn insert_all<'v, R: AsRef<[Value<'v>]>>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
    ) -> Result<(), Fault> {
        let mut filled = 0;
        for row in rows {
            if self.has_triggers() {
                self.insert(row.as_ref())?;
                continue;
            }
            self.fill(filled, row.as_ref())?;
            filled += 1;
            if filled == AT_ONCE {
                self.write(filled);
                filled = 0;
            }
        }
        self.write(filled);
        Ok(())
    }

    /// Makes what was inserted visible to the statements that follow.
    pub(crate) fn flush(&mut self) {
        // SAFETY: no command is running: the inserts are done.
        unsafe { pg_sys::CommandCounterIncrement() };
    }

    /// slotkeeper has none on its tables, but somebody else may.
    fn has_triggers(&self) -> bool {
        // SAFETY: the relation is open.
        unsafe { !(*self.target).ri_TrigDesc.is_null() }
    }

    /// Puts a row into the n-th slot.
    fn fill(&mut self, n: usize, values: &[Value<'_>]) -> Result<(), Fault> {
        // SAFETY: a slot has as many places as the table has columns; each value is of its column's type, which is
        // compared.
        unsafe {
            while self.slots.len() <= n {
                self.slots
                    .push(pg_sys::table_slot_create(self.table, std::ptr::null_mut()));
            }
            let slot = self.slots[n];
            pg_sys::ExecClearTuple(slot);
            let width = (*(*slot).tts_tupleDescriptor).natts as usize;
            let data = std::slice::from_raw_parts_mut((*slot).tts_values, width);
            let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, width);
            nulls.fill(true);
            if values.len() != self.layout.len() {
                return Err(Fault::Internal("a row has another number of values".to_owned()));
            }
            for (&(number, type_oid), value) in self.layout.iter().zip(values) {
                if value.type_oid() != type_oid {
                    return Err(Fault::Internal(format!("table column {number} has another type")));
                }
                if let (Some(value), Some(column)) = (value.datum(), (number as usize).checked_sub(1)) {
                    (data[column], nulls[column]) = (value, false);
                }
            }
            pg_sys::ExecStoreVirtualTuple(slot);
        }
        Ok(())
    }

    /// Inserts what is in the first slots.
    fn write(&mut self, rows: usize) {
        let Some(slots) = self.slots.get_mut(..rows).filter(|slots| !slots.is_empty()) else {
            return;
        };
        // SAFETY: the slots hold rows of this table, and know their places after the insert. The order is the
        // executor's: constraints, table, indexes.
        unsafe {
            for &slot in slots.iter() {
                if !(*(*self.table).rd_att).constr.is_null() {
                    pg_sys::ExecConstraints(self.target, slot, self.executor);
                }
            }
            let (command, none) = (pg_sys::GetCurrentCommandId(true), std::ptr::null_mut());
            pg_sys::table_multi_insert(self.table, slots.as_mut_ptr(), rows as i32, command, 0, none);
            for &slot in slots.iter() {
                insert_index_entries(self.target, slot, self.executor);
                let context = (*self.executor).es_per_tuple_exprcontext;
                if !context.is_null() {
                    pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
                }
            }
        }
    }
}

/// # Safety
/// The slot must hold a row that was just inserted into the target.
pub(super) unsafe fn insert_index_entries(
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    executor: *mut pg_sys::EState,
) {
    let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: as our caller promises; neither an update nor ON CONFLICT.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::ExecInsertIndexTuples(target, slot, executor, false, false, none, nothing);
        #[cfg(not(feature = "pg15"))]
        pg_sys::ExecInsertIndexTuples(target, slot, executor, false, false, none, nothing, false);
    }
}

impl Drop for Inserter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that is under way closes everything
        }
        // SAFETY: each was opened by `open` or made by `fill`, and is closed once.
        unsafe {
            for &slot in &self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            pg_sys::ExecCloseIndices(self.target);
            pg_sys::FreeExecutorState(self.executor);
            pg_sys::pfree(self.target.cast());
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}
