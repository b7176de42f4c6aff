//! Slugs: `unique_slug`, and the choice that `attach_slug` and `idempotent_insert` make as well.

pub(crate) mod attach;
mod held;
mod target;
pub(crate) mod write;

pub(crate) use target::{Target, rules};

use crate::fault::Fault;
use crate::pg::json::JsonArg;
use crate::pg::refuse_read_only;
use crate::pg::table::RegClass;
use crate::pg::transaction::watch_transactions;
use held::Hold;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::slug::{Series, first_free};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

/// `slotkeeper.slug_reserved`: words that no slug is, separated by commas.
static RESERVED: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
/// `slotkeeper.slug_fallback`: the word for a text that has no letter or digit.
static FALLBACK: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Before the settings' prefix is reserved.
pub(crate) fn define_settings() {
    GucRegistry::define_string_guc(
        c"slotkeeper.slug_reserved",
        c"Words that are never given as slugs.",
        c"Separated by commas, such as admin, api, new.",
        &RESERVED,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"slotkeeper.slug_fallback",
        c"The slug of a text that has no letter or digit.",
        c"Empty for the built-in word, item.",
        &FALLBACK,
        GucContext::Userset,
        GucFlags::default(),
    );
    watch_transactions(held::transaction_ended);
}

#[pg_extern(schema = "slotkeeper")]
fn unique_slug(
    p_table: Option<RegClass>,
    p_column: Option<&str>,
    p_source: Option<&str>,
    p_scope: default!(Option<JsonArg>, "NULL"),
    p_max_length: default!(Option<i32>, "80"),
) -> Result<String, ErrorReport> {
    let table = p_table.ok_or(Fault::Null { argument: "p_table" })?;
    let column = p_column.ok_or(Fault::Null { argument: "p_column" })?;
    let source = p_source.ok_or(Fault::Null { argument: "p_source" })?;
    let scope = target::scope("p_scope", crate::arguments::json("p_scope", p_scope)?)?;
    let rules = rules(p_max_length.ok_or(Fault::Null {
        argument: "p_max_length",
    })?)?;
    let target = Target::new(table, column, scope, rules)?;
    refuse_read_only(c"unique_slug()");
    Ok(choose(&target, source)?)
}

thread_local! {
    /// The number that this backend has last given, by series. A hint: the search asks whether it holds.
    static LAST: RefCell<HashMap<(u64, Series), u64>> = RefCell::new(HashMap::new());
}

/// So many series keep their last number in one backend.
const KNOWN_SERIES: usize = 512;

/// Gives a slug of `source` that no row has and no other transaction was given: `name`, `name-1`, `name-2`, …
///
/// It is this transaction's until it ends, or until the (sub)transaction that asked is undone. **The caller's insert
/// keeps the promise**: from then on the row itself tells the others, uncommitted as it is, and the lock that told
/// them so far may be given back. An INSERT of it never waits for another caller's transaction, since every other one
/// steps over it; only who writes a slug without asking may meet it in the unique index, as always.
pub(crate) fn choose(target: &Target, source: &str) -> Result<String, Fault> {
    let series = target.rules().series(source);
    let hint = (target.hash64(), series.clone());
    let likely = LAST.with_borrow(|last| last.get(&hint).copied());
    let mut finder = target.finder()?;
    let mut from = 0;
    loop {
        // Rows of open transactions and what this one was given count as taken; others' locks show only by asking.
        let number = first_free(from, likely, |number| {
            series.name(number).map_or(Ok(false), |name| {
                Ok::<_, Fault>(
                    target.rules().reserved.contains(&name) || held::is_mine(target, &name) || finder.taken(&name)?,
                )
            })
        })?;
        let Some(name) = series.name(number) else {
            return Err(Fault::NoSlugLeft {
                slug: series.name(0).unwrap_or_default(),
                max_length: target.rules().max_length,
            });
        };
        if let Some(hold) = Hold::ask(target, &name)? {
            // Somebody may have written it and given his lock back between the look and the lock.
            if finder.taken(&name)? {
                hold.give_back();
            } else {
                hold.keep(target, &name)?;
                LAST.with_borrow_mut(|last| {
                    if last.len() >= KNOWN_SERIES {
                        last.clear();
                    }
                    last.insert(hint, number);
                });
                return Ok(name);
            }
        }
        from = number + 1;
    }
}
