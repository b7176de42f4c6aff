//! What has become of a request by now.

use crate::{Instant, MICROS_PER_SEC};

/// What a stored request says of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the key was first seen.
    pub started_at: Instant,
    /// While it is in progress, the end of the holder's lease; once it is finished, the end of its response.
    pub held_until: Instant,
    /// How long a response is kept after the finish, in seconds.
    pub lifetime: i32,
    /// Whether it is finished.
    pub finished: bool,
}

/// What a request is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// In progress: somebody has a lease on it.
    Held,
    /// In progress, but the lease is over: it may be taken over.
    Abandoned,
    /// Finished: its response is replayed.
    Finished,
    /// Finished so long ago that only its resource is still known.
    Expired,
    /// As though it had never been.
    Gone,
}

impl Times {
    /// What the request is at this instant.
    pub fn life(&self, now: Instant) -> Life {
        match self.finished {
            false if now < self.held_until => Life::Held,
            true if now < self.held_until => Life::Finished,
            finished if now >= self.gone_at() => {
                debug_assert!(finished || now >= self.held_until);
                Life::Gone
            }
            true => Life::Expired,
            false => Life::Abandoned,
        }
    }

    /// From when on nothing of it matters.
    pub fn gone_at(&self) -> Instant {
        let lifetime = i64::from(self.lifetime).saturating_mul(MICROS_PER_SEC);
        if self.finished {
            self.held_until.saturating_add(lifetime)
        } else {
            self.held_until.max(self.started_at.saturating_add(lifetime))
        }
    }
}

/// The minute, counted from 1970, from which on a row is worth a look by whoever cleans up: never too early.
pub fn sweep_minute(at: Instant) -> i32 {
    const MINUTE: i64 = 60 * MICROS_PER_SEC;
    let minute = at
        .div_euclid(MINUTE)
        .saturating_add(i64::from(at.rem_euclid(MINUTE) > 0));
    i32::try_from(minute).unwrap_or(if minute < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = MICROS_PER_SEC;

    #[test]
    fn a_request_in_progress_is_held_then_abandoned_then_gone() {
        let times = Times {
            started_at: 0,
            held_until: 60 * SECOND,
            lifetime: 3600,
            finished: false,
        };
        assert_eq!(times.life(0), Life::Held);
        assert_eq!(times.life(60 * SECOND - 1), Life::Held);
        assert_eq!(times.life(60 * SECOND), Life::Abandoned);
        assert_eq!(times.life(3600 * SECOND - 1), Life::Abandoned);
        assert_eq!(times.life(3600 * SECOND), Life::Gone);
        // A lease longer than the lifetime counts.
        let long = Times { lifetime: 1, ..times };
        assert_eq!(long.life(59 * SECOND), Life::Held);
        assert_eq!(long.life(60 * SECOND), Life::Gone);
    }

    #[test]
    fn a_finished_request_expires_and_is_gone_a_lifetime_later() {
        let times = Times {
            started_at: 0,
            held_until: 3700 * SECOND,
            lifetime: 3600,
            finished: true,
        };
        assert_eq!(times.life(3700 * SECOND - 1), Life::Finished);
        assert_eq!(times.life(3700 * SECOND), Life::Expired);
        assert_eq!(times.life(7300 * SECOND - 1), Life::Expired);
        assert_eq!(times.life(7300 * SECOND), Life::Gone);
    }

    #[test]
    fn a_sweep_comes_never_too_early() {
        assert_eq!(sweep_minute(0), 0);
        assert_eq!(sweep_minute(1), 1);
        assert_eq!(sweep_minute(60 * SECOND), 1);
        assert_eq!(sweep_minute(60 * SECOND + 1), 2);
        assert_eq!(sweep_minute(i64::MAX), i32::MAX);
        assert_eq!(sweep_minute(i64::MIN), i32::MIN);
    }
}
