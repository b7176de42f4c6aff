//! The key of a row in an index over expressions, or over some of the rows, as the server works it out for an INSERT: with the
//! rights of whoever inserts, whose functions these may be.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

/// Calls `act` with the parts of the row's key in this index; `None` where the row is none of the index's.
///
/// # Safety
/// The index must be open, and the tuple be a row of its table, which is open too. The parts live no longer than the call.
pub(super) unsafe fn with_key<T>(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    tuple: pg_sys::HeapTuple,
    act: impl FnOnce(&[Option<pg_sys::Datum>]) -> T,
) -> Option<T> {
    // SAFETY: as our caller promises. State and slot are ours; should what is evaluated raise an error, the abort frees them.
    unsafe {
        let about = pg_sys::BuildIndexInfo(index);
        let state = pg_sys::CreateExecutorState();
        let context = pg_sys::MakePerTupleExprContext(state);
        let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsHeapTuple);
        pg_sys::ExecStoreHeapTuple(tuple, slot, false);
        (*context).ecxt_scantuple = slot;
        let is_one = (*about).ii_Predicate.is_null() || holds((*about).ii_Predicate, state, context);
        let done = is_one.then(|| {
            let none = (pg_sys::Datum::from(0), true);
            let (mut values, mut nulls): (Vec<_>, Vec<_>) =
                vec![none; pg_sys::INDEX_MAX_KEYS as usize].into_iter().unzip();
            pg_sys::FormIndexDatum(about, slot, state, values.as_mut_ptr(), nulls.as_mut_ptr());
            let parts = values
                .into_iter()
                .zip(nulls)
                .map(|(value, is_null)| (!is_null).then_some(value));
            let count = usize::try_from((*about).ii_NumIndexKeyAttrs).unwrap_or(0);
            act(&parts.take(count).collect::<Vec<_>>())
        });
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::FreeExecutorState(state);
        done
    }
}

/// Whether an index's predicate holds for the row that the context has.
///
/// # Safety
/// The context must be the state's, and have a row.
unsafe fn holds(predicate: *mut pg_sys::List, state: *mut pg_sys::EState, context: *mut pg_sys::ExprContext) -> bool {
    // SAFETY: as our caller promises. What is evaluated may raise an error, which the boundary turns into a panic.
    unsafe {
        let qual = pg_sys::ExecPrepareQual(predicate, state);
        let Some(evaluate) = qual.as_ref().and_then(|qual| qual.evalfunc) else {
            return true;
        };
        let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
        let mut is_null = false;
        let value = pg_guard_ffi_boundary(|| evaluate(qual, context, &mut is_null));
        pg_sys::MemoryContextSwitchTo(before);
        !is_null && value.value() != 0
    }
}
