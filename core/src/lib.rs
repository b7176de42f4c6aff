//! slotkeeper's decisions, without PostgreSQL: which instants a timetable names, which seat of a slot is
//! free, what a span or a zone name means, when a failed publish is tried again.
//!
//! Nothing here knows a clock, a table or a time-zone file. The zone's data comes in through
//! [`zone::Zone`], so that the server's own copy is the only one. Everything is total: whatever the input,
//! a function answers or returns `None` or [`Invalid`]; none panics and none overflows.

pub mod binding;
mod invalid;
pub mod lease;
pub mod options;
pub mod policy;
pub mod publish_key;
pub mod request;
pub mod run;
pub mod search;
pub mod seat;
pub mod slots;
pub mod slug;
pub mod span;
pub mod timetable;
pub mod zone;

pub use invalid::Invalid;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Instant = i64;

/// Microseconds in a second.
pub const MICROS_PER_SEC: i64 = 1_000_000;

/// Seconds in a civil day without a transition.
pub const SECS_PER_DAY: i64 = 86_400;

/// Minutes in a civil day without a transition.
pub const MINUTES_PER_DAY: u16 = 1_440;
