//! From wall times to instants.

use super::{Zone, bounded};
use crate::SECS_PER_DAY;

/// What a wall time stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallTime {
    /// The instant, in Unix seconds.
    At(i64),
    /// Nothing: the zone's calendar skips the whole day.
    SkippedDay,
}

/// The instant of a wall time (seconds since 1970-01-01T00:00:00 local time), unless its day does not exist.
pub fn wall_time(zone: impl Zone, local_secs: i64) -> WallTime {
    if day_exists(&zone, local_secs.div_euclid(SECS_PER_DAY)) {
        WallTime::At(instant_of_wall(zone, local_secs))
    } else {
        WallTime::SkippedDay
    }
}

/// The first instant at which clocks show `local_secs`; in a gap the wall time shifts forward by the gap. Both
/// read the wall time with the offset before the transition.
pub fn instant_of_wall(zone: impl Zone, local_secs: i64) -> i64 {
    let from = local_secs.saturating_sub(SECS_PER_DAY);
    let to = local_secs.saturating_add(SECS_PER_DAY);
    Periods::between(&zone, from, to).instant_of(local_secs).at
}

/// Whether clocks in the zone show any time of the day `day` (days since 1970-01-01).
pub fn day_exists(zone: impl Zone, day: i64) -> bool {
    let start = day.saturating_mul(SECS_PER_DAY);
    let from = start.saturating_sub(SECS_PER_DAY);
    let to = start.saturating_add(2 * SECS_PER_DAY);
    Periods::between(&zone, from, to).have_day(day)
}

/// A stretch of time under one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// First second.
    pub(crate) start: i64,
    /// First second after it.
    pub(crate) end: i64,
    /// Seconds east of UTC.
    pub(crate) offset: i64,
}

impl Period {
    pub(crate) fn at(zone: impl Zone, at: i64) -> Self {
        let (offset, end) = zone.offset_at(at);
        Self {
            start: at,
            end: end.max(at.saturating_add(1)),
            offset: bounded(offset).into(),
        }
    }

    fn instant_of(&self, wall: i64) -> Option<i64> {
        let at = wall.saturating_sub(self.offset);
        (self.start <= at && at < self.end).then_some(at)
    }

    fn first_wall(&self) -> i64 {
        self.start.saturating_add(self.offset)
    }

    /// The first wall time that the period no longer reaches.
    pub(crate) fn end_wall(&self) -> i64 {
        self.end.saturating_add(self.offset)
    }
}

/// The periods of a zone around some instants, adjacent and in order; consecutive offsets differ.
#[derive(Debug)]
pub(crate) struct Periods(Vec<Period>);

/// The instant that a wall time stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) at: i64,
    /// Whether clocks show another time then, because a gap swallowed the wall time.
    pub(crate) shifted: bool,
}

impl Periods {
    /// The periods in force from `from` to `to`; the first is cut at `from`.
    pub(crate) fn between(zone: impl Zone, from: i64, to: i64) -> Self {
        let mut period = Period::at(&zone, from);
        let mut periods = Vec::new();
        while period.end <= to && period.end < i64::MAX {
            let next = Period::at(&zone, period.end);
            if next.offset == period.offset {
                period.end = next.end;
            } else {
                periods.push(period);
                period = next;
            }
        }
        periods.push(period);
        Self(periods)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Period> {
        self.0.iter()
    }

    /// See [`instant_of_wall`]; right if the periods reach a day around `wall`.
    pub(crate) fn instant_of(&self, wall: i64) -> Placed {
        let real = self.0.iter().find_map(|period| period.instant_of(wall));
        if let Some(at) = real {
            return Placed { at, shifted: false };
        }
        let before_gap = self
            .0
            .windows(2)
            .find_map(|pair| match pair {
                [before, after] if before.end_wall() <= wall && wall < after.first_wall() => Some(before),
                _ => None,
            })
            .or(self.0.first());
        let offset = before_gap.map_or(0, |period| period.offset);
        Placed {
            at: wall.saturating_sub(offset),
            shifted: true,
        }
    }

    /// Whether clocks show any time of `day`; right if the periods reach from a day before it to a day after.
    pub(crate) fn have_day(&self, day: i64) -> bool {
        let first = day.saturating_mul(SECS_PER_DAY);
        let end = first.saturating_add(SECS_PER_DAY);
        self.0
            .iter()
            .any(|period| period.first_wall() < end && first < period.end_wall())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::FixedZone;

    const HOUR: i64 = 3_600;

    /// Offset before `at`, offset from `at` on.
    struct Jump {
        at: i64,
        before: i32,
        after: i32,
    }

    impl Zone for Jump {
        fn offset_at(&self, at: i64) -> (i32, i64) {
            if at < self.at {
                (self.before, self.at)
            } else {
                (self.after, i64::MAX)
            }
        }
    }

    #[test]
    fn a_wall_time_in_a_gap_shifts_forward_by_the_gap() {
        let zone = Jump {
            at: 2 * HOUR,
            before: 0,
            after: 3_600,
        };
        assert_eq!(instant_of_wall(&zone, 2 * HOUR - 1), 2 * HOUR - 1);
        assert_eq!(instant_of_wall(&zone, 2 * HOUR), 2 * HOUR);
        assert_eq!(instant_of_wall(&zone, 2 * HOUR + 1_800), 2 * HOUR + 1_800);
        assert_eq!(instant_of_wall(&zone, 3 * HOUR), 2 * HOUR);
    }

    #[test]
    fn a_wall_time_in_an_overlap_is_its_first_instant() {
        let zone = Jump {
            at: 2 * HOUR,
            before: 0,
            after: -3_600,
        };
        assert_eq!(instant_of_wall(&zone, HOUR), HOUR);
        assert_eq!(instant_of_wall(&zone, 2 * HOUR - 1), 2 * HOUR - 1);
        assert_eq!(instant_of_wall(&zone, 2 * HOUR), 3 * HOUR);
    }

    #[test]
    fn only_a_gap_that_swallows_the_whole_day_skips_it() {
        let dateline = Jump {
            at: 0,
            before: -36_000,
            after: 50_400,
        };
        // 1969-12-31T14:00 local is followed by 1970-01-01T14:00.
        assert!(day_exists(&dateline, -1) && day_exists(&dateline, 0));
        let midnight = Jump {
            at: 36_000,
            before: -36_000,
            after: 50_400,
        };
        assert!(day_exists(&midnight, -1) && !day_exists(&midnight, 0) && day_exists(&midnight, 1));
        assert_eq!(wall_time(&midnight, 12 * HOUR), WallTime::SkippedDay);
        assert_eq!(wall_time(&midnight, 24 * HOUR), WallTime::At(36_000));
    }

    #[test]
    fn the_ends_of_time_and_absurd_offsets_do_not_overflow() {
        for wall in [i64::MIN, i64::MAX, 0] {
            for offset in [i32::MIN, 0, i32::MAX] {
                instant_of_wall(FixedZone(offset), wall);
                wall_time(FixedZone(offset), wall);
            }
        }
        assert!(day_exists(FixedZone(i32::MAX), 0));
    }
}
