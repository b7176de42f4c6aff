//! Predicates that a user writes over the columns of his own table: parsed and analysed by the server, with the user's
//! rights, and written out again with every column, function and operator qualified.
//!
//! What comes out is made from the analysed expression, not from the text: nothing can be smuggled past it.

use crate::fault::Fault;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgList, PgTryBuilder};
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;

/// What the columns of a written-out predicate are columns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOf {
    /// A trigger's new row.
    New,
    /// A trigger's old row.
    Old,
    /// A table with the alias `t`.
    Table,
}

impl RowOf {
    fn alias(self) -> &'static CStr {
        match self {
            Self::New => c"new",
            Self::Old => c"old",
            Self::Table => c"t",
        }
    }
}

/// How the names in a predicate's text are to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// By the caller's search_path.
    OfCaller,
    /// As they stand: the text was written out in full.
    Qualified,
}

/// An analysed predicate.
pub(crate) struct Predicate {
    /// The text over new row, old row and table.
    texts: [String; 3],
    /// The text over bare columns.
    plain: String,
    /// Numbers of the columns that it reads.
    pub(crate) columns: Vec<i16>,
}

impl Predicate {
    /// Analyses `text`, which an option of this path holds. Functions that are called in it are the user's to call.
    pub(crate) fn parse(path: &str, table: pg_sys::Oid, text: &str, names: Names) -> Result<Self, Fault> {
        let source = CString::new(text).map_err(|_| refused(path, "contains a zero byte".to_owned()))?;
        or_refused(path, || match names {
            // SAFETY: the text is NUL-terminated, the table exists and stays locked.
            Names::OfCaller => unsafe { analyse(table, &source) },
            // SAFETY: as above.
            Names::Qualified => without_search_path(|| unsafe { analyse(table, &source) }),
        })
    }

    /// The predicate in SQL as a user could have written it.
    pub(crate) fn plain(&self) -> &str {
        &self.plain
    }

    /// The predicate in SQL, in parentheses.
    pub(crate) fn over(&self, row: RowOf) -> &str {
        &self.texts[row as usize]
    }
}

/// Refuses a text that is not one expression. One that is stays one between parentheses: none that it has closes those.
pub(crate) fn must_be_expression(path: &str, text: &str) -> Result<(), Fault> {
    let source = CString::new(text).map_err(|_| refused(path, "contains a zero byte".to_owned()))?;
    // SAFETY: the text is NUL-terminated.
    or_refused(path, || unsafe { expression(&source) }.map(|_| ()))
}

/// What the server says against a text, as a fault of ours.
fn or_refused<T>(path: &str, act: impl FnOnce() -> Result<T, &'static str>) -> Result<T, Fault> {
    PgTryBuilder::new(AssertUnwindSafe(|| {
        act().map_err(|problem| refused(path, problem.to_owned()))
    }))
    // The error goes on as another one: nothing is continued after it.
    .catch_others(|error| match error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Err(refused(path, report.message().to_owned()))
        }
        other => other.rethrow(),
    })
    .execute()
}

fn refused(path: &str, problem: String) -> Fault {
    Fault::Predicate {
        path: path.to_owned(),
        problem,
    }
}

/// The one expression that a text consists of, as it was written.
///
/// # Safety
/// The tree lives in the current memory context.
unsafe fn expression(text: &CStr) -> Result<*mut pg_sys::Node, &'static str> {
    // SAFETY: the text is NUL-terminated; the nodes are of the kinds that they say.
    unsafe {
        let mode = pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR;
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(text.as_ptr(), mode));
        let statement = statements.get_ptr(0).ok_or("is empty")?;
        if statements.len() != 1 || (*(*statement).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err("is not one expression");
        }
        let select: *mut pg_sys::SelectStmt = (*statement).stmt.cast();
        let targets = PgList::<pg_sys::ResTarget>::from_pg((*select).targetList);
        let clauses: [*const (); 12] = [
            (*select).intoClause.cast(),
            (*select).windowClause.cast(),
            (*select).limitOffset.cast(),
            (*select).withClause.cast(),
            (*select).fromClause.cast(),
            (*select).whereClause.cast(),
            (*select).groupClause.cast(),
            (*select).havingClause.cast(),
            (*select).distinctClause.cast(),
            (*select).sortClause.cast(),
            (*select).limitCount.cast(),
            (*select).lockingClause.cast(),
        ];
        let target = targets.get_ptr(0).ok_or("is empty")?;
        if targets.len() != 1 || clauses.iter().any(|clause| !clause.is_null()) {
            return Err("is not one expression");
        }
        Ok((*target).val)
    }
}

/// # Safety
/// `table` must be a relation that the caller keeps from disappearing.
unsafe fn analyse(table: pg_sys::Oid, text: &CStr) -> Result<Predicate, &'static str> {
    // SAFETY: nodes live in the current memory context; the relation is open while it is used.
    unsafe {
        let written_as = expression(text)?;
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let item = pg_sys::addRangeTableEntryForRelation(
            state,
            relation,
            pg_sys::AccessShareLock as i32,
            std::ptr::null_mut(),
            false,
            false,
        );
        pg_sys::addNSItemToQuery(state, item, false, true, true);
        // The kind of expression decides what is allowed: no subquery, no aggregate, no set of rows.
        let kind = pg_sys::ParseExprKind::EXPR_KIND_TRIGGER_WHEN;
        let expression = pg_sys::transformWhereClause(state, written_as, kind, c"predicate".as_ptr());
        pg_sys::assign_expr_collations(state, expression);
        let mut columns = std::ptr::null_mut();
        pg_sys::pull_varattnos(expression, 1, &mut columns);
        let columns = members(columns)
            .map(|member| (member + pg_sys::FirstLowInvalidHeapAttributeNumber) as i16)
            .collect::<Vec<_>>();
        pg_sys::free_parsestate(state);
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        if columns.iter().any(|&column| column < 0) {
            return Err("uses a system column");
        }
        if columns.contains(&0) {
            return Err("uses the whole row");
        }
        let texts = [RowOf::New, RowOf::Old, RowOf::Table]
            .map(|row| format!("({})", written(expression, table, row.alias(), true)));
        let plain = written(expression, table, c"t", false);
        Ok(Predicate { texts, plain, columns })
    }
}

/// # Safety
/// A live set, or null.
pub(super) unsafe fn members(set: *mut pg_sys::Bitmapset) -> impl Iterator<Item = i32> {
    let mut last = -1;
    std::iter::from_fn(move || {
        // SAFETY: as our caller promises.
        last = unsafe { pg_sys::bms_next_member(set, last) };
        (last >= 0).then_some(last)
    })
}

/// # Safety
/// `expression` must be analysed over the one relation `table`.
unsafe fn written(expression: *mut pg_sys::Node, table: pg_sys::Oid, alias: &CStr, prefixed: bool) -> String {
    // With nothing but pg_catalog on the path, every name that could mean another object later is qualified.
    without_search_path(|| {
        // SAFETY: deparsing reads the tree and the catalogue.
        unsafe {
            let context = pg_sys::deparse_context_for(alias.as_ptr(), table);
            let text = pg_sys::deparse_expression(expression, context, prefixed, false);
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    })
}

/// Runs `act` with nothing but pg_catalog on the search_path.
fn without_search_path<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: the setting is put back at the end; by an abort, if there is an error.
    unsafe {
        let nest = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let result = act();
        pg_sys::AtEOXact_GUC(true, nest);
        result
    }
}
