//! Statements over the application's own tables: texts made at run time, run with the rights of the caller.
//!
//! Identifiers in a text must have gone through [`identifier`] or [`qualified`], values are parameters. Result columns are cast in
//! the text (`::pg_catalog.text`, `pg_catalog.to_jsonb(…)`), so that the reader knows their types.

pub(crate) use super::statement::Row;
use super::statement::{See as Rows, Value, connected, execute as execute_plan, prepare};
use super::{names_generation, relations_generation};
use crate::fault::Fault;
use pgrx::{PgList, PgMemoryContexts, pg_sys};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::rc::Rc;

/// So many texts keep their plans in one backend; past that all are forgotten, and their memory with them.
const KEPT_PLANS: usize = 256;

thread_local! {
    static PLANS: RefCell<HashMap<CString, Plan>> = RefCell::new(HashMap::new());
    static TEXTS: RefCell<Texts> = RefCell::new(Texts::default());
}

/// Texts by what they were made of, and the generations of relations and of names that they were made in.
#[derive(Default)]
struct Texts {
    made_at: (u64, u64),
    made: HashMap<Vec<u8>, Text>,
}

/// The text of a statement, or a way to write it.
pub(crate) trait Written {
    fn written(&self) -> Result<Cow<'_, CStr>, Fault>;
}

impl<T: AsRef<str> + ?Sized> Written for T {
    fn written(&self) -> Result<Cow<'_, CStr>, Fault> {
        c_string(self.as_ref()).map(Cow::Owned)
    }
}

/// A text that is kept: see [`composed`].
#[derive(Clone, Debug)]
pub(crate) struct Text(Rc<CStr>);

impl Written for Text {
    fn written(&self) -> Result<Cow<'_, CStr>, Fault> {
        Ok(Cow::Borrowed(&self.0))
    }
}

/// What a text is made of: exactly that, not a digest of it.
pub(crate) struct Parts(Vec<u8>);

impl Parts {
    /// `purpose` names the one place that makes such texts.
    pub(crate) fn of(purpose: &'static str) -> Self {
        Self(Vec::with_capacity(128)).and_name(purpose)
    }

    pub(crate) fn and_number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_ne_bytes());
        self
    }

    pub(crate) fn and_name(mut self, name: &str) -> Self {
        self.0.extend_from_slice(&name.len().to_ne_bytes());
        self.0.extend_from_slice(name.as_bytes());
        self
    }
}

/// The text that `make` writes from these parts and what the catalogs say of tables, columns and types: written once, and
/// anew when any of that may have changed. What else it depends on, the caller's rights among it, has to be in the parts.
pub(crate) fn composed(parts: Parts, make: impl FnOnce() -> Result<String, Fault>) -> Result<Text, Fault> {
    let at = (relations_generation(), names_generation());
    let known = TEXTS.with_borrow(|texts| texts.made.get(&parts.0).filter(|_| texts.made_at == at).cloned());
    if let Some(text) = known {
        return Ok(text);
    }
    let text = Text(c_string(&make()?)?.into());
    // The generation from before: what changed while the text was written has it written anew.
    TEXTS.with_borrow_mut(|texts| {
        if texts.made_at != at || texts.made.len() >= KEPT_PLANS {
            *texts = Texts {
                made_at: at,
                made: HashMap::new(),
            };
        }
        texts.made.insert(parts.0, text.clone());
    });
    Ok(text)
}

/// A kept plan. It is out of the map while it runs: what the application's triggers do may come back here.
struct Plan(pg_sys::SPIPlanPtr);

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: the plan was kept by `prepare`, is not running, and is freed once.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

/// Which rows a statement sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum See {
    /// What the caller's own statements see: in REPEATABLE READ a row that others have changed since is 40001.
    Caller,
    /// What is committed now, whatever the isolation level.
    Latest,
}

/// Runs a statement that only reads. It gets no transaction id, and sees nothing that this command has written itself.
pub(crate) fn query<T>(
    text: &(impl Written + ?Sized),
    see: See,
    values: &[Value<'_>],
    row: impl FnMut(&Row) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    run(text, see, values, true, row)
}

/// Runs a statement that writes or locks, and returns what it gives back.
pub(crate) fn execute<T>(
    text: &(impl Written + ?Sized),
    see: See,
    values: &[Value<'_>],
    row: impl FnMut(&Row) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    run(text, see, values, false, row)
}

/// The rows that a statement finds which locks what it finds: those that row security lets the caller change. But it locks
/// nothing, so it waits for nobody and runs where nothing may be written. The caller's right to change the table is not asked.
pub(crate) fn query_unlocked<T>(
    text: &(impl Written + ?Sized),
    values: &[Value<'_>],
    row: impl FnMut(&Row) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let text = text.written()?;
    connected(|| {
        // SAFETY: SPI is connected. The plan is made of the changed statement, and dropped before it could be made anew.
        unsafe {
            let plan = Plan(prepare(&text, values)?);
            unlock(plan.0);
            execute_plan(plan.0, values, Rows::Caller, true, row)
        }
    })
}

/// Has a statement that was prepared, and not planned yet, lock nothing. What row security has added to it stays.
///
/// # Safety
/// The plan must be valid and this backend's own.
unsafe fn unlock(plan: pg_sys::SPIPlanPtr) {
    let harmless = !pg_sys::AclMode::from(pg_sys::ACL_UPDATE);
    // SAFETY: the lists are the plan's, with elements of these types, and nobody else reads them.
    unsafe {
        let sources = PgList::<pg_sys::CachedPlanSource>::from_pg(pg_sys::SPI_plan_get_plan_sources(plan));
        for source in sources.iter_ptr() {
            for query in PgList::<pg_sys::Query>::from_pg((*source).query_list).iter_ptr() {
                (*query).rowMarks = std::ptr::null_mut();
                (*query).hasForUpdate = false;
                #[cfg(feature = "pg15")]
                let permissions = PgList::<pg_sys::RangeTblEntry>::from_pg((*query).rtable);
                #[cfg(not(feature = "pg15"))]
                let permissions = PgList::<pg_sys::RTEPermissionInfo>::from_pg((*query).rteperminfos);
                for permission in permissions.iter_ptr() {
                    (*permission).requiredPerms &= harmless;
                }
            }
        }
    }
}

fn run<T>(
    text: &(impl Written + ?Sized),
    see: See,
    values: &[Value<'_>],
    read_only: bool,
    row: impl FnMut(&Row) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let text = text.written()?;
    let see = match see {
        See::Caller => Rows::Caller,
        See::Latest => Rows::Latest,
    };
    connected(|| {
        let (text, plan) = match PLANS.with_borrow_mut(|plans| plans.remove_entry(&*text)) {
            Some(known) => known,
            // SAFETY: SPI is connected.
            None => (text.clone().into_owned(), Plan(unsafe { prepare(&text, values)? })),
        };
        // SAFETY: SPI is connected. A text is always used with values of the same types: it has one place that makes it.
        let result = unsafe { execute_plan(plan.0, values, see, read_only, row) };
        // After an error the plan is dropped instead: it may be what was wrong.
        keep(text, plan);
        result
    })
}

/// Rows are fetched so many at a time by [`each`].
const FETCHED: i64 = 5_000;

/// What was committed at one moment. While it lives, no row that was there then is removed from its table, so that it can be
/// compared with a later one.
pub(crate) struct Moment {
    snapshot: pg_sys::Snapshot,
    owner: pg_sys::ResourceOwner,
}

impl Moment {
    pub(crate) fn now() -> Self {
        // SAFETY: the snapshot is copied and belongs to the running statement, which ends after us.
        unsafe {
            let owner = pg_sys::CurrentResourceOwner;
            let snapshot = pg_sys::RegisterSnapshotOnOwner(pg_sys::GetLatestSnapshot(), owner);
            Self { snapshot, owner }
        }
    }

    /// Transactions before this one had ended then: a row version that one of them has made is not newer than the moment.
    pub(crate) fn oldest_transaction(&self) -> u32 {
        // SAFETY: registered, so it is valid.
        unsafe { (*self.snapshot).xmin.into_inner() }
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        // SAFETY: registered with this owner, and given back once.
        unsafe { pg_sys::UnregisterSnapshotFromOwner(self.snapshot, self.owner) };
    }
}

/// Reads a large result row by row, as it was committed then. What the server allocates for `act` is given back soon: a scan
/// that is to outlive the call must have been opened before.
pub(crate) fn each(text: &str, moment: &Moment, mut act: impl FnMut(&Row) -> Result<(), Fault>) -> Result<(), Fault> {
    let text = c_string(text)?;
    connected(|| {
        // SAFETY: SPI is connected. The portal takes the snapshot that is active when it is opened and keeps it. Each part of the
        // result is read before the next one replaces it; what `act` runs in between has SPI connections of its own.
        unsafe {
            let plan = Plan(prepare(&text, &[])?);
            pg_sys::PushActiveSnapshot(moment.snapshot);
            let (no_values, no_nulls) = (std::ptr::null_mut(), std::ptr::null());
            let portal = pg_sys::SPI_cursor_open(std::ptr::null(), plan.0, no_values, no_nulls, true);
            pg_sys::PopActiveSnapshot();
            let mut workspace = PgMemoryContexts::new("slotkeeper rows");
            loop {
                pg_sys::SPI_cursor_fetch(portal, true, FETCHED);
                let count = pg_sys::SPI_processed as usize;
                if count == 0 {
                    break;
                }
                let table = pg_sys::SPI_tuptable;
                workspace.switch_to(|_| super::statement::rows(table, count).try_for_each(|row| act(&row)))?;
                pg_sys::SPI_freetuptable(table);
                workspace.reset();
            }
            pg_sys::SPI_cursor_close(portal);
        }
        Ok(())
    })
}

/// Runs a command that is given once: DDL.
pub(crate) fn command(text: &str) -> Result<(), Fault> {
    let text = c_string(text)?;
    connected(|| {
        // SAFETY: SPI is connected; there are no arguments. The plan is freed when it has run.
        unsafe {
            let plan = Plan(prepare(&text, &[])?);
            execute_plan(plan.0, &[], Rows::Caller, false, |_| Ok(()))?;
        }
        Ok(())
    })
}

fn keep(text: CString, plan: Plan) {
    let forgotten = PLANS.with_borrow_mut(|plans| {
        let forgotten = if plans.len() >= KEPT_PLANS {
            std::mem::take(plans)
        } else {
            HashMap::new()
        };
        plans.insert(text, plan);
        forgotten
    });
    drop(forgotten);
}

fn c_string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| Fault::Internal("a statement with a zero byte".to_owned()))
}

/// A name as it is written in SQL, quoted where it must be.
pub(crate) fn identifier(name: &str) -> Result<String, Fault> {
    let name = c_string(name)?;
    // SAFETY: returns its argument or a palloc'd C string.
    let quoted = unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())) };
    Ok(quoted.to_string_lossy().into_owned())
}

/// A text as a literal in SQL. For what cannot be a parameter: the arguments of DDL.
pub(crate) fn literal(text: &str) -> Result<String, Fault> {
    let text = c_string(text)?;
    // SAFETY: returns a palloc'd C string.
    let quoted = unsafe { CStr::from_ptr(pg_sys::quote_literal_cstr(text.as_ptr())) };
    Ok(quoted.to_string_lossy().into_owned())
}

/// A schema's object as it is written in SQL.
pub(crate) fn qualified(schema: &str, name: &str) -> Result<String, Fault> {
    Ok(format!("{}.{}", identifier(schema)?, identifier(name)?))
}
