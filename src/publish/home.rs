//! A copy of the database must not publish what the original publishes.

use crate::clock::now;
use crate::fault::Fault;
use crate::pg::durable::identity;
use crate::pg::json::JsonReply;
use crate::pg::scan::{IndexScan, Order, See};
use crate::pg::statement::{Statement, Value};
use crate::pg::{refuse_read_only, statement_start, transaction_start};
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    static SETTLE: Statement = const { Statement::new(c"
WITH gone AS (DELETE FROM slotkeeper.home)
INSERT INTO slotkeeper.home (system_identifier, database, since) VALUES ($1, $2, $3)") };
}

thread_local! {
    /// The transaction and the statement that have seen that this is home.
    static SEEN_BY: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// Whether this database was copied from another one, and nobody has said yet that it is to publish. Looked at once a
/// statement.
pub(crate) fn is_copy() -> Result<bool, Fault> {
    let asked_by = (transaction_start(), statement_start());
    if SEEN_BY.get() == asked_by {
        return Ok(false);
    }
    let is_copy = look()?;
    if !is_copy {
        SEEN_BY.set(asked_by);
    }
    Ok(is_copy)
}

fn look() -> Result<bool, Fault> {
    let here = identity();
    let mut scan = IndexScan::open(c"home", c"home_place", 0, See::Uncommitted)?;
    scan.search(&[], Order::Ascending);
    while let Some(row) = scan.next() {
        // What an open transaction is about to write is not there yet; what it is about to remove still is.
        if row.inserter().is_none() && (row.get::<i64>(1)?, row.get::<i64>(2)?) != here {
            return Ok(true);
        }
    }
    Ok(false)
}

#[pg_extern(schema = "slotkeeper")]
fn resume_after_restore() -> Result<JsonReply, ErrorReport> {
    refuse_read_only(c"resume_after_restore()");
    if !is_copy()? {
        return Ok(Reply::new("unchanged").into());
    }
    let (cluster, database) = identity();
    let values = [Value::Int8(cluster), Value::Int8(database), Value::Time(now()?)];
    SETTLE.with(|settle| settle.write(&values, |_| Ok(())))?;
    Ok(Reply::new("resumed").into())
}
