//! The slots of a few hours around a transition, worked out wall time by wall time.

use std::ops::Range;

use super::{DAY, LONGEST_SHIFT, Slot, rules_on};
use crate::MICROS_PER_SEC;
use crate::timetable::{Rule, Timetable};
use crate::zone::{Periods, Placed, Zone};

/// A rule on one day, at its instant.
struct Occurrence<'a> {
    placed: Placed,
    wall: i64,
    rule: &'a Rule,
}

/// The slots whose instants lie in `range`, whose ends are edges of granules, ascending.
pub(super) fn slots(timetable: &Timetable, zone: impl Zone, granule_secs: i64, range: Range<i64>) -> Vec<Slot> {
    let occurrences = occurrences(timetable, zone, &range);
    let mut keyed: Vec<(i64, Occurrence<'_>)> = occurrences
        .into_iter()
        .map(|occurrence| (occurrence.placed.at.div_euclid(granule_secs), occurrence))
        .collect();
    // Within a granule the rule that names the very wall time speaks first.
    keyed.sort_by_key(|(granule, occurrence)| (*granule, occurrence.placed.shifted, occurrence.wall));
    keyed
        .chunk_by(|(one, _), (next, _)| one == next)
        .filter_map(|group| {
            let (granule, _) = group.first()?;
            let members = || group.iter().map(|(_, occurrence)| occurrence);
            Some(Slot {
                at: members().map(|occurrence| occurrence.placed.at).min()? * MICROS_PER_SEC,
                granule: *granule,
                capacity: members().map(|occurrence| occurrence.rule.capacity).max()?,
                slot_ref: members().find_map(|occurrence| occurrence.rule.slot_ref.clone()),
            })
        })
        .collect()
}

fn occurrences<'a>(timetable: &'a Timetable, zone: impl Zone, range: &Range<i64>) -> Vec<Occurrence<'a>> {
    // A wall time is less than a day from its instant, its day's other end another one.
    let periods = Periods::between(zone, range.start - 3 * DAY, range.end + 3 * DAY);
    // Only offsets in force up to the longest shift ago place anything here.
    let offsets = || {
        periods
            .iter()
            .filter(|period| range.start - LONGEST_SHIFT < period.end && period.start < range.end)
            .map(|period| period.offset)
    };
    let (Some(least), Some(greatest)) = (offsets().min(), offsets().max()) else {
        return Vec::new();
    };
    let walls = range.start + least..range.end + greatest;
    let mut found = Vec::new();
    for day in walls.start.div_euclid(DAY)..=walls.end.div_euclid(DAY) {
        let exists = periods.have_day(day);
        for rule in rules_on(timetable, day) {
            let wall = day * DAY + i64::from(rule.minute) * 60;
            if !exists || !walls.contains(&wall) {
                continue;
            }
            let placed = periods.instant_of(wall);
            if range.contains(&placed.at) {
                found.push(Occurrence { placed, wall, rule });
            }
        }
    }
    found
}
