//! What has happened to a booking, beyond what its row says.

use crate::booking::Other;
use crate::fault::Fault;
use crate::pg::role::caller_name;
use crate::pg::statement::{Statement, Value};
use slotkeeper_core::Instant;

thread_local! {
    static MOVED: Statement = const { Statement::new(c"
INSERT INTO slotkeeper.move (booking_id, moved_at, from_at, to_at, conflicts_with, moved_by)
VALUES ($1, $2, $3, $4, $5, $6)") };
}

/// Records that a content got another instant than it had, or than was asked for.
pub(crate) fn moved(
    booking_id: i64,
    from: Instant,
    to: Instant,
    because_of: Option<&Other>,
    now: Instant,
) -> Result<(), Fault> {
    let caller = caller_name();
    let values = [
        Value::Int8(booking_id),
        Value::Time(now),
        Value::Time(from),
        Value::Time(to),
        Value::OptionalText(because_of.map(|other| other.content_id.as_str())),
        Value::Text(&caller),
    ];
    MOVED.with(|moved| moved.write(&values, |_| Ok(())))?;
    Ok(())
}
