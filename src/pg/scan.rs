//! Index scans that see more than a query can: rows that other transactions have not committed yet.
//!
//! This is how a caller steps over a seat that somebody holds without waiting for him, as the server's own unique
//! checks look before they wait. Rows come in index order; a row that changes while the scan runs may be seen in
//! either state, so whoever decides looks again under a lock, and the unique indexes have the last word.

use super::across_rows::is_abandoned;
use super::change::heap_delete;
use super::json::Jsonb;
use super::relation_oid;
use super::time::{from_timestamp, to_timestamp};
use crate::fault::Fault;
use pgrx::{FromDatum, IntoDatum, PgSqlErrorCode, pg_sys};
use slotkeeper_core::Instant;
use std::cell::RefCell;
use std::ffi::{CStr, c_char};

/// A condition on one column of an index, in the order of its columns.
#[derive(Clone, Copy)]
pub(crate) enum Key<'a> {
    Is(i64),
    IsTrue(bool),
    /// In the collation of the index.
    IsText(&'a str),
    IsInt2(i16),
    IsInt4(i32),
    IsUuid([u8; 16]),
    AtLeast(i64),
    AtMost(i64),
    Below(i64),
    AtLeastTime(Instant),
    AtMostTime(Instant),
}

impl Key<'_> {
    /// Strategy number, collation, comparison function and argument.
    fn parts(&self) -> (u32, pg_sys::Oid, u32, Option<pg_sys::Datum>) {
        let (eq, none) = (pg_sys::BTEqualStrategyNumber, pg_sys::InvalidOid);
        match *self {
            Self::Is(v) => (eq, none, pg_sys::F_INT8EQ, v.into_datum()),
            Self::IsTrue(v) => (eq, none, pg_sys::F_BOOLEQ, v.into_datum()),
            Self::IsText(v) => (eq, none, pg_sys::F_TEXTEQ, v.into_datum()),
            Self::IsInt2(v) => (eq, none, pg_sys::F_INT2EQ, v.into_datum()),
            Self::IsInt4(v) => (eq, none, pg_sys::F_INT4EQ, v.into_datum()),
            Self::IsUuid(v) => (eq, none, pg_sys::F_UUID_EQ, pgrx::Uuid::from_bytes(v).into_datum()),
            Self::AtLeast(v) => (
                pg_sys::BTGreaterEqualStrategyNumber,
                none,
                pg_sys::F_INT8GE,
                v.into_datum(),
            ),
            Self::AtMost(v) => (
                pg_sys::BTLessEqualStrategyNumber,
                none,
                pg_sys::F_INT8LE,
                v.into_datum(),
            ),
            Self::Below(v) => (pg_sys::BTLessStrategyNumber, none, pg_sys::F_INT8LT, v.into_datum()),
            Self::AtLeastTime(v) => (
                pg_sys::BTGreaterEqualStrategyNumber,
                none,
                pg_sys::F_TIMESTAMPTZ_GE,
                to_timestamp(v).into_datum(),
            ),
            Self::AtMostTime(v) => (
                pg_sys::BTLessEqualStrategyNumber,
                none,
                pg_sys::F_TIMESTAMPTZ_LE,
                to_timestamp(v).into_datum(),
            ),
        }
    }
}

/// Direction of a scan.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Which rows a scan sees.
#[derive(Clone, Copy)]
pub(crate) enum See {
    /// Those of open transactions too.
    Uncommitted,
    /// What is committed now, and the caller's own.
    Committed,
}

/// What a scan is a part of.
#[derive(Clone, Copy)]
enum To {
    Read,
    Write,
}

/// A scan over one index, of one of slotkeeper's tables mostly.
pub(crate) struct IndexScan {
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    scan: pg_sys::IndexScanDesc,
    snapshot: Snapshot,
    /// Where it was opened. What the index keeps from one entry to the next (dead ones to mark) is made there too: a callback
    /// that searches may run in a context that ends before the scan does.
    memory: pg_sys::MemoryContext,
    order: pg_sys::ScanDirection::Type,
    /// Numbers of the index's columns in the table.
    columns: Vec<i32>,
    /// The last of them in the table: a row is taken apart so far.
    last_column: i32,
    /// Entries looked at, those that lead to no visible row included; where they are counted.
    steps: Option<u64>,
}

pub(super) fn dirty_snapshot() -> pg_sys::SnapshotData {
    pg_sys::SnapshotData {
        snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
        ..Default::default()
    }
}

enum Snapshot {
    Dirty(Box<pg_sys::SnapshotData>),
    Registered(pg_sys::Snapshot),
}

impl Snapshot {
    fn take(see: See) -> Self {
        match see {
            See::Uncommitted => Self::Dirty(Box::new(dirty_snapshot())),
            // SAFETY: registered until it is dropped.
            See::Committed => Self::Registered(unsafe { pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()) }),
        }
    }

    fn raw(&mut self) -> pg_sys::Snapshot {
        match self {
            Self::Dirty(data) => &mut **data,
            Self::Registered(registered) => *registered,
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // The abort that follows an error unregisters it.
        if let Self::Registered(snapshot) = self
            && !is_abandoned()
        {
            // SAFETY: registered by `take`, and unregistered once.
            unsafe { pg_sys::UnregisterSnapshot(*snapshot) };
        }
    }
}

impl IndexScan {
    /// Opens a scan whose every search has `keys` conditions.
    pub(crate) fn open(table: &'static CStr, index: &'static CStr, keys: usize, see: See) -> Result<Self, Fault> {
        Ok(Self::open_at(
            relation_oid(table)?,
            relation_oid(index)?,
            keys,
            see,
            To::Read,
        ))
    }

    /// The same as a part of what ends with a row in this table, uncommitted rows of others included: with the locks that the
    /// insert needs, which then has no others to ask for.
    pub(crate) fn open_to_write(table: &'static CStr, index: &'static CStr, keys: usize) -> Result<Self, Fault> {
        let (table, index) = (relation_oid(table)?, relation_oid(index)?);
        Ok(Self::open_at(table, index, keys, See::Uncommitted, To::Write))
    }

    fn open_at(table: pg_sys::Oid, index: pg_sys::Oid, keys: usize, see: See, to: To) -> Self {
        let lock = match to {
            To::Read => pg_sys::AccessShareLock,
            To::Write => pg_sys::RowExclusiveLock,
        } as pg_sys::LOCKMODE;
        // SAFETY: the relations are opened with a lock that lasts to the end of the transaction, as a query would. The index
        // has a lock of its own, though its table has one: ALTER INDEX … SET TABLESPACE and, for readers, REINDEX ask for none
        // of the table that would conflict.
        unsafe {
            let heap = pg_sys::table_open(table, lock);
            let index = pg_sys::index_open(index, lock);
            Self::of_open(heap, index, keys, see)
        }
    }

    /// The same over an index of a table that are both open, and locked, for whoever inserts there; uncommitted rows of others
    /// are seen.
    ///
    /// # Safety
    /// Table and index must be open, and belong together.
    pub(super) unsafe fn beside(heap: pg_sys::Relation, index: pg_sys::Relation, keys: usize) -> Self {
        // SAFETY: as our caller promises. Counted once more, for the scan closes what it has.
        unsafe {
            pg_sys::RelationIncrementReferenceCount(heap);
            pg_sys::RelationIncrementReferenceCount(index);
            Self::of_open(heap, index, keys, See::Uncommitted)
        }
    }

    /// # Safety
    /// Table and index must be open, belong together, and be the scan's to close.
    unsafe fn of_open(heap: pg_sys::Relation, index: pg_sys::Relation, keys: usize, see: See) -> Self {
        // SAFETY: as our caller promises; the snapshot outlives the scan (boxed, or registered until drop).
        unsafe {
            let attributes = (*(*index).rd_index).indnatts as usize;
            let columns: Vec<i32> = (*(*index).rd_index)
                .indkey
                .values
                .as_slice(attributes)
                .iter()
                .map(|&c| c.into())
                .collect();
            let last_column = columns.iter().copied().max().unwrap_or(0);
            let mut snapshot = Snapshot::take(see);
            let raw = snapshot.raw();
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(heap, index, raw, keys as i32, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(heap, index, raw, std::ptr::null_mut(), keys as i32, 0);
            let slot = pg_sys::table_slot_create(heap, std::ptr::null_mut());
            let order = pg_sys::ScanDirection::ForwardScanDirection;
            Self {
                heap,
                index,
                slot,
                scan,
                snapshot,
                memory: pg_sys::CurrentMemoryContext,
                order,
                columns,
                last_column,
                steps: None,
            }
        }
    }

    /// From here on it counts its steps.
    pub(crate) fn counting(mut self) -> Self {
        self.steps = Some(0);
        self
    }

    /// From the next search on the scan sees other rows. Committed are those that are it now.
    pub(crate) fn see(&mut self, see: See) {
        let mut snapshot = Snapshot::take(see);
        // SAFETY: the scan is open. It reads its snapshot when it fetches a row, none of which it is asked for before the next
        // search; the snapshot lives as long as the scan.
        unsafe { (*self.scan).xs_snapshot = snapshot.raw() };
        self.snapshot = snapshot;
    }

    /// Starts over, at the first row that fits. `keys` are (number of the index's column, condition).
    pub(crate) fn search(&mut self, keys: &[(i16, Key<'_>)], order: Order) {
        let mut scan_keys = vec![pg_sys::ScanKeyData::default(); keys.len()];
        for (entry, (column, key)) in scan_keys.iter_mut().zip(keys) {
            let (strategy, mut collation, function, argument) = key.parts();
            if matches!(key, Key::IsText(_)) {
                // SAFETY: an index has a collation for each of its key columns.
                collation = unsafe { *(*self.index).rd_indcollation.add((*column - 1) as usize) };
            }
            // SAFETY: entry is a ScanKeyData of ours; function is a built-in comparison of the column's type.
            unsafe {
                pg_sys::ScanKeyEntryInitialize(
                    entry,
                    0,
                    *column,
                    strategy as pg_sys::StrategyNumber,
                    pg_sys::InvalidOid,
                    collation,
                    pg_sys::Oid::from(function),
                    argument.unwrap_or(pg_sys::Datum::from(0)),
                );
            }
        }
        self.order = match order {
            Order::Ascending => pg_sys::ScanDirection::ForwardScanDirection,
            Order::Descending => pg_sys::ScanDirection::BackwardScanDirection,
        };
        // SAFETY: as many keys as the scan was opened with; the scan copies them. The context lives as long as the scan.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::index_rescan(
                self.scan,
                scan_keys.as_mut_ptr(),
                keys.len() as i32,
                std::ptr::null_mut(),
                0,
            );
            pg_sys::MemoryContextSwitchTo(before);
        }
    }

    /// The next row, or none.
    pub(crate) fn next(&mut self) -> Option<Found<'_>> {
        // SAFETY: scan and slot belong together, and the context lives as long. Counted, this is index_getnext_slot, which does
        // not tell how far it has gone.
        let found = unsafe {
            let before = pg_sys::MemoryContextSwitchTo(self.memory);
            let found = match &mut self.steps {
                None => pg_sys::index_getnext_slot(self.scan, self.order, self.slot),
                Some(steps) => loop {
                    if !(*self.scan).xs_heap_continue {
                        *steps += 1;
                        if pg_sys::index_getnext_tid(self.scan, self.order).is_null() {
                            break false;
                        }
                    }
                    if pg_sys::index_fetch_heap(self.scan, self.slot) {
                        break true;
                    }
                },
            };
            pg_sys::MemoryContextSwitchTo(before);
            found
        };
        found.then_some(Found { scan: self })
    }

    /// The row that [`IndexScan::next`] gave last. After a `next` that found no further row there is none: what it has
    /// passed over lies in its place.
    pub(crate) fn current(&self) -> Found<'_> {
        Found { scan: self }
    }

    /// Whether the row that the scan has reached is still what it was: nobody has changed it since, or is at it.
    pub(crate) fn is_still(&self) -> bool {
        // SAFETY: the slot keeps the row's page pinned, so that its place is not given to another.
        unsafe {
            let mut row = pg_sys::HeapTupleData {
                t_self: (*self.slot).tts_tid,
                ..Default::default()
            };
            let (mut snapshot, mut buffer) = (dirty_snapshot(), 0);
            let there = pg_sys::heap_fetch(self.heap, &mut snapshot, &mut row, &mut buffer, false);
            if there {
                pg_sys::ReleaseBuffer(buffer);
            }
            there && (snapshot.xmin, snapshot.xmax) == (pg_sys::InvalidTransactionId, pg_sys::InvalidTransactionId)
        }
    }

    /// Lets go of the row that it has reached, and of the pages: who cleans them up need not wait for a scan that stays open.
    /// The next thing asked of it is a search.
    pub(crate) fn rest(&mut self) {
        // SAFETY: the scan and its slot are open; starting over without conditions keeps the ones there are.
        unsafe {
            pg_sys::index_rescan(self.scan, std::ptr::null_mut(), 0, std::ptr::null_mut(), 0);
            pg_sys::ExecClearTuple(self.slot);
        }
    }

    /// How many entries this scan has looked at since it counts them.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.unwrap_or(0)
    }
}

impl Drop for IndexScan {
    fn drop(&mut self) {
        if is_abandoned() {
            return;
        }
        // SAFETY: each was opened by `open` and is closed once. Relation locks stay until the transaction ends.
        unsafe {
            pg_sys::index_endscan(self.scan);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::index_close(self.index, pg_sys::NoLock as pg_sys::LOCKMODE);
            pg_sys::table_close(self.heap, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
    }
}

/// The row that a scan has reached.
pub(crate) struct Found<'s> {
    scan: &'s IndexScan,
}

impl Found<'_> {
    /// The value of the index's n-th column, from 1, included ones too. All of slotkeeper's are NOT NULL.
    pub(crate) fn get<T: FromDatum>(&self, n: usize) -> Result<T, Fault> {
        let column = self.scan.columns.get(n.wrapping_sub(1)).copied().unwrap_or(0);
        // SAFETY: an index's columns are the table's; the type is what the index was declared with.
        let value = unsafe {
            let (datum, is_null) = self.attribute(column);
            T::from_datum(datum, is_null)
        };
        value.ok_or_else(|| Fault::Internal(format!("index column {n} is NULL")))
    }

    /// The value of a column by its number in the table.
    ///
    /// # Safety
    /// The table must have this column.
    unsafe fn attribute(&self, number: i32) -> (pg_sys::Datum, bool) {
        let slot = self.scan.slot;
        let Ok(place) = usize::try_from(number - 1) else {
            return (pg_sys::Datum::from(0), true); // an expression of the index
        };
        // SAFETY: as our caller promises; the slot holds the current row. What is taken apart already is read without asking the
        // server, which would say the same.
        unsafe {
            if i32::from((*slot).tts_nvalid) < number {
                pg_sys::slot_getsomeattrs(slot, number.max(self.scan.last_column));
            }
            (*(*slot).tts_values.add(place), *(*slot).tts_isnull.add(place))
        }
    }

    /// The instant in the index's n-th column.
    pub(crate) fn instant(&self, n: usize) -> Result<Instant, Fault> {
        let timestamp: pg_sys::TimestampTz = self.get(n)?;
        from_timestamp(timestamp).ok_or_else(|| Fault::Internal(format!("index column {n} is infinite")))
    }

    /// The value of any column of the row, by its name.
    pub(crate) fn column<T: FromDatum>(&self, name: &'static CStr) -> Result<Option<T>, Fault> {
        let (datum, is_null) = self.datum(name)?;
        // SAFETY: the datum is the current row's; callers ask for the column's type.
        Ok(unsafe { T::from_datum(datum, is_null) })
    }

    /// The same of a column that is never NULL.
    pub(crate) fn must_have<T: FromDatum>(&self, name: &'static CStr) -> Result<T, Fault> {
        self.column(name)?
            .ok_or_else(|| Fault::Internal(format!("table column {name:?} is NULL")))
    }

    /// The instant in any column of the row.
    pub(crate) fn time(&self, name: &'static CStr) -> Result<Option<Instant>, Fault> {
        Ok(self.column(name)?.and_then(from_timestamp))
    }

    /// Whether a column of the row is NULL.
    pub(crate) fn is_null(&self, name: &'static CStr) -> Result<bool, Fault> {
        Ok(self.datum(name)?.1)
    }

    fn datum(&self, name: &'static CStr) -> Result<(pg_sys::Datum, bool), Fault> {
        let number = column_number(self.table(), name)?;
        // SAFETY: the table has this column.
        Ok(unsafe { self.attribute(number.into()) })
    }

    /// Where the row is.
    pub(super) fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        self.scan.slot
    }

    /// The value of a column of the table by its number; `None` when it is NULL.
    ///
    /// # Safety
    /// The column must have this type.
    unsafe fn raw<T: FromDatum>(&self, number: i32) -> Option<T> {
        // SAFETY: as our caller promises.
        unsafe {
            let (datum, is_null) = self.attribute(number);
            T::from_datum(datum, is_null)
        }
    }

    /// The value of a column of the table by its number, checked against the column's type; `None` when it is NULL.
    pub(crate) fn value<T: FromDatum + IntoDatum>(&self, number: i32) -> Result<Option<T>, Fault> {
        if !T::is_compatible_with(self.type_of(number)) {
            return Err(Fault::Internal(format!("table column {number} has another type")));
        }
        // SAFETY: the type was just compared.
        Ok(unsafe { self.raw(number) })
    }

    /// The same of a column that is never NULL.
    pub(crate) fn must<T: FromDatum + IntoDatum>(&self, number: i32) -> Result<T, Fault> {
        self.value(number)?
            .ok_or_else(|| Fault::Internal(format!("table column {number} is NULL")))
    }

    /// The instant in a timestamptz column that is never NULL or infinite.
    pub(crate) fn instant_at(&self, number: i32) -> Result<slotkeeper_core::Instant, Fault> {
        let timestamp: pgrx::datum::TimestampWithTimeZone = self.must(number)?;
        super::time::from_timestamp(timestamp.into())
            .ok_or_else(|| Fault::Internal(format!("table column {number} is infinite")))
    }

    /// A copy of the value of a jsonb column; `None` when it is NULL.
    pub(crate) fn jsonb(&self, number: i32) -> Result<Option<Jsonb>, Fault> {
        if self.type_of(number) != pg_sys::JSONBOID {
            return Err(Fault::Internal(format!("table column {number} is no jsonb")));
        }
        // SAFETY: the table has this column, which is a jsonb, and the copy is plain and ours.
        unsafe {
            let (datum, is_null) = self.attribute(number);
            Ok((!is_null).then(|| Jsonb::from_plain(pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr()).into())))
        }
    }

    fn type_of(&self, number: i32) -> pg_sys::Oid {
        // SAFETY: the relation is open while the scan is; the server checks the number.
        unsafe { pg_sys::SPI_gettypeid((*self.scan.heap).rd_att, number) }
    }

    /// The table that the row is in.
    pub(crate) fn table(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open while the scan is.
        unsafe { (*self.scan.heap).rd_id }
    }

    /// Whether its table has a trigger of this name that fires also for replicated rows.
    pub(super) fn has_trigger(&self, name: &CStr) -> bool {
        // SAFETY: the relation is open, and locked against changes of its triggers, while the scan is.
        unsafe {
            let Some(all) = (*self.scan.heap).trigdesc.as_ref() else {
                return false;
            };
            let all = std::slice::from_raw_parts(all.triggers, usize::try_from(all.numtriggers).unwrap_or(0));
            all.iter().any(|trigger| {
                u32::from(trigger.tgenabled as u8) == u32::from(pg_sys::TRIGGER_FIRES_ALWAYS)
                    && CStr::from_ptr(trigger.tgname) == name
            })
        }
    }

    /// Where the row lies: a handle for [`delete_unless_busy`].
    pub(crate) fn id(&self) -> u64 {
        // SAFETY: the slot holds the current row.
        pgrx::itemptr::item_pointer_to_u64(unsafe { (*self.scan.slot).tts_tid })
    }

    /// Whether this very transaction inserted the row.
    pub(crate) fn is_own(&self) -> bool {
        let mut is_null = false;
        // SAFETY: the slot holds the current row, a heap tuple, which has this system column.
        unsafe {
            let attribute = pg_sys::MinTransactionIdAttributeNumber;
            let datum = pg_sys::slot_getsysattr(self.scan.slot, attribute, &mut is_null);
            let inserter = pg_sys::TransactionId::from_datum(datum, is_null);
            inserter.is_some_and(|transaction| pg_sys::TransactionIdIsCurrentTransactionId(transaction))
        }
    }

    /// Whether this row of this transaction's own was inserted by the command or a later one, not by an update.
    fn is_first_version_of(&self, command: pg_sys::CommandId) -> bool {
        let mut must_free = false;
        // SAFETY: the slot holds the current row, a heap tuple that this transaction has inserted.
        unsafe {
            let tuple = pg_sys::ExecFetchSlotHeapTuple(self.scan.slot, false, &mut must_free);
            let header = (*tuple).t_data;
            u32::from((*header).t_infomask) & pg_sys::HEAP_UPDATED == 0
                && pg_sys::HeapTupleHeaderGetCmin(header) >= command
        }
    }

    /// The other transaction that inserted this row and has not ended.
    pub(crate) fn inserter(&self) -> Option<pg_sys::TransactionId> {
        self.dirty().map(|snapshot| snapshot.xmin).filter(is_valid)
    }

    /// The other transaction that changes or deletes this row and has not ended.
    pub(crate) fn changer(&self) -> Option<pg_sys::TransactionId> {
        self.dirty().map(|snapshot| snapshot.xmax).filter(is_valid)
    }

    /// The other transaction that has locked this row alone, to change it or not, and has not ended. Not one of several, who share it.
    pub(crate) fn locker(&self) -> Option<pg_sys::TransactionId> {
        let mut must_free = false;
        // SAFETY: the slot holds the current row, a heap tuple, whose page is pinned. Whoever is read in its header is asked
        // about, so that it matters little that he may be changing it meanwhile.
        unsafe {
            let tuple = pg_sys::ExecFetchSlotHeapTuple(self.scan.slot, false, &mut must_free);
            let header = (*tuple).t_data;
            let flags = u32::from((*header).t_infomask);
            let only_locks = flags & pg_sys::HEAP_XMAX_LOCK_ONLY != 0;
            let nobody = flags & (pg_sys::HEAP_XMAX_INVALID | pg_sys::HEAP_XMAX_IS_MULTI) != 0;
            let transaction = (*header).t_choice.t_heap.t_xmax;
            let is_another_at_work = only_locks
                && !nobody
                && !pg_sys::TransactionIdIsCurrentTransactionId(transaction)
                && pg_sys::TransactionIdIsInProgress(transaction);
            is_another_at_work.then_some(transaction)
        }
    }

    fn dirty(&self) -> Option<&pg_sys::SnapshotData> {
        match &self.scan.snapshot {
            Snapshot::Dirty(snapshot) => Some(snapshot),
            Snapshot::Registered(_) => None,
        }
    }
}

thread_local! {
    /// Numbers of columns by table and name. A column's number never changes.
    static NUMBERS: RefCell<Vec<(pg_sys::Oid, *const c_char, i16)>> = const { RefCell::new(Vec::new()) };
}

/// The number of a column of one of slotkeeper's tables. Names are told apart by where they lie: each constant is looked
/// up once.
pub(super) fn column_number(table: pg_sys::Oid, name: &'static CStr) -> Result<i16, Fault> {
    let at = name.as_ptr();
    let known = NUMBERS.with_borrow(|all| {
        let known = all.iter().find(|known| (known.0, known.1) == (table, at));
        known.map(|known| known.2)
    });
    if let Some(number) = known {
        return Ok(number);
    }
    // SAFETY: a syscache look-up of a NUL-terminated name.
    let number = unsafe { pg_sys::get_attnum(table, at) };
    if number <= 0 {
        return Err(Fault::Internal(format!("column {} is missing", name.to_string_lossy())));
    }
    NUMBERS.with_borrow_mut(|all| {
        // Tables of an extension that was dropped and made again, again and again.
        if all.len() > 512 {
            all.clear();
        }
        all.push((table, at, number));
    });
    Ok(number)
}

fn is_valid(transaction: &pg_sys::TransactionId) -> bool {
    *transaction != pg_sys::InvalidTransactionId
}

/// Whether a table of the application has a row with this id, one of an open transaction included. Needs an index that
/// begins with the column, and looks with nobody's rights: only that the row is there comes out.
pub(crate) fn row_exists(table: pg_sys::Oid, column: i16, id: &str) -> Result<bool, Fault> {
    Ok(row_scan(table, column, id)?.is_some_and(|mut scan| scan.next().is_some()))
}

/// Who is at a row of the application's.
pub(crate) struct Present {
    /// The other open transaction that has inserted it.
    pub(crate) inserter: Option<pg_sys::TransactionId>,
    /// The other open transaction that updates or deletes it.
    pub(crate) changer: Option<pg_sys::TransactionId>,
    /// This transaction has written it.
    pub(crate) is_own: bool,
    /// How many rows have the id. One that somebody else is changing may count twice.
    pub(crate) versions: usize,
}

/// The same, and who is at the row.
pub(crate) fn present_row(table: pg_sys::Oid, column: i16, id: &str) -> Result<Option<Present>, Fault> {
    let Some(mut scan) = row_scan(table, column, id)? else {
        return Ok(None);
    };
    let mut found: Option<Present> = None;
    while let Some(row) = scan.next() {
        let before = found.take();
        found = Some(Present {
            inserter: row.inserter().or(before.as_ref().and_then(|before| before.inserter)),
            changer: row.changer().or(before.as_ref().and_then(|before| before.changer)),
            is_own: row.is_own(),
            versions: before.map_or(1, |before| before.versions + 1),
        });
    }
    Ok(found)
}

/// Whether one of the rows with this id passes. False where no index is left that begins with the column.
pub(crate) fn any_row_with(
    table: pg_sys::Oid,
    column: i16,
    id: &str,
    passes: impl Fn(&Found<'_>) -> bool,
) -> Result<bool, Fault> {
    let Some(mut scan) = index_on(table, column).and_then(|index| row_scan_in(index, table, column, id)) else {
        return Ok(false);
    };
    while let Some(row) = scan.next() {
        if passes(&row) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the row with this id was inserted by this command of this transaction, or by a later one, and has not been
/// updated since.
pub(crate) fn row_is_inserted_since(
    table: pg_sys::Oid,
    column: i16,
    id: &str,
    command: pg_sys::CommandId,
) -> Result<bool, Fault> {
    let Some(mut scan) = row_scan(table, column, id)? else {
        return Ok(false);
    };
    while let Some(row) = scan.next() {
        if row.is_own() && row.is_first_version_of(command) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A scan over the rows with this id; `None` where the text can be no id of the column's type.
fn row_scan(table: pg_sys::Oid, column: i16, id: &str) -> Result<Option<IndexScan>, Fault> {
    let index = index_on(table, column).ok_or_else(|| no_index(table, column))?;
    Ok(row_scan_in(index, table, column, id))
}

fn no_index(table: pg_sys::Oid, column: i16) -> Fault {
    // SAFETY: both look a name up, and return a palloc'd C string, or null where there is none.
    let (table, column) = unsafe {
        let text = |name: *mut std::ffi::c_char| {
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        };
        (
            text(pg_sys::get_rel_name(table)),
            text(pg_sys::get_attname(table, column, true)),
        )
    };
    let (table, column) = (table.unwrap_or_default(), column.unwrap_or_default());
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("no index tells the rows of {table} apart by their ids"),
        format!("Column {column} had a unique index when the table was attached."),
        "Make it again, or detach the table.",
    )
}

/// The same over this index, which begins with the column.
fn row_scan_in(index: pg_sys::Oid, table: pg_sys::Oid, column: i16, id: &str) -> Option<IndexScan> {
    // SAFETY: a syscache look-up.
    let key = match unsafe { pg_sys::getBaseType(pg_sys::get_atttype(table, column)) } {
        pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(Key::IsText(id)),
        pg_sys::INT2OID => id.parse().ok().map(Key::IsInt2),
        pg_sys::INT4OID => id.parse().ok().map(Key::IsInt4),
        pg_sys::INT8OID => id.parse().ok().map(Key::Is),
        pg_sys::UUIDOID => uuid(id).map(Key::IsUuid),
        _ => None,
    }?;
    let mut scan = IndexScan::open_at(table, index, 1, See::Uncommitted, To::Read);
    scan.search(&[(1, key)], Order::Ascending);
    Some(scan)
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut bytes = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A valid btree index over all rows of the table that begins with this column; a unique one first.
fn index_on(table: pg_sys::Oid, column: i16) -> Option<pg_sys::Oid> {
    // SAFETY: the relations are open while they are read.
    unsafe {
        let heap = pg_sys::table_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let all = pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(heap));
        let mut best = None;
        for oid in all.iter_oid() {
            let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let about = (*index).rd_index;
            let columns = (*about).indkey.values.as_slice((*about).indnatts as usize);
            let fits = (*about).indisvalid
                && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
                && (*index).rd_indpred.is_null()
                && columns.first() == Some(&column);
            if fits && (best.is_none() || ((*about).indisunique && (*about).indnkeyatts == 1)) {
                best = Some(oid);
            }
            pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
        pg_sys::table_close(heap, pg_sys::NoLock as pg_sys::LOCKMODE);
        best
    }
}

/// Deletes rows by handle, except those that are gone or that another transaction is at: nobody waits and nothing
/// fails, at any isolation level. Only for tables whose rows are hints.
pub(crate) fn delete_unless_busy(table: &'static CStr, ids: &[u64]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    let table = relation_oid(table)?;
    // SAFETY: the handles come from scans of this statement, whose snapshot keeps vacuum from giving the places to
    // other rows. heap_fetch passes only rows that are visible (not one that this very transaction has deleted
    // since), and heap_delete checks again under the buffer lock.
    unsafe {
        let heap = pg_sys::table_open(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let mut dirty = dirty_snapshot();
        for &id in ids {
            let mut tid = pg_sys::ItemPointerData::default();
            pgrx::itemptr::u64_to_item_pointer(id, &mut tid);
            let mut tuple = pg_sys::HeapTupleData {
                t_self: tid,
                ..Default::default()
            };
            let mut buffer: pg_sys::Buffer = 0;
            if !pg_sys::heap_fetch(heap, &mut dirty, &mut tuple, &mut buffer, false) {
                continue;
            }
            pg_sys::ReleaseBuffer(buffer);
            if dirty.xmax != pg_sys::InvalidTransactionId {
                continue;
            }
            heap_delete(heap, &mut tid, false);
        }
        pg_sys::table_close(heap, pg_sys::NoLock as pg_sys::LOCKMODE);
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}
