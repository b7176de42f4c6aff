//! What the calls of one statement have open: `SELECT begin_publish(token) FROM …` opens its tables once.

use super::look::Bookings;
use super::state::Changes;
use super::turn::Turns;
use crate::fault::Fault;
use crate::pg::across_rows::{AcrossRows, Memory, Statement as _};
use crate::pg::call::Call;
use pgrx::pg_sys::FunctionCallInfo;

/// What a worker's call looks at and changes.
pub(super) struct Desk {
    pub(super) turns: Turns,
    pub(super) open: Open,
}

/// What it needs while it has the turn.
pub(super) struct Open {
    pub(super) bookings: Bookings,
    pub(super) changes: Changes,
}

impl Desk {
    fn within(memory: Memory) -> Self {
        Self {
            turns: Turns::within(memory),
            open: Open {
                bookings: Bookings::within(memory),
                changes: Changes::within(memory),
            },
        }
    }

    /// Acts with what an earlier call of the same statement has left open.
    pub(super) fn with<R>(
        fcinfo: FunctionCallInfo,
        act: impl FnOnce(&mut Self) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let call = Call::of(fcinfo);
        if call.memory_of_its_own().is_none() {
            return act(&mut Self::within(Memory::current()));
        }
        call.kept(|| Ok(AcrossRows::new()))?.with(&call, Self::within, |desk| {
            let result = act(desk)?;
            desk.turns.rest();
            desk.open.bookings.rest();
            desk.open.changes.rest();
            Ok(result)
        })
    }
}
