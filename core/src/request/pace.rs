//! How often somebody who waits looks again.

use crate::Instant;

const FIRST: Instant = 1_000;
const LONGEST: Instant = 20_000;

/// Pauses between looks, in microseconds: short at first, never so long that the end of a wait is missed by much.
#[derive(Clone, Copy, Debug)]
pub struct Pace(Instant);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    /// The next pause, at most what is left; `None` where nothing is.
    pub fn pause(&mut self, left: Instant) -> Option<Instant> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        (left > 0).then(|| pause.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_end_with_the_wait() {
        let mut pace = Pace::default();
        let pauses: Vec<_> = (0..7).map(|_| pace.pause(1_000_000)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 20, 20].map(|ms| Some(ms * 1000)));
        assert_eq!(pace.pause(5), Some(5));
        assert_eq!(pace.pause(0), None);
        assert_eq!(pace.pause(-1), None);
    }
}
