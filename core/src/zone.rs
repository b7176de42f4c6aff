//! Time zones: offsets in force, wall times, zone names.
//!
//! The zone's data belongs to whoever implements [`Zone`]; here is only what follows from it.

mod name;
mod text;
mod wall;

pub use name::{USE_A_REGION, ZoneName, suggest, zone_name};
pub use text::{format_local, format_utc};
pub(crate) use wall::{Period, Periods, Placed};
pub use wall::{WallTime, day_exists, instant_of_wall, wall_time};

use crate::{Instant, MICROS_PER_SEC, SECS_PER_DAY};

/// A time zone as a sequence of periods, each with one offset.
///
/// Offsets are shorter than a day, as PostgreSQL's are; longer ones are cut. Two consecutive periods may have
/// equal offsets.
pub trait Zone {
    /// The offset in force at `at` (Unix seconds) in seconds east of UTC, and the first later second at which
    /// it may change (`i64::MAX`: never).
    fn offset_at(&self, at: i64) -> (i32, i64);
}

impl<Z: Zone + ?Sized> Zone for &Z {
    fn offset_at(&self, at: i64) -> (i32, i64) {
        (**self).offset_at(at)
    }
}

/// A zone that keeps one offset, in seconds east of UTC, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedZone(pub i32);

impl Zone for FixedZone {
    fn offset_at(&self, _at: i64) -> (i32, i64) {
        (self.0, i64::MAX)
    }
}

/// What a clock in the zone shows at `instant`: seconds since 1970-01-01T00:00:00 local time (fractions cut
/// off), and the offset.
pub fn local_of(zone: impl Zone, instant: Instant) -> (i64, i32) {
    let at = instant.div_euclid(MICROS_PER_SEC);
    let offset = bounded(zone.offset_at(at).0);
    (at + i64::from(offset), offset)
}

/// An offset cut to what [`Zone`] promises; all bounds of the slot arithmetic rest on it.
pub(crate) fn bounded(offset: i32) -> i32 {
    const LONGEST: i32 = SECS_PER_DAY as i32 - 1;
    offset.clamp(-LONGEST, LONGEST)
}
