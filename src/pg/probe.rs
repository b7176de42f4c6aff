//! Looking up one key in a unique index of an application's table, rows of open transactions included.
//!
//! Like [`super::scan`], but over an index whose columns are known only at run time. It evaluates nothing but the
//! index's own equality operators, which any insert into the table evaluates too, with the caller's rights. It tells
//! whether a key is there, which the unique index tells everybody who may insert, and nothing else of a row: row
//! security and SELECT rights have no say.

use super::index_key::with_key;
use super::running::Upsert;
use super::table::{Column, Flaw, RegClass, Table, UniqueIndex, input};
use super::trigger::Record;
use crate::fault::Fault;
use pgrx::{FromDatum, pg_sys};

/// One part of a key.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) column: Column,
    pub(crate) value: Option<pg_sys::Datum>,
}

impl Part {
    /// The part that a text, or NULL, is in this column.
    pub(crate) fn read(column: Column, text: Option<&str>) -> Result<Self, Fault> {
        let value = text.map(|text| input(&column, text)).transpose()?;
        Ok(Self { column, value })
    }

    /// A hash of the value that is equal for equal values, as the column's type sees it; the same for all values of a
    /// type that cannot be hashed.
    pub(crate) fn hash64(&self) -> u64 {
        let Some(value) = self.value else { return 1 };
        // SAFETY: the entry lives as long as the backend; its function hashes values of the column's type.
        unsafe {
            let entry =
                pg_sys::lookup_type_cache(self.column.type_oid, pg_sys::TYPECACHE_HASH_EXTENDED_PROC_FINFO as i32);
            let function = &mut (*entry).hash_extended_proc_finfo;
            if function.fn_oid == pg_sys::InvalidOid {
                return 0;
            }
            let seed = pg_sys::Datum::from(0);
            pg_sys::FunctionCall2Coll(function, self.column.collation, value, seed).value() as u64
        }
    }
}

/// What a [`Probe`] is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Look,
    /// To lock rows, too.
    Lock,
}

/// Who is at the row with a key, and where it is.
pub(crate) struct Standing {
    /// Other open transactions that change, delete or lock it. Those that only keep its key from changing, as foreign keys do,
    /// don't count.
    pub(crate) holders: Vec<pg_sys::TransactionId>,
    /// Where nobody has, and it is committed or this transaction's own: the row.
    pub(crate) free: Option<FreeRow>,
}

/// A row that nobody is at.
#[derive(Clone, Copy)]
pub(crate) struct FreeRow {
    place: pg_sys::ItemPointerData,
    /// Whether the column that was asked about is NULL.
    pub(crate) is_null: bool,
}

/// A unique index, open for looking up keys.
pub(crate) struct Probe {
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    slot: *mut pg_sys::TupleTableSlot,
    scan: pg_sys::IndexScanDesc,
    snapshot: Box<pg_sys::SnapshotData>,
    keys: Vec<pg_sys::ScanKeyData>,
}

impl Probe {
    /// Opens an index of this table; `parts` has one for each of its key columns, in any order.
    pub(crate) fn open(table: &Table, index: &UniqueIndex, parts: &[Part], to: Use) -> Result<Self, Fault> {
        let ordered: Option<Vec<Option<pg_sys::Datum>>> = index
            .columns
            .iter()
            .map(|&number| parts.iter().find(|part| part.column.number == number))
            .map(|part| part.map(|part| part.value))
            .collect();
        let ordered = ordered.ok_or_else(|| Fault::Internal(format!("a key of {} has no value", index.name)))?;
        Ok(Self::open_key(table, index, &ordered, to))
    }

    /// The same for a key whose parts are in the order of the index's columns, and of their types.
    fn open_key(table: &Table, index: &UniqueIndex, key: &[Option<pg_sys::Datum>], to: Use) -> Self {
        let mut snapshot = Box::new(pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        });
        // SAFETY: the relations are opened with locks that last; the boxed snapshot outlives the scan.
        unsafe {
            // Before anything else is locked: this may wait for somebody who locks the whole table.
            let mode = match to {
                Use::Look => pg_sys::AccessShareLock,
                Use::Lock => pg_sys::RowShareLock,
            };
            let heap = pg_sys::table_open(table.oid(), mode as pg_sys::LOCKMODE);
            let relation = pg_sys::index_open(index.oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let keys: Vec<_> = (0..).zip(key).map(|(n, &value)| scan_key(relation, n, value)).collect();
            let (raw, count): (pg_sys::Snapshot, _) = (&mut *snapshot, keys.len() as i32);
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(heap, relation, raw, count, 0);
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(heap, relation, raw, std::ptr::null_mut(), count, 0);
            let slot = pg_sys::table_slot_create(heap, std::ptr::null_mut());
            Self {
                heap,
                index: relation,
                slot,
                scan,
                snapshot,
                keys,
            }
        }
    }

    /// Whether a row has this key, with `value` in the n-th column of the index, from 0. It tells who put it there.
    pub(crate) fn taken(&mut self, n: usize, value: pg_sys::Datum) -> Option<pg_sys::TransactionId> {
        if let Some(key) = self.keys.get_mut(n) {
            key.sk_argument = value;
        }
        self.rescan();
        // SAFETY: scan and slot belong together; a heap tuple has this system column.
        unsafe {
            if !pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                return None;
            }
            let mut is_null = false;
            let attribute = pg_sys::MinTransactionIdAttributeNumber;
            let datum = pg_sys::slot_getsysattr(self.slot, attribute, &mut is_null);
            Some(pg_sys::TransactionId::from_datum(datum, is_null).unwrap_or(pg_sys::InvalidTransactionId))
        }
    }

    /// Who is at the row with this key, and what it has in a column.
    pub(crate) fn standing(&mut self, column: &Column) -> Standing {
        let (mut holders, mut rows, mut uncommitted) = (Vec::new(), Vec::new(), false);
        self.rescan();
        // SAFETY: scan and slot belong together, and the slot holds a tuple of the table, which has the column.
        unsafe {
            while pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                if self.snapshot.xmax != pg_sys::InvalidTransactionId {
                    holders.push(self.snapshot.xmax);
                }
                uncommitted |= self.snapshot.xmin != pg_sys::InvalidTransactionId;
                let mut copied = false;
                let tuple = pg_sys::ExecFetchSlotHeapTuple(self.slot, false, &mut copied);
                lockers(&*(*tuple).t_data, &mut holders);
                let mut is_null = false;
                pg_sys::slot_getattr(self.slot, column.number.into(), &mut is_null);
                rows.push(FreeRow {
                    place: (*self.slot).tts_tid,
                    is_null,
                });
            }
        }
        let free = match *rows {
            [row] if holders.is_empty() && !uncommitted => Some(row),
            _ => None,
        };
        Standing { holders, free }
    }

    /// Locks the row as FOR NO KEY UPDATE SKIP LOCKED does; false where somebody has changed or locked it since. Whether the
    /// caller may is for him to know: no right and no policy is asked.
    pub(crate) fn lock(&mut self, row: FreeRow) -> bool {
        let (mut place, mut failure) = (row.place, pg_sys::TM_FailureData::default());
        // SAFETY: the place was read under the relation's lock, in this call; whatever is there now, the server looks at it. The
        // slot is one of the table's.
        unsafe {
            let result = pg_sys::table_tuple_lock(
                self.heap,
                &mut place,
                &mut *self.snapshot,
                self.slot,
                pg_sys::GetCurrentCommandId(true),
                pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                pg_sys::LockWaitPolicy::LockWaitSkip,
                0,
                &mut failure,
            );
            pg_sys::ExecClearTuple(self.slot);
            result == pg_sys::TM_Result::TM_Ok
        }
    }

    /// Whether a row has this key, and who is at it. One that is to be updated is locked, unless it is this transaction's own.
    fn meet(&mut self, upsert: Upsert) -> Met {
        loop {
            self.rescan();
            // SAFETY: scan and slot belong together, and the slot holds a heap tuple.
            let (row, holders) = unsafe {
                if !pg_sys::index_getnext_slot(self.scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                    return Met::Nothing;
                }
                for other in [self.snapshot.xmin, self.snapshot.xmax] {
                    if other != pg_sys::InvalidTransactionId {
                        return Met::Busy(other);
                    }
                }
                if upsert == Upsert::LeavesIt {
                    return Met::Row;
                }
                let mut copied = false;
                let header = &*(*pg_sys::ExecFetchSlotHeapTuple(self.slot, false, &mut copied)).t_data;
                if pg_sys::TransactionIdIsCurrentTransactionId(pg_sys::HeapTupleHeaderGetXmin(header)) {
                    return Met::Row;
                }
                let mut holders = Vec::new();
                lockers(header, &mut holders);
                let row = FreeRow {
                    place: (*self.slot).tts_tid,
                    is_null: false,
                };
                (row, holders)
            };
            if let Some(&holder) = holders.first() {
                return Met::Busy(holder);
            }
            if self.lock(row) {
                return Met::Row;
            }
        }
    }

    fn rescan(&mut self) {
        // SAFETY: as many keys as the scan was opened with; the scan copies them.
        unsafe {
            pg_sys::index_rescan(
                self.scan,
                self.keys.as_mut_ptr(),
                self.keys.len() as i32,
                std::ptr::null_mut(),
                0,
            );
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the abort that is under way closes everything
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

/// What a row that is about to be inserted meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Nothing,
    /// This open transaction is at the row: only its end tells whether it is there.
    Busy(pg_sys::TransactionId),
    /// The INSERT fails, or goes on with that row. If it is to update it the row is locked, as it will be by then.
    Row,
}

/// Which of a table's unique keys are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    All,
    /// Those that this column is a part of.
    With(i16),
}

/// Whether the table has a row with which this one has a unique key in common.
pub(crate) fn meets_a_row(table: pg_sys::Oid, row: &Record, keys: Keys, upsert: Upsert) -> Result<Met, Fault> {
    let table = Table::open(RegClass(table))?;
    let to = match upsert {
        Upsert::LeavesIt => Use::Look,
        Upsert::UpdatesIt => Use::Lock,
    };
    for index in table.unique_indexes() {
        let is_asked = match keys {
            Keys::All => !matches!(index.flaw, Some(Flaw::Invalid | Flaw::Method)),
            Keys::With(column) => index.flaw.is_none() && index.columns.contains(&column),
        };
        if !is_asked {
            continue;
        }
        let meet = |key: &[Option<pg_sys::Datum>]| {
            // A NULL is equal to nothing.
            match key.contains(&None) {
                true => Met::Nothing,
                false => Probe::open_key(&table, &index, key, to).meet(upsert),
            }
        };
        let met = match index.flaw {
            None => meet(
                &index
                    .columns
                    .iter()
                    .map(|&number| row.datum(number))
                    .collect::<Vec<_>>(),
            ),
            Some(_) => in_index(&table, &index, row, meet).unwrap_or(Met::Nothing),
        };
        if met != Met::Nothing {
            return Ok(met);
        }
    }
    Ok(Met::Nothing)
}

/// Calls `act` with the key that the row has in this index; `None` where it has none.
fn in_index<T>(
    table: &Table,
    index: &UniqueIndex,
    row: &Record,
    act: impl FnOnce(&[Option<pg_sys::Datum>]) -> T,
) -> Option<T> {
    // SAFETY: both relations are open, the index with a lock that lasts and until it is closed; the row is to be one of the
    // table's.
    unsafe {
        let relation = pg_sys::index_open(index.oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let done = with_key(table.relation(), relation, row.tuple(), act);
        pg_sys::index_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        done
    }
}

/// Equality with a part, by the operator, collation and type that the index itself uses for its n-th column, from 0.
///
/// # Safety
/// The index is an open btree with so many key columns, and the value is of that column's type.
unsafe fn scan_key(index: pg_sys::Relation, n: usize, value: Option<pg_sys::Datum>) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    let column = (n + 1) as i16;
    // SAFETY: as our caller promises; the catalogs name the operator's function.
    unsafe {
        let Some(value) = value else {
            pg_sys::ScanKeyEntryInitialize(
                &mut key,
                (pg_sys::SK_ISNULL | pg_sys::SK_SEARCHNULL) as i32,
                column,
                0, // no strategy
                pg_sys::InvalidOid,
                pg_sys::InvalidOid,
                pg_sys::InvalidOid,
                pg_sys::Datum::from(0),
            );
            return key;
        };
        let (family, of) = (*(*index).rd_opfamily.add(n), *(*index).rd_opcintype.add(n));
        let operator = pg_sys::get_opfamily_member(family, of, of, pg_sys::BTEqualStrategyNumber as i16);
        pg_sys::ScanKeyEntryInitialize(
            &mut key,
            0,
            column,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::InvalidOid,
            *(*index).rd_indcollation.add(n),
            pg_sys::get_opcode(operator),
            value,
        );
    }
    key
}

/// Adds the other open transactions that lock a row against being updated.
///
/// # Safety
/// The header is of a tuple whose buffer is pinned.
unsafe fn lockers(header: &pg_sys::HeapTupleHeaderData, holders: &mut Vec<pg_sys::TransactionId>) {
    let bits = u32::from(header.t_infomask);
    let has = |bit: u32| bits & bit != 0;
    if has(pg_sys::HEAP_XMAX_INVALID) {
        return;
    }
    // SAFETY: a heap tuple's header has this arm; multixact members are an array that the call allocates.
    unsafe {
        let xmax = header.t_choice.t_heap.t_xmax;
        let mut others = Vec::new();
        if has(pg_sys::HEAP_XMAX_IS_MULTI) {
            let mut members: *mut pg_sys::MultiXactMember = std::ptr::null_mut();
            let lock_only = has(pg_sys::HEAP_XMAX_LOCK_ONLY);
            let count = pg_sys::GetMultiXactIdMembers(pg_sys::MultiXactId::from(xmax), &mut members, false, lock_only);
            if count > 0 {
                let members_seen = std::slice::from_raw_parts(members, count as usize);
                let blocks =
                    |m: &&pg_sys::MultiXactMember| m.status > pg_sys::MultiXactStatus::MultiXactStatusForKeyShare;
                others.extend(members_seen.iter().filter(blocks).map(|member| member.xid));
                pg_sys::pfree(members.cast());
            }
        } else if has(pg_sys::HEAP_XMAX_LOCK_ONLY) && bits & pg_sys::HEAP_LOCK_MASK != pg_sys::HEAP_XMAX_KEYSHR_LOCK {
            others.push(xmax);
        }
        holders.extend(others.into_iter().filter(|&other| {
            !pg_sys::TransactionIdIsCurrentTransactionId(other) && pg_sys::TransactionIdIsInProgress(other)
        }));
    }
}
