//! UPDATEs that another trigger may yet change, or keep from being stored, after the guard has settled them. Attaching refuses such
//! triggers; one may be made later.

use super::collisions::{release_content, settle_or_remember};
use super::existing::Occupant;
use super::until_end::UntilEnd;
use super::{Binding, queue_of};
use crate::clock::now;
use crate::fault::Fault;
use pgrx::pg_sys;
use std::rc::Rc;

/// A row that is settled, and not known to be stored.
struct Unproven {
    binding: Rc<Binding>,
    content_id: String,
    /// What it held until then; none where it held nothing.
    before: Option<Occupant>,
}

thread_local! {
    static UNPROVEN: UntilEnd<Unproven> = const { UntilEnd::new() };
}

/// The running statement has settled this row.
pub(super) fn expect(binding: &Rc<Binding>, content_id: String, before: Option<Occupant>) {
    let unproven = Unproven {
        binding: Rc::clone(binding),
        content_id,
        before,
    };
    UNPROVEN.with(|all| all.add(unproven));
}

/// Whether any row is.
pub(super) fn is_any() -> bool {
    UNPROVEN.with(UntilEnd::is_any)
}

/// Whether a row of this content was, which is stored now.
pub(super) fn is_stored(binding: &Binding, content_id: Option<String>) -> bool {
    let Some(content_id) = content_id else { return false };
    UNPROVEN.with(|all| {
        all.with(|all| {
            let before = all.len();
            all.retain(|row| row.of.binding.binding_id != binding.binding_id || row.of.content_id != content_id);
            all.len() < before
        })
    })
}

/// A statement has ended: what it has not stored is as it was, and so is its seat.
pub(super) fn end(command: pg_sys::CommandId) -> Result<(), Fault> {
    UNPROVEN.with(|all| match all.is_any() {
        false => Ok(()),
        true => all.end(command, |row| row.put_back()),
    })
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
