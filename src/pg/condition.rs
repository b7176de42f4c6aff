//! Conditions over a table's row that the table carries itself, in the WHEN of triggers that never fire.
//!
//! The server reads a trigger's WHEN from its text in each statement, which costs more than evaluating it. Here it is read
//! once, and again when something that it depends on has changed. Like a WHEN it is evaluated as the writer, and its state
//! lasts no longer than the statement.

use super::across_rows::{Memory, Statement as _};
use super::relations_generation;
use super::scan::Found;
use super::trigger::{Fired, Version};
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{PgList, PgMemoryContexts, PgTupleDesc, pg_sys, varlena};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::rc::{Rc, Weak};

/// How the server numbers the old row in a trigger's condition. An expression over this one row works on any.
const OLD_ROW: u32 = 1;

thread_local! {
    /// The conditions of tables, for a role: what the server plans depends on what the role may call.
    static READ: RefCell<(u64, All)> = RefCell::default();
    /// The conditions that were last made, and in which statement's memory, for which table and role.
    static SHARED: RefCell<(Option<Shared>, Weak<Conditions>)> = const { RefCell::new((None, Weak::new())) };
}

type Shared = (Memory, (pg_sys::Oid, pg_sys::Oid));

type All = HashMap<(pg_sys::Oid, pg_sys::Oid), Rc<Read>>;

/// The conditions of a table.
struct Read {
    all: Vec<Condition>,
    /// The columns that any of them reads.
    columns: Vec<Attribute>,
    is_steady: bool,
}

/// A column that a condition reads.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Attribute {
    number: i16,
    by_value: bool,
    length: i16,
}

struct Condition {
    plan: Plan,
    columns: Vec<Attribute>,
    /// Whether it says the same of rows that agree in these columns, within one statement.
    is_steady: bool,
}

enum Plan {
    Always(bool),
    Kept(Kept),
    /// It calls functions of a user's. What those are may change without notice, with the search_path or in a replaced
    /// function, so its text is read anew in each statement, as the server does.
    Anew(CString),
}

/// An expression that the server has planned, and watches.
struct Kept(*mut pg_sys::CachedExpression);

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: it came from GetCachedExpression, and is freed once. Statements that use it hold a reference to its owner.
        unsafe { pg_sys::FreeCachedExpression(self.0) };
    }
}

/// The conditions of one table in one statement.
pub(crate) struct Conditions {
    read: Rc<Read>,
    generation: u64,
    states: Vec<Cell<*mut pg_sys::ExprState>>,
    context: Cell<*mut pg_sys::ExprContext>,
}

impl Conditions {
    /// Those of these names that the table of the trigger carries; none where one is missing. The triggers of one statement
    /// share them. A table is asked for all of its conditions, or for one.
    pub(crate) fn of(fired: &Fired<'_>, names: &[&str]) -> Option<Rc<Self>> {
        // SAFETY: reads who the writer is.
        let whose = (fired.table(), unsafe { pg_sys::GetUserId() });
        let shared = fired.memory_of_its_own().map(|memory| (memory, whose));
        let generation = relations_generation();
        // What is still there is in memory that is still the same statement's.
        let hit = SHARED
            .with_borrow(|(of, conditions)| conditions.upgrade().filter(|_| shared.is_some() && *of == shared))
            .filter(|conditions| conditions.generation == generation && conditions.read.is_valid())
            .filter(|conditions| conditions.read.all.len() == names.len());
        if hit.is_some() {
            return hit;
        }
        let made = Rc::new(Self {
            read: known(fired, whose, names)?,
            generation,
            states: names.iter().map(|_| Cell::new(std::ptr::null_mut())).collect(),
            context: Cell::new(std::ptr::null_mut()),
        });
        SHARED.set((shared, Rc::downgrade(&made)));
        Some(made)
    }

    /// Whether the n-th condition holds for the row.
    pub(crate) fn holds(&self, fired: &Fired<'_>, n: usize, version: Version) -> bool {
        match fired.slot(version) {
            // SAFETY: the slot has a row of the table that the trigger fires for.
            Some(slot) => unsafe { self.holds_in(fired, n, slot) },
            None => matches!(self.read.all[n].plan, Plan::Always(true)),
        }
    }

    /// The same for another row of the table.
    pub(crate) fn holds_of(&self, fired: &Fired<'_>, n: usize, row: &Found<'_>) -> bool {
        // SAFETY: the scan is over that table.
        row.table() == fired.table() && unsafe { self.holds_in(fired, n, row.slot()) }
    }

    /// # Safety
    /// The slot must have a row of the table that the trigger fires for.
    unsafe fn holds_in(&self, fired: &Fired<'_>, n: usize, slot: *mut pg_sys::TupleTableSlot) -> bool {
        if let Plan::Always(value) = self.read.all[n].plan {
            return value;
        }
        // SAFETY: the slot has the table's row; expression and context live as long as the statement. What is evaluated may
        // raise an error, which the boundary turns into a panic, and may come back here for another statement.
        unsafe {
            let state = self.state(fired, n);
            let context = self.context(fired);
            let Some(evaluate) = (*state).evalfunc else {
                return false;
            };
            (*context).ecxt_scantuple = slot;
            let before = pg_sys::MemoryContextSwitchTo((*context).ecxt_per_tuple_memory);
            let mut is_null = false;
            let value = pg_guard_ffi_boundary(|| evaluate(state, context, &mut is_null));
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextReset((*context).ecxt_per_tuple_memory);
            !is_null && value.value() != 0
        }
    }

    /// Whether an UPDATE leaves every column that some condition reads as it was. It doesn't count as that where a
    /// condition may change its mind.
    pub(crate) fn are_unmoved(&self, fired: &Fired<'_>) -> bool {
        self.read.is_steady && !differ(fired, &self.read.columns)
    }

    /// Whether an UPDATE changes a column that the n-th condition reads.
    pub(crate) fn differs(&self, fired: &Fired<'_>, n: usize) -> bool {
        differ(fired, &self.read.all[n].columns)
    }

    /// # Safety
    /// The trigger fires for the table that the conditions are of.
    unsafe fn state(&self, fired: &Fired<'_>, n: usize) -> *mut pg_sys::ExprState {
        let kept = self.states[n].get();
        if !kept.is_null() {
            return kept;
        }
        // SAFETY: all of it is made in the statement's memory. The server checks here what the writer may call.
        let made = unsafe {
            PgMemoryContexts::For(fired.statement_memory()).switch_to(|_| {
                let expression = match &self.read.all[n].plan {
                    Plan::Kept(kept) => (*kept.0).expr,
                    Plan::Anew(text) => pg_sys::expression_planner(tree(fired, text).cast()).cast(),
                    // It needs no state, and nobody asks for one.
                    Plan::Always(_) => std::ptr::null_mut(),
                };
                pg_sys::ExecInitExpr(expression.cast(), std::ptr::null_mut())
            })
        };
        self.states[n].set(made);
        made
    }

    /// # Safety
    /// As above.
    unsafe fn context(&self, fired: &Fired<'_>) -> *mut pg_sys::ExprContext {
        if self.context.get().is_null() {
            // SAFETY: it goes with the statement's memory.
            let made = unsafe {
                PgMemoryContexts::For(fired.statement_memory()).switch_to(|_| pg_sys::CreateStandaloneExprContext())
            };
            self.context.set(made);
        }
        self.context.get()
    }
}

/// What was read of the table's conditions before, if it is still true; else what it carries now.
fn known(fired: &Fired<'_>, key: (pg_sys::Oid, pg_sys::Oid), names: &[&str]) -> Option<Rc<Read>> {
    let generation = relations_generation();
    let hit = READ.with_borrow(|(at, all)| {
        let read = all.get(&key).filter(|_| *at == generation)?;
        (read.all.len() == names.len() && read.is_valid()).then(|| Rc::clone(read))
    });
    if hit.is_some() {
        return hit;
    }
    // Planning may run functions of a user's, which may come back here: nothing is borrowed meanwhile.
    let all: Option<Vec<Condition>> = names
        .iter()
        // SAFETY: the trigger's relation is open.
        .map(|name| carried(fired, name).map(|text| unsafe { read(fired, text) }))
        .collect();
    let all = all?;
    let mut columns: Vec<Attribute> = all.iter().flat_map(|condition| &condition.columns).copied().collect();
    columns.sort_unstable_by_key(|column| column.number);
    columns.dedup();
    let is_steady = all.iter().all(|condition| condition.is_steady);
    let read = Rc::new(Read {
        all,
        columns,
        is_steady,
    });
    let forgotten = READ.with_borrow_mut(|(at, all)| {
        let forgotten = if *at == generation {
            None
        } else {
            Some(std::mem::take(all))
        };
        *at = generation;
        all.insert(key, Rc::clone(&read));
        forgotten
    });
    drop(forgotten);
    Some(read)
}

impl Read {
    fn is_valid(&self) -> bool {
        self.all.iter().all(Condition::is_valid)
    }
}

impl Condition {
    fn is_valid(&self) -> bool {
        match &self.plan {
            // SAFETY: the expression lives as long as this.
            Plan::Kept(kept) => unsafe { (*kept.0).is_valid },
            Plan::Always(_) | Plan::Anew(_) => true,
        }
    }
}

/// The condition of the table's trigger with the same function and first argument, and this as its second.
fn carried<'a>(fired: &Fired<'a>, name: &str) -> Option<&'a CStr> {
    let source = fired.argument(0)?;
    fired.siblings().find_map(|trigger| {
        // SAFETY: tgargs has tgnargs C strings, and tgqual is one or null.
        unsafe {
            let is_it = trigger.tgnargs == 2
                && !trigger.tgqual.is_null()
                && CStr::from_ptr(*trigger.tgargs).to_bytes() == source.as_bytes()
                && CStr::from_ptr(*trigger.tgargs.add(1)).to_bytes() == name.as_bytes();
            is_it.then(|| CStr::from_ptr(trigger.tgqual))
        }
    })
}

/// # Safety
/// `text` must be a condition of a trigger on the table that `fired` is for.
unsafe fn tree(fired: &Fired<'_>, text: &CStr) -> *mut pg_sys::Node {
    // SAFETY: the text is a tree that the server has written out.
    let tree: *mut pg_sys::Node = unsafe { pg_sys::stringToNode(text.as_ptr()) }.cast();
    #[cfg(feature = "pg18")]
    // SAFETY: as above; a column that is computed when it is read stands for its expression.
    let tree = unsafe { pg_sys::expand_generated_columns_in_expr(tree, fired.relation(), OLD_ROW as i32) };
    #[cfg(not(feature = "pg18"))]
    let _ = fired;
    tree
}

/// # Safety
/// As [`tree`].
unsafe fn read(fired: &Fired<'_>, text: &CStr) -> Condition {
    // SAFETY: nodes live in the current memory context; what is kept the server has copied.
    unsafe {
        let tree = tree(fired, text);
        let columns = columns(fired, tree);
        let changeable = |plan| Condition {
            plan,
            columns: columns.clone().unwrap_or_default(),
            is_steady: false,
        };
        let (mut relations, mut items, mut row_security) = (std::ptr::null_mut(), std::ptr::null_mut(), false);
        pg_sys::extract_query_dependencies(tree, &mut relations, &mut items, &mut row_security);
        if names_functions(items) {
            return changeable(Plan::Anew(text.to_owned()));
        }
        let kept = Kept(pg_sys::GetCachedExpression(tree));
        // The server has put in what arguments are by default, and the bodies of functions.
        if names_functions((*kept.0).invalItems) {
            return changeable(Plan::Anew(text.to_owned()));
        }
        let expression = (*kept.0).expr;
        let is_steady = !pg_sys::contain_volatile_functions(expression);
        let plan = if (*expression).type_ == pg_sys::NodeTag::T_Const && (*kept.0).invalItems.is_null() {
            let constant = &*expression.cast::<pg_sys::Const>();
            Plan::Always(!constant.constisnull && constant.constvalue.value() != 0)
        } else {
            Plan::Kept(kept)
        };
        match columns {
            Some(columns) => Condition {
                plan,
                columns,
                is_steady,
            },
            None => changeable(plan),
        }
    }
}

/// Whether functions that are not the server's own are among what an expression depends on.
///
/// # Safety
/// A list of PlanInvalItems.
unsafe fn names_functions(items: *mut pg_sys::List) -> bool {
    // SAFETY: as our caller promises.
    unsafe {
        PgList::<pg_sys::PlanInvalItem>::from_pg(items)
            .iter_ptr()
            .any(|item| (*item).cacheId == pg_sys::SysCacheIdentifier::PROCOID as i32)
    }
}

/// The columns that an expression reads; none where it reads more than columns.
///
/// # Safety
/// `tree` must be over the relation that `fired` is for.
unsafe fn columns(fired: &Fired<'_>, tree: *mut pg_sys::Node) -> Option<Vec<Attribute>> {
    // SAFETY: as our caller promises; the relation is open.
    unsafe {
        let described = PgTupleDesc::from_pg_unchecked((*fired.relation()).rd_att);
        let mut set = std::ptr::null_mut();
        pg_sys::pull_varattnos(tree, OLD_ROW, &mut set);
        super::predicate::members(set)
            .map(|member| {
                let number = (member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16;
                let attribute = described.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
                Some(Attribute {
                    number,
                    by_value: attribute.attbyval,
                    length: attribute.attlen,
                })
            })
            .collect()
    }
}

/// Whether one of these columns differs between the rows of an UPDATE.
fn differ(fired: &Fired<'_>, columns: &[Attribute]) -> bool {
    let (Some(old), Some(new)) = (fired.slot(Version::Old), fired.slot(Version::New)) else {
        return true;
    };
    let Some(last) = columns.iter().map(|column| column.number).max() else {
        return false;
    };
    // SAFETY: both slots have rows of the table whose columns these are, taken apart up to the last of them.
    unsafe {
        for slot in [old, new] {
            if (*slot).tts_nvalid < last {
                pg_sys::slot_getsomeattrs(slot, last.into());
            }
        }
        !columns.iter().all(|column| is_same(old, new, *column))
    }
}

/// Whether a column has the same bytes in both rows.
///
/// # Safety
/// Both slots must have a row that is taken apart up to this column at least.
unsafe fn is_same(old: *mut pg_sys::TupleTableSlot, new: *mut pg_sys::TupleTableSlot, column: Attribute) -> bool {
    // SAFETY: as our caller promises; columns are numbered from 1. A datum that is not NULL is of the column's type.
    unsafe {
        let place = usize::from(column.number.unsigned_abs()) - 1;
        let (old_null, new_null) = (*(*old).tts_isnull.add(place), *(*new).tts_isnull.add(place));
        let (old, new) = (*(*old).tts_values.add(place), *(*new).tts_values.add(place));
        if old_null || new_null {
            return old_null && new_null;
        }
        if old.value() == new.value() {
            return true;
        }
        if column.by_value {
            return false;
        }
        if column.length == -1 {
            // What is stored elsewhere need not be fetched where both rows say where with the same bytes.
            let (old, new) = (old.cast_mut_ptr(), new.cast_mut_ptr());
            let bytes = |value| std::slice::from_raw_parts(value as *const u8, varlena::varsize_any(value));
            if bytes(old) == bytes(new) {
                return true;
            }
        }
        pg_sys::datum_image_eq(old, new, false, column.length.into())
    }
}
