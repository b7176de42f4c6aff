//! Bookings that were made for rows which are not stored yet.

use crate::binding::Binding;
use crate::binding::collisions::release_in;
use crate::binding::until_end::{UntilEnd, Waits};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::scan::row_is_inserted_since;
use crate::queue::Queue;
use pgrx::pg_sys;
use slotkeeper_core::Instant;
use std::rc::Rc;

/// A booking that was made for a row which is not stored yet.
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) binding: Rc<Binding>,
    pub(super) content_id: String,
    /// The queue and the instant that were booked. A row of that id that is there may hold a seat in another queue.
    pub(super) queue_id: i64,
    pub(super) at: Instant,
    /// The table or partition that the row is to lie in, and its column with the id.
    pub(super) table: pg_sys::Oid,
    pub(super) column: i16,
}

impl Pending {
    fn is_of(&self, binding: &Binding, content_id: &str) -> bool {
        self.binding.binding_id == binding.binding_id && self.content_id == content_id
    }
}

/// Whether its row belongs to a statement that goes on around the one that has ended. A row that was there before, or
/// that this statement has updated instead, is none: the booking was for nothing.
fn goes_on(pending: &Waits<Pending>) -> Result<bool, Fault> {
    let it = &pending.of;
    row_is_inserted_since(it.table, it.column, &it.content_id, pending.command)
}

thread_local! {
    static PENDING: UntilEnd<Pending> = const { UntilEnd::new() };
}

/// What was booked for a row waits for it.
pub(super) fn add(pending: Pending) {
    PENDING.with(|all| all.add(pending));
}

/// Takes out what waits for the row of this content, which has its seat now.
pub(super) fn take_out(binding: &Binding, content_id: &str) -> Option<Pending> {
    PENDING.with(|all| {
        all.with(|all| {
            let is_it = |waits: &Waits<Pending>| waits.of.is_of(binding, content_id) && waits.is_of_statement();
            let place = all.iter().position(is_it);
            // Rows are stored in the order in which they were booked: mostly it is the first.
            place.and_then(|place| all.remove(place)).map(|waits| waits.of)
        })
    })
}

/// What the statement that runs has booked in this granule for a row that it has not inserted after all: it updates another one
/// instead, which is about to take a seat for `content_id`. It waits no longer.
pub(super) fn ghost_at(
    binding: &Binding,
    content_id: &str,
    queue: &Queue,
    granule: i64,
) -> Result<Option<Pending>, Fault> {
    let booked_here: Vec<Waits<Pending>> = PENDING.with(|all| {
        all.with(|all| {
            let is_here = |waits: &&Waits<Pending>| {
                let it = &waits.of;
                it.queue_id == queue.queue_id
                    && queue.granule_of(it.at) == granule
                    && it.binding.binding_id == binding.binding_id
                    && it.content_id != content_id
                    && waits.is_of_statement()
            };
            all.iter().filter(is_here).cloned().collect()
        })
    });
    for waits in booked_here {
        if !goes_on(&waits)? {
            let is_other =
                |other: &Waits<Pending>| other.of.content_id != waits.of.content_id || !other.is_of_statement();
            PENDING.with(|all| all.with(|all| all.retain(is_other)));
            return Ok(Some(waits.of));
        }
    }
    Ok(None)
}

/// Whether a row of this content is on its way into another partition than this one, as where an UPDATE sends it there. What an undone
/// statement has left behind is no row elsewhere.
pub(super) fn is_on_its_way(binding: &Binding, content_id: &str, from: pg_sys::Oid) -> Result<bool, Fault> {
    let elsewhere = PENDING.with(|all| {
        all.with(|all| {
            let is_it = |waits: &&Waits<Pending>| {
                waits.of.is_of(binding, content_id) && waits.of.table != from && !waits.is_undone()
            };
            all.iter().find(is_it).cloned()
        })
    });
    Ok(elsewhere.map(|waits| goes_on(&waits)).transpose()? == Some(true))
}

/// A statement has ended. What was booked for rows that it has not stored after all, as with ON CONFLICT DO NOTHING, is given
/// back: all that are stored have been confirmed by now, those of statements inside it, too.
pub(super) fn end(command: pg_sys::CommandId) -> Result<(), Fault> {
    PENDING.with(|all| match all.is_any() {
        false => Ok(()),
        true => all.end(command, |ghost| {
            release_in(&ghost.binding, &ghost.content_id, ghost.queue_id, now()?)
        }),
    })
}
