//! The guard in replica role: what another server has stored stays as it is, and the ledger follows.

use super::writer::Writer;
use crate::binding::attach;
use crate::binding::collisions::{release_content, settle_or_remember};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::trigger::Record;

impl Writer<'_> {
    /// Books for the row exactly what it says, or records a collision. What cannot have a seat is not refused.
    pub(super) fn mirror(&self) -> Result<Record, Fault> {
        let (binding, now) = (self.binding, now()?);
        let Ok((row, at, queue)) = self.wanted() else {
            if let Some(id) = self.new.text(binding.id.number) {
                release_content(binding, &id, now)?;
            }
            attach::note_refused(binding.binding_id)?;
            return Ok(self.new);
        };
        if at.is_none() {
            return Ok(self.new);
        }
        if let (true, Some(old)) = (self.fired.is_update(), self.fired.old_row()) {
            self.leave_old_place(&old, &row.content_id, &queue)?;
        }
        settle_or_remember(binding, &row, &queue, "replica", now)?;
        Ok(self.new)
    }
}
