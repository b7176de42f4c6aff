//! The server's clock and its time-zone data.

use crate::fault::Fault;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{FromDatum, pg_sys};
use slotkeeper_core::Instant;
use slotkeeper_core::zone::Zone;
use std::cell::Cell;
use std::ffi::{CStr, CString};

/// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The server's timestamp of an instant, pinned to what a timestamp may hold.
pub(crate) fn to_timestamp(at: Instant) -> pg_sys::TimestampTz {
    const MIN: i64 = -211_813_488_000_000_000;
    const END: i64 = 9_223_371_331_200_000_000;
    at.saturating_sub(POSTGRES_EPOCH).clamp(MIN, END - 1)
}

/// The same as a function's result.
pub(crate) fn to_timestamptz(at: Instant) -> Result<TimestampWithTimeZone, Fault> {
    // SAFETY: a timestamptz datum is its 64-bit value.
    unsafe { TimestampWithTimeZone::from_datum(to_timestamp(at).into(), false) }
        .ok_or_else(|| Fault::Internal(format!("instant {at} is no timestamp")))
}

/// The instant of a server timestamp; `None` for the infinite ones. The last thirty years of the server's calendar are one.
pub(crate) fn from_timestamp(timestamp: pg_sys::TimestampTz) -> Option<Instant> {
    (timestamp != i64::MIN && timestamp != i64::MAX).then(|| timestamp.saturating_add(POSTGRES_EPOCH))
}

/// The same of one that is to be written back: `None` also for those years.
pub(crate) fn exactly_from_timestamp(timestamp: pg_sys::TimestampTz) -> Option<Instant> {
    from_timestamp(timestamp).filter(|&at| at < Instant::MAX)
}

/// The wall clock now; it moves on inside a transaction.
pub(crate) fn clock() -> Instant {
    // SAFETY: no arguments, no state.
    unsafe { pg_sys::GetCurrentTimestamp() }.saturating_add(POSTGRES_EPOCH)
}

/// A time zone as the server knows it: what `AT TIME ZONE` uses.
#[derive(Clone, Debug)]
pub(crate) struct ServerZone {
    zone: *mut pg_sys::pg_tz,
    /// The period that was asked for last, `from..to`, and its offset: most questions fall into the same one.
    last: Cell<(i64, i64, i32)>,
}

impl ServerZone {
    /// The zone of this name, in any case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: the name is NUL-terminated; the result lives as long as the backend.
        let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
        // SAFETY: `zone` is not null when it is looked at. Zones with leap seconds ("right/…") are not among the server's own.
        (!zone.is_null() && unsafe { pg_sys::pg_tz_acceptable(zone) }).then(|| Self {
            zone,
            last: Cell::new((0, 0, 0)),
        })
    }

    /// The name in the spelling of the zone data.
    pub(crate) fn name(&self) -> String {
        // SAFETY: `zone` came from pg_tzset, its name is a C string inside it.
        unsafe { CStr::from_ptr(pg_sys::pg_get_timezone_name(self.zone)) }
            .to_string_lossy()
            .into_owned()
    }
}

impl Zone for ServerZone {
    fn offset_at(&self, at: i64) -> (i32, i64) {
        let (from, to, offset) = self.last.get();
        if from <= at && at < to {
            return (offset, to);
        }
        let (mut before, mut after) = (0, 0);
        let (mut before_dst, mut after_dst) = (0, 0);
        let mut boundary = 0;
        // SAFETY: all pointers are to locals; the zone lives as long as the backend.
        let found = unsafe {
            pg_sys::pg_next_dst_boundary(
                &at,
                &mut before,
                &mut before_dst,
                &mut boundary,
                &mut after,
                &mut after_dst,
                self.zone,
            )
        };
        let to = if found > 0 { boundary } else { i64::MAX };
        let offset = before as i32;
        self.last.set((at, to, offset));
        (offset, to)
    }
}

/// Sleeps, awake to a cancelled statement and a server that stops.
pub(crate) fn pause(microseconds: Instant) {
    let milliseconds = (microseconds / 1_000).max(1);
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: this backend's own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, milliseconds, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
