//! Inserting rows into slotkeeper's own tables without a query: no plan, no start and end of one, and no second look at
//! every index, which ON CONFLICT would take.
//!
//! A table as slotkeeper makes them is written the short way: the table's own routine, then each index's. Whether a row
//! belongs into a partial index is known without the expression's evaluator where the index only asks which columns are
//! NULL. For whatever else there is (a CHECK, somebody else's trigger, an index on an expression) the executor's routines
//! for rows of a plain table do it, as for logical replication.
//!
//! A row that meets an equal key raises 23505 (after waiting for an open transaction, as any INSERT). Callers have
//! looked under their locks before, so it happens only where somebody inserts without them: then a single call fails and
//! can be made again, and a batch, which runs in a subtransaction, starts over.
//!
//! Who expects to meet none need not look first: [`Inserter::insert_alone`] asks the indexes as it inserts, and is told
//! instead of waiting. The row goes in as `INSERT … ON CONFLICT` writes it: until it is confirmed nobody takes it for more than
//! an attempt, and one that met an equal key is made void before anybody has waited for it.

use super::across_rows::is_abandoned;
use super::executor::{Executor, asks_more};
use super::scan::IndexScan;
use super::statement::Value;
use super::{relation_oid, relations_generation};
use crate::fault::Fault;
use pgrx::{PgList, PgTupleDesc, pg_sys};
use std::cell::RefCell;
use std::ffi::CStr;
use std::rc::Rc;

/// What is inserted where. Columns that are not named become NULL: defaults are not looked at.
pub(crate) struct Columns {
    pub(crate) table: &'static CStr,
    /// In the order in which rows give their values.
    pub(crate) names: &'static [&'static CStr],
}

/// What has to be known of a table to write these columns of it.
struct Layout {
    /// The number and type of each.
    columns: Vec<(i16, pg_sys::Oid)>,
    /// How to write the short way; `None` where that is not possible.
    plain: Option<Plain>,
}

/// What a table asks of its rows.
struct Plain {
    /// Columns that are NOT NULL, counted from 0.
    required: Vec<usize>,
    indexes: Vec<PlainIndex>,
}

pub(super) struct PlainIndex {
    pub(super) oid: pg_sys::Oid,
    pub(super) unique: bool,
    /// Its columns in the table, counted from 0.
    pub(super) columns: Vec<usize>,
    /// Rows belong into it where each of these columns is NULL, or is not.
    pub(super) only_if: Vec<(usize, bool)>,
}

thread_local! {
    /// Layouts by the columns that they are of, and the generation of relations that they were looked up in.
    static LAYOUTS: RefCell<Layouts> = const { RefCell::new((0, Vec::new())) };
}

type Layouts = (u64, Vec<(&'static Columns, Rc<Layout>)>);

/// The next number of one of slotkeeper's sequences.
pub(crate) fn next_number(sequence: &'static CStr) -> Result<i64, Fault> {
    let sequence = relation_oid(sequence)?;
    // SAFETY: the relation is a sequence; no right to it is asked for.
    Ok(unsafe { pg_sys::nextval_internal(sequence, false) })
}

/// One of slotkeeper's tables, open for inserting.
pub(crate) struct Inserter {
    name: &'static CStr,
    table: pg_sys::Relation,
    layout: Rc<Layout>,
    by: By,
    /// Of rows that are inserted many at once.
    equals: Equals,
    /// One for each row that is inserted at once.
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    /// Where it was opened, and slots are made: a row may be given in a context that ends before.
    memory: pg_sys::MemoryContext,
}

/// Who does it.
enum By {
    /// We do; these are the indexes of the layout, open.
    Hand(Vec<pg_sys::Relation>),
    Executor(Executor),
}

/// What becomes of a row that meets an equal key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Equals {
    /// Whoever holds the key is waited for, and the row refused.
    Refused,
    /// The caller is told, at once.
    Told,
}

/// Marks a row as an attempt. The server holds a lock of this number for one, so that others sleep who meet it before it is
/// confirmed or void; without it they look again until it is, a matter of microseconds. Who takes our locks meets none.
const ATTEMPT: u32 = 1;

/// So many rows are written into the table at once.
const AT_ONCE: usize = 64;

impl Inserter {
    pub(crate) fn open(columns: &'static Columns) -> Result<Self, Fault> {
        let oid = relation_oid(columns.table)?;
        // SAFETY: the relations stay open, with their locks to the end of the transaction, until drop.
        unsafe {
            let table = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            // After the lock: nobody alters the table any more.
            let layout = layout_of(table, columns)?;
            let by = match &layout.plain {
                Some(plain) => {
                    let open = |index: &PlainIndex| {
                        pg_sys::index_open(index.oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE)
                    };
                    By::Hand(plain.indexes.iter().map(open).collect())
                }
                None => By::Executor(Executor::open(table)),
            };
            Ok(Self {
                name: columns.table,
                table,
                layout,
                by,
                equals: Equals::Refused,
                slots: vec![pg_sys::table_slot_create(table, std::ptr::null_mut())],
                memory: pg_sys::CurrentMemoryContext,
            })
        }
    }

    /// A scan for looks before it inserts, over what is open already.
    pub(crate) fn scan(&self, index: &'static CStr, keys: usize) -> Result<IndexScan, Fault> {
        let wanted = relation_oid(index)?;
        if let (Some(plain), By::Hand(open)) = (&self.layout.plain, &self.by) {
            for (known, &index) in plain.indexes.iter().zip(open) {
                if known.oid == wanted {
                    // SAFETY: both are open as long as this is, and the index is one of the table's.
                    return Ok(unsafe { IndexScan::beside(self.table, index, keys) });
                }
            }
        }
        IndexScan::open_to_write(self.name, index, keys)
    }

    /// From here on [`Inserter::insert_all`] says whether a row has met an equal key, an open transaction's included, for which
    /// it does not wait. The rows are there all the same: whoever asks for this undoes a subtransaction then. False where the
    /// executor inserts, which waits and raises 23505 as ever.
    pub(crate) fn tell_of_equals(&mut self) -> bool {
        let can_tell = self.can_tell();
        if can_tell {
            self.equals = Equals::Told;
        }
        can_tell
    }

    /// Whether a row that meets an equal key can be told of. The executor waits and raises 23505 as ever.
    pub(crate) fn can_tell(&self) -> bool {
        matches!(self.by, By::Hand(_))
    }

    /// Inserts a row, and tells where it lies: a handle for [`super::change`].
    pub(crate) fn insert(&mut self, values: &[Value<'_>]) -> Result<u64, Fault> {
        self.fill(0, values)?;
        let slot = self.slots[0];
        // SAFETY: the slot holds a row of this table; everything that the row needs is copied by the insert.
        unsafe {
            match &self.by {
                By::Hand(_) => {
                    self.check(slot)?;
                    pg_sys::simple_table_tuple_insert(self.table, slot);
                    self.enter(&[slot], Equals::Refused);
                }
                By::Executor(executor) => executor.insert(slot),
            }
            Ok(pgrx::itemptr::item_pointer_to_u64((*slot).tts_tid))
        }
    }

    /// Inserts a row, unless it meets an equal key, an open transaction's included: then it says false, has waited for nobody,
    /// and leaves nothing behind. Only where [`Inserter::can_tell`].
    pub(crate) fn insert_alone(&mut self, values: &[Value<'_>]) -> Result<bool, Fault> {
        if !self.can_tell() {
            return Err(Fault::Internal("the executor tells of no equal keys".to_owned()));
        }
        self.fill(0, values)?;
        let slot = self.slots[0];
        // SAFETY: the slot holds a row of this table.
        unsafe {
            self.check(slot)?;
            let (command, none) = (pg_sys::GetCurrentCommandId(true), std::ptr::null_mut());
            pg_sys::table_tuple_insert_speculative(self.table, slot, command, 0, none, ATTEMPT);
            let alone = self.enter(&[slot], Equals::Told);
            pg_sys::table_tuple_complete_speculative(self.table, slot, ATTEMPT, alone);
            Ok(alone)
        }
    }

    /// Inserts many rows: a page of the table is locked and logged once for all that it takes, and each index is
    /// maintained row by row. False where one has met an equal key, and that is to be told.
    pub(crate) fn insert_all<'v, R: AsRef<[Value<'v>]>>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
    ) -> Result<bool, Fault> {
        let (mut filled, mut alone) = (0, true);
        for row in rows {
            if let By::Executor(..) = self.by {
                self.insert(row.as_ref())?;
                continue;
            }
            self.fill(filled, row.as_ref())?;
            filled += 1;
            if filled == AT_ONCE {
                alone &= self.write(filled)?;
                filled = 0;
            }
        }
        Ok(self.write(filled)? && alone)
    }

    /// Whether it may be kept open. What the executor has open ends before the memory that it is in.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self.by, By::Hand(_))
    }

    /// Makes what was inserted visible to the statements that follow.
    pub(crate) fn flush(&mut self) {
        // SAFETY: no command is running: the inserts are done.
        unsafe { pg_sys::CommandCounterIncrement() };
    }

    /// Puts a row into the n-th slot.
    fn fill(&mut self, n: usize, values: &[Value<'_>]) -> Result<(), Fault> {
        // SAFETY: a slot has as many places as the table has columns; each value is of its column's type, which is
        // compared.
        unsafe {
            while self.slots.len() <= n {
                let before = pg_sys::MemoryContextSwitchTo(self.memory);
                self.slots
                    .push(pg_sys::table_slot_create(self.table, std::ptr::null_mut()));
                pg_sys::MemoryContextSwitchTo(before);
            }
            let slot = self.slots[n];
            pg_sys::ExecClearTuple(slot);
            let width = (*(*slot).tts_tupleDescriptor).natts as usize;
            let data = std::slice::from_raw_parts_mut((*slot).tts_values, width);
            let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, width);
            nulls.fill(true);
            if values.len() != self.layout.columns.len() {
                return Err(Fault::Internal("a row has another number of values".to_owned()));
            }
            for (&(number, type_oid), value) in self.layout.columns.iter().zip(values) {
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
    fn write(&mut self, rows: usize) -> Result<bool, Fault> {
        if rows == 0 {
            return Ok(true);
        }
        // SAFETY: the slots hold rows of this table, and know their places after the insert.
        unsafe {
            for &slot in &self.slots[..rows] {
                self.check(slot)?;
            }
            let (command, none) = (pg_sys::GetCurrentCommandId(true), std::ptr::null_mut());
            pg_sys::table_multi_insert(self.table, self.slots.as_mut_ptr(), rows as i32, command, 0, none);
            Ok(self.enter(&self.slots[..rows], self.equals))
        }
    }

    /// Refuses a row without a value that it must have.
    ///
    /// # Safety
    /// The slot must hold a row of this table.
    unsafe fn check(&self, slot: *mut pg_sys::TupleTableSlot) -> Result<(), Fault> {
        let Some(plain) = &self.layout.plain else { return Ok(()) };
        for &column in &plain.required {
            // SAFETY: as our caller promises; the column is one of the table's.
            if unsafe { *(*slot).tts_isnull.add(column) } {
                return Err(Fault::Internal(format!("table column {} is NULL", column + 1)));
            }
        }
        Ok(())
    }

    /// Makes the rows' entries in the indexes, in one after the other. Btrees ask for nothing more, as the server's own for
    /// toasted values do. False where there is an equal key, and that is to be told: the rest of the entries is not made then.
    ///
    /// # Safety
    /// The slots must hold rows that were just inserted into this table.
    unsafe fn enter(&self, slots: &[*mut pg_sys::TupleTableSlot], equals: Equals) -> bool {
        let (Some(plain), By::Hand(open)) = (&self.layout.plain, &self.by) else {
            return true;
        };
        // SAFETY: as our caller promises. Inserting has made tuples of the values, which are taken apart again.
        unsafe {
            for &slot in slots {
                pg_sys::slot_getsomeattrs(slot, (*(*slot).tts_tupleDescriptor).natts);
            }
        }
        let mut key = Key::default();
        for (index, &relation) in plain.indexes.iter().zip(open) {
            let unique = match (index.unique, equals) {
                (false, _) => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_NO,
                (true, Equals::Refused) => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES,
                (true, Equals::Told) => pg_sys::IndexUniqueCheck::UNIQUE_CHECK_PARTIAL,
            };
            for &slot in slots {
                // SAFETY: as our caller promises; columns are the table's, and no index has more than there is room for.
                unsafe {
                    if !key.fill(index, slot) {
                        continue;
                    }
                    let is_new = pg_sys::index_insert(
                        relation,
                        key.values.as_mut_ptr(),
                        key.nulls.as_mut_ptr(),
                        &raw mut (*slot).tts_tid,
                        self.table,
                        unique,
                        false,
                        std::ptr::null_mut(),
                    );
                    // What an index says that is not asked means nothing.
                    if !is_new && unique == pg_sys::IndexUniqueCheck::UNIQUE_CHECK_PARTIAL {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// What an index knows a row by.
pub(super) struct Key {
    pub(super) values: [pg_sys::Datum; pg_sys::INDEX_MAX_KEYS as usize],
    pub(super) nulls: [bool; pg_sys::INDEX_MAX_KEYS as usize],
}

impl Default for Key {
    fn default() -> Self {
        Self {
            values: [pg_sys::Datum::from(0); pg_sys::INDEX_MAX_KEYS as usize],
            nulls: [false; pg_sys::INDEX_MAX_KEYS as usize],
        }
    }
}

impl Key {
    /// Takes it from a row. False where the row is none of the index's.
    ///
    /// # Safety
    /// The slot must hold a row of the index's table, taken apart.
    pub(super) unsafe fn fill(&mut self, index: &PlainIndex, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: as our caller promises; columns are the table's, and no index has more than there is room for.
        unsafe {
            let is_null = |column: usize| *(*slot).tts_isnull.add(column);
            if index.only_if.iter().any(|&(column, null)| is_null(column) != null) {
                return false;
            }
            for (place, &column) in index.columns.iter().enumerate() {
                self.values[place] = *(*slot).tts_values.add(column);
                self.nulls[place] = is_null(column);
            }
        }
        true
    }
}

impl Drop for Inserter {
    fn drop(&mut self) {
        if is_abandoned() {
            return;
        }
        // SAFETY: each was opened by `open` or made by `fill`, and is closed once.
        unsafe {
            for &slot in &self.slots {
                pg_sys::ExecDropSingleTupleTableSlot(slot);
            }
            // The executor closes its own, before the table. The table's lock, which stays, keeps the indexes as they are.
            if let By::Hand(indexes) = std::mem::replace(&mut self.by, By::Hand(Vec::new())) {
                for index in indexes {
                    pg_sys::index_close(index, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
                }
            }
            pg_sys::table_close(self.table, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// # Safety
/// The table must be open.
unsafe fn layout_of(table: pg_sys::Relation, columns: &'static Columns) -> Result<Rc<Layout>, Fault> {
    let generation = relations_generation();
    let known = LAYOUTS.with_borrow(|(of, all)| {
        let mut all = all.iter().filter(|_| *of == generation);
        all.find(|(known, _)| std::ptr::eq(*known, columns))
            .map(|(_, layout)| Rc::clone(layout))
    });
    if let Some(layout) = known {
        return Ok(layout);
    }
    // SAFETY: as our caller promises.
    let layout = unsafe {
        let names = columns.names.iter();
        let columns = names.map(|name| column(table, name)).collect::<Result<Vec<_>, _>>()?;
        let plain = plain(table, &columns);
        Rc::new(Layout { columns, plain })
    };
    LAYOUTS.with_borrow_mut(|(of, all)| {
        if *of != generation {
            (*of, *all) = (generation, Vec::new());
        }
        all.push((columns, Rc::clone(&layout)));
    });
    Ok(layout)
}

/// # Safety
/// The table must be open.
unsafe fn column(table: pg_sys::Relation, name: &'static CStr) -> Result<(i16, pg_sys::Oid), Fault> {
    // SAFETY: as our caller promises; a syscache look-up of a NUL-terminated name.
    unsafe {
        let number = pg_sys::get_attnum((*table).rd_id, name.as_ptr());
        if number <= 0 {
            return Err(Fault::Internal(format!("column {} is missing", name.to_string_lossy())));
        }
        Ok((number, pg_sys::SPI_gettypeid((*table).rd_att, number.into())))
    }
}

/// How to write rows of a table the short way; `None` where only the executor knows all that is to be done.
///
/// # Safety
/// The table must be open.
unsafe fn plain(table: pg_sys::Relation, written: &[(i16, pg_sys::Oid)]) -> Option<Plain> {
    // SAFETY: as our caller promises; the list of indexes is a copy.
    unsafe {
        if asks_more(table) {
            return None;
        }
        let attributes = PgTupleDesc::from_pg_unchecked((*table).rd_att);
        let required = (0..attributes.len())
            .filter(|&n| attributes.get(n).is_some_and(|attribute| attribute.attnotnull))
            .collect();
        let mut indexes = plain_indexes(table)?;
        // What no row of ours enters need not be opened.
        let is_written = |column: usize| {
            written
                .iter()
                .any(|(number, _)| usize::try_from(*number) == Ok(column + 1))
        };
        indexes.retain(|index| index.only_if.iter().all(|&(column, null)| null || is_written(column)));
        Some(Plain { required, indexes })
    }
}

/// The indexes of a table; `None` where only the executor knows how to enter a row into one.
///
/// # Safety
/// The table must be open.
pub(super) unsafe fn plain_indexes(table: pg_sys::Relation) -> Option<Vec<PlainIndex>> {
    // SAFETY: as our caller promises; the list of indexes is a copy.
    unsafe {
        let oids = PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(table));
        oids.iter_oid().map(|oid| plain_index(oid)).collect()
    }
}

/// # Safety
/// The index must be one of a table that is open and locked.
unsafe fn plain_index(oid: pg_sys::Oid) -> Option<PlainIndex> {
    // SAFETY: as our caller promises; the index is closed again.
    unsafe {
        let index = pg_sys::index_open(oid, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let entry = (*index).rd_index;
        let numbers = (*entry).indkey.values.as_slice((*entry).indnatts as usize);
        let simple = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && (*entry).indisready
            && (*entry).indimmediate
            && !(*entry).indisexclusion;
        // An expression's number is 0.
        let columns: Option<Vec<usize>> = numbers
            .iter()
            .map(|&number| usize::try_from(number).ok()?.checked_sub(1))
            .collect();
        let conditions = PgList::<pg_sys::Node>::from_pg(pg_sys::RelationGetIndexPredicate(index));
        let only_if: Option<Vec<(usize, bool)>> = conditions.iter_ptr().map(|node| null_test(node)).collect();
        let unique = (*entry).indisunique;
        pg_sys::index_close(index, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        Some(PlainIndex {
            oid,
            unique,
            columns: columns.filter(|_| simple)?,
            only_if: only_if?,
        })
    }
}

/// The column, counted from 0, that a condition looks at, and whether it has to be NULL; `None` for any other condition.
///
/// # Safety
/// The node must be one of an index's predicate.
unsafe fn null_test(node: *mut pg_sys::Node) -> Option<(usize, bool)> {
    // SAFETY: nodes are what their tags say.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_NullTest {
            return None;
        }
        let test: *mut pg_sys::NullTest = node.cast();
        let column = (*test).arg;
        if (*test).argisrow || (*column).type_ != pg_sys::NodeTag::T_Var {
            return None;
        }
        let number = usize::try_from((*column.cast::<pg_sys::Var>()).varattno).ok()?;
        let null = (*test).nulltesttype == pg_sys::NullTestType::IS_NULL;
        Some((number.checked_sub(1)?, null))
    }
}
