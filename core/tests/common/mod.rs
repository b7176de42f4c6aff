//! Zones made by hand, and random ones.

// Each test binary uses its own part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use proptest::prelude::*;
use slotkeeper_core::zone::Zone;
use slotkeeper_core::{Instant, MICROS_PER_SEC, SECS_PER_DAY};

/// A zone with one offset at first and another from each transition on.
#[derive(Clone, Debug)]
pub(crate) struct HandMade {
    pub(crate) first: i32,
    /// Instants in Unix seconds, ascending, and the offsets from then on.
    pub(crate) transitions: Vec<(i64, i32)>,
}

impl Zone for HandMade {
    fn offset_at(&self, at: i64) -> (i32, i64) {
        let passed = self.transitions.partition_point(|&(start, _)| start <= at);
        let offset = passed
            .checked_sub(1)
            .map_or(self.first, |last| self.transitions[last].1);
        (
            offset,
            self.transitions.get(passed).map_or(i64::MAX, |&(start, _)| start),
        )
    }
}

/// The instant of an RFC 3339 text.
pub(crate) fn instant(text: &str) -> Instant {
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

fn at(text: &str) -> i64 {
    instant(text) / MICROS_PER_SEC
}

pub(crate) fn jakarta() -> HandMade {
    HandMade {
        first: 25_200,
        transitions: Vec::new(),
    }
}

/// Clocks go from 24:00 on Saturday to 01:00 on Sunday, and back from 24:00 to 23:00.
pub(crate) fn santiago_2026() -> HandMade {
    HandMade {
        first: -10_800,
        transitions: vec![
            (at("2026-04-05T03:00:00Z"), -14_400),
            (at("2026-09-06T04:00:00Z"), -10_800),
        ],
    }
}

/// Clocks shift by half an hour at 02:00.
pub(crate) fn lord_howe_2026() -> HandMade {
    HandMade {
        first: 39_600,
        transitions: vec![
            (at("2026-04-04T15:00:00Z"), 37_800),
            (at("2026-10-03T15:30:00Z"), 39_600),
        ],
    }
}

/// 2011-12-29 is followed by 2011-12-31.
pub(crate) fn apia_2011() -> HandMade {
    HandMade {
        first: -36_000,
        transitions: vec![(at("2011-12-30T10:00:00Z"), 50_400)],
    }
}

pub(crate) fn new_york_2026() -> HandMade {
    HandMade {
        first: -18_000,
        transitions: vec![
            (at("2026-03-08T07:00:00Z"), -14_400),
            (at("2026-11-01T06:00:00Z"), -18_000),
        ],
    }
}

/// Random zones whose offsets and transitions are multiples of `unit` seconds; up to `most` transitions fall into the
/// days from `from` to `to`. Gaps, overlaps, jumps over a whole date and transitions close to each other are all
/// likely.
pub(crate) fn zones(unit: i64, from: i64, to: i64, most: usize) -> impl Strategy<Value = HandMade> {
    let spread = 15 * 3_600 / unit;
    let offset = prop_oneof![
        3 => (-12_i64..=14).prop_map(|hours| hours * 3_600),
        2 => (-24_i64..=28).prop_map(|halves| halves * 1_800),
        2 => (-spread..=spread).prop_map(move |units| units * unit),
        1 => prop_oneof![Just(-36_000_i64), Just(50_400), Just(-39_600), Just(46_800)],
    ]
    .prop_map(|secs| secs as i32);
    let step = prop_oneof![
        4 => prop_oneof![Just(3_600_i64), Just(-3_600), Just(1_800), Just(-1_800), Just(86_400), Just(-86_400)]
            .prop_map(Step::By),
        1 => offset.clone().prop_map(Step::To),
    ];
    let time = prop_oneof![
        // At a full hour, which local midnights are likely to hit.
        (from * 24..to * 24).prop_map(|hour| hour * 3_600),
        (from * SECS_PER_DAY / unit..to * SECS_PER_DAY / unit).prop_map(move |units| units * unit),
    ];
    (offset, prop::collection::vec((time, step), 0..=most)).prop_map(|(first, mut jumps)| {
        jumps.sort_by_key(|&(time, _)| time);
        jumps.dedup_by_key(|&mut (time, _)| time);
        let mut last = i64::from(first);
        let transitions = jumps
            .into_iter()
            .map(|(time, step)| {
                let wanted = match step {
                    Step::To(offset) => i64::from(offset),
                    Step::By(secs) => last + secs,
                };
                // A zone's offsets stay below 16 hours.
                last = if wanted.abs() > 57_600 { last } else { wanted };
                (time, last as i32)
            })
            .collect();
        HandMade { first, transitions }
    })
}

#[derive(Clone, Debug)]
enum Step {
    By(i64),
    To(i32),
}
