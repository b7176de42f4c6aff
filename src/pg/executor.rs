//! The executor's routines for rows of one plain table, as logical replication uses them: triggers, constraints, generated
//! columns and whatever index there is. What insert.rs and change.rs can't do themselves, they leave to it.

use super::across_rows::is_abandoned;
use pgrx::pg_sys;

/// Whether a table asks more of a row than that its columns are filled and its indexes know it.
///
/// # Safety
/// The table must be open.
pub(super) unsafe fn asks_more(table: pg_sys::Relation) -> bool {
    // SAFETY: as our caller promises.
    unsafe {
        let constraints = (*(*table).rd_att).constr;
        let of_rows = !constraints.is_null() && ((*constraints).num_check > 0 || (*constraints).has_generated_stored);
        let ordinary = (*(*table).rd_rel).relkind as u8 == b'r' && !(*(*table).rd_rel).relispartition;
        of_rows || !ordinary || !(*table).trigdesc.is_null()
    }
}

/// Which indexes have to be told of a row's new version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entries {
    None,
    /// Only those that summarize pages: the version is on the old one's page.
    #[cfg_attr(feature = "pg15", expect(dead_code, reason = "this server does not tell them apart"))]
    Summarizing,
    All,
}

/// A table with its indexes, open for the executor.
pub(super) struct Executor {
    state: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Executor {
    /// # Safety
    /// The table must stay open, and the current memory context live, for longer than what is returned.
    pub(super) unsafe fn open(table: pg_sys::Relation) -> Self {
        // SAFETY: as our caller promises. A range-table index of 0 says that there is no range table.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let target: *mut pg_sys::ResultRelInfo = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast();
            (*target).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(target, table, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let slot = pg_sys::MakeSingleTupleTableSlot((*table).rd_att, &pg_sys::TTSOpsHeapTuple);
            Self { state, target, slot }
        }
    }

    /// Inserts a row.
    ///
    /// # Safety
    /// The slot must hold a row of this table.
    pub(super) unsafe fn insert(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as our caller promises.
        self.fire(|| unsafe { pg_sys::ExecSimpleRelationInsert(self.target, self.state, slot) });
    }

    /// Gives a row a new version. False where a trigger has kept it as it is.
    ///
    /// # Safety
    /// The slot must hold a row of this table, and the tuple be made of it.
    pub(super) unsafe fn update(&self, old: *mut pg_sys::TupleTableSlot, new: pg_sys::HeapTuple) -> bool {
        // SAFETY: as our caller promises.
        unsafe {
            pg_sys::ExecStoreHeapTuple(new, self.slot, false);
            (*self.slot).tts_tid = (*old).tts_tid;
            self.with_recheck(|recheck| {
                pg_sys::ExecSimpleRelationUpdate(self.target, self.state, recheck, old, self.slot);
            });
            let place = |slot: *mut pg_sys::TupleTableSlot| pgrx::itemptr::item_pointer_to_u64((*slot).tts_tid);
            let moved = place(self.slot) != place(old);
            pg_sys::ExecClearTuple(self.slot);
            moved
        }
    }

    /// Deletes a row.
    ///
    /// # Safety
    /// The slot must hold a row of this table.
    pub(super) unsafe fn delete(&self, old: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as our caller promises.
        self.with_recheck(|recheck| unsafe {
            pg_sys::ExecSimpleRelationDelete(self.target, self.state, recheck, old);
        });
    }

    /// Enters the new version of a row into indexes.
    ///
    /// # Safety
    /// The tuple must lie in the table, and these indexes must not know it.
    pub(super) unsafe fn enter(&self, tuple: pg_sys::HeapTuple, entries: Entries) {
        if entries == Entries::None {
            return;
        }
        let (none, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: as our caller promises. To the indexes that are told, it is a new row.
        unsafe {
            pg_sys::ExecStoreHeapTuple(tuple, self.slot, false);
            #[cfg(feature = "pg15")]
            pg_sys::ExecInsertIndexTuples(self.target, self.slot, self.state, false, false, none, nothing);
            #[cfg(not(feature = "pg15"))]
            pg_sys::ExecInsertIndexTuples(
                self.target,
                self.slot,
                self.state,
                false,
                false,
                none,
                nothing,
                entries == Entries::Summarizing,
            );
            pg_sys::ExecClearTuple(self.slot);
        }
    }

    /// Has triggers fire as at the end of a statement. A function that is called by a SELECT is in none that would.
    fn fire(&self, act: impl FnOnce()) {
        // SAFETY: the target is ours, and its table open.
        let triggers = unsafe { !(*(*self.target).ri_RelationDesc).trigdesc.is_null() };
        if !triggers {
            return act();
        }
        // SAFETY: what begins here ends here, or with the transaction that an error aborts.
        unsafe {
            (*self.state).es_output_cid = pg_sys::GetCurrentCommandId(true);
            pg_sys::AfterTriggerBeginQuery();
            act();
            pg_sys::AfterTriggerEndQuery(self.state);
        }
    }

    /// The same with what triggers need of a row that others have changed meanwhile.
    fn with_recheck(&self, act: impl FnOnce(*mut pg_sys::EPQState)) {
        let (no_plan, none, no_parameter) = (std::ptr::null_mut(), std::ptr::null_mut(), -1);
        let mut recheck = pg_sys::EPQState::default();
        // SAFETY: the state is ours, and what is begun is ended.
        unsafe {
            #[cfg(feature = "pg15")]
            pg_sys::EvalPlanQualInit(&mut recheck, self.state, no_plan, none, no_parameter);
            #[cfg(not(feature = "pg15"))]
            pg_sys::EvalPlanQualInit(&mut recheck, self.state, no_plan, none, no_parameter, none);
            self.fire(|| act(&mut recheck));
            pg_sys::EvalPlanQualEnd(&mut recheck);
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        if is_abandoned() {
            return; // the abort that is under way closes everything
        }
        // SAFETY: each was opened by `open`, or by triggers within the state, and is closed once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::ExecCloseIndices(self.target);
            pg_sys::ExecCloseResultRelations(self.state);
            pg_sys::ExecResetTupleTable((*self.state).es_tupleTable, false);
            pg_sys::FreeExecutorState(self.state);
            pg_sys::pfree(self.target.cast());
        }
    }
}
