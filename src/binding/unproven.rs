//! UPDATEs that another trigger may yet change, or keep from being stored, after the guard has settled them. Attaching refuses such
//! triggers; one may be made later.

use super::collisions::{release_content, settle_or_remember};
use super::existing::Occupant;
use super::{Binding, queue_of};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::subtransaction::{current_subtransaction, is_subtransaction_active};
use crate::pg::transaction_start;
use crate::pg::trigger::running_command;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

/// A row that is settled, and not known to be stored.
struct Unproven {
    binding: Rc<Binding>,
    content_id: String,
    /// What it held until then; none where it held nothing.
    before: Option<Occupant>,
    command: pg_sys::CommandId,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    /// When the transaction began, and its rows.
    static UNPROVEN: RefCell<(i64, Vec<Unproven>)> = const { RefCell::new((0, Vec::new())) };
}

fn with<T>(act: impl FnOnce(&mut Vec<Unproven>) -> T) -> T {
    let transaction = transaction_start();
    UNPROVEN.with_borrow_mut(|(began, all)| {
        if *began != transaction {
            *began = transaction;
            all.clear();
        }
        act(all)
    })
}

/// The running statement has settled this row.
pub(super) fn expect(binding: &Rc<Binding>, content_id: String, before: Option<Occupant>) {
    let unproven = Unproven {
        binding: Rc::clone(binding),
        content_id,
        before,
        command: running_command(),
        subtransaction: current_subtransaction(),
    };
    with(|all| all.push(unproven));
}

/// Whether any row is.
pub(super) fn is_any() -> bool {
    with(|all| !all.is_empty())
}

/// Whether a row of this content was, which is stored now.
pub(super) fn is_stored(binding: &Binding, content_id: Option<String>) -> bool {
    let Some(content_id) = content_id else { return false };
    with(|all| {
        let before = all.len();
        all.retain(|row| row.binding.binding_id != binding.binding_id || row.content_id != content_id);
        all.len() < before
    })
}

/// A statement has ended: what it has not stored is as it was, and so is its seat.
pub(super) fn end(command: pg_sys::CommandId) -> Result<(), Fault> {
    let left: Vec<Unproven> = with(|all| {
        let (ended, others) = std::mem::take(all).into_iter().partition(|row| row.command >= command);
        *all = others;
        ended
    });
    for row in left {
        if is_subtransaction_active(row.subtransaction) {
            row.put_back()?;
        }
    }
    Ok(())
}

impl Unproven {
    fn put_back(&self) -> Result<(), Fault> {
        let (binding, now) = (&self.binding, now()?);
        let renamed = |before: &Occupant| before.content_id != self.content_id;
        if self.before.as_ref().is_none_or(renamed) {
            release_content(binding, &self.content_id, now)?;
        }
        let Some(row) = &self.before else { return Ok(()) };
        let Some(queue) = queue_of(binding, &row.profile_id, row.platform.as_deref(), false)? else {
            return Ok(());
        };
        // Another row of the same transaction may have it.
        settle_or_remember(binding, row, &queue, "reconcile", now)
    }
}
