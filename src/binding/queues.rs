//! `attach_queues`: queues that live in a table of the application.

use super::table::Table;
use crate::fault::Fault;

/// Stops following a table of queues; its source, if it was one.
pub(super) fn detach(_table: &Table) -> Result<Option<String>, Fault> {
    Ok(None)
}
