//! Slots against a slow, obvious model, and against real transitions.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::{BTreeMap, HashSet};

use common::{HandMade, instant};
use proptest::prelude::*;
use serde_json::{Value, json};
use slotkeeper_core::slots::{Slot, Slots};
use slotkeeper_core::timetable::{Clock, Timetable};
use slotkeeper_core::zone::{FixedZone, Zone, format_local, format_utc, instant_of_wall};
use slotkeeper_core::{MICROS_PER_SEC, SECS_PER_DAY};

fn timetable(json: Value) -> Timetable {
    Timetable::parse(&json, 60).unwrap()
}

/// The next `count` slots from `from`, as clocks in the zone show them.
fn shown(timetable: &Timetable, zone: &HandMade, from: &str, count: usize) -> Vec<String> {
    let mut slots = Slots::new(timetable, zone, 60);
    slots.seek(instant(from));
    (0..count)
        .map_while(|_| slots.next())
        .map(|slot| format_local(zone, slot.at))
        .collect()
}

#[test]
fn six_in_the_morning_in_jakarta_is_the_evening_before_in_utc() {
    let timetable = timetable(json!({"daily": ["06:00"]}));
    let mut slots = Slots::new(&timetable, common::jakarta(), 60);
    slots.seek(instant("2026-01-15T12:00:00Z"));
    assert_eq!(format_utc(slots.next().unwrap().at), "2026-01-15T23:00:00+00:00");
}

#[test]
fn a_slot_in_santiagos_midnight_gap_shifts_by_the_hour() {
    let timetable = timetable(json!({"daily": ["00:00", "00:30", "01:15"]}));
    assert_eq!(
        shown(&timetable, &common::santiago_2026(), "2026-09-05T12:00:00-04:00", 4),
        [
            "2026-09-06T01:00:00-03:00",
            "2026-09-06T01:15:00-03:00",
            "2026-09-06T01:30:00-03:00",
            "2026-09-07T00:00:00-03:00",
        ]
    );
}

#[test]
fn a_slot_in_santiagos_repeated_hour_fires_once_before_the_clocks_go_back() {
    let timetable = timetable(json!({"daily": ["23:30"]}));
    assert_eq!(
        shown(&timetable, &common::santiago_2026(), "2026-04-04T12:00:00-03:00", 2),
        ["2026-04-04T23:30:00-03:00", "2026-04-05T23:30:00-04:00"]
    );
}

#[test]
fn lord_howe_shifts_by_half_an_hour() {
    let timetable = timetable(json!({"sun": ["01:45", "02:15"]}));
    let zone = common::lord_howe_2026();
    assert_eq!(
        shown(&timetable, &zone, "2026-10-03T00:00:00Z", 2),
        ["2026-10-04T01:45:00+10:30", "2026-10-04T02:45:00+11:00"]
    );
    assert_eq!(
        shown(&timetable, &zone, "2026-04-04T00:00:00Z", 2),
        ["2026-04-05T01:45:00+11:00", "2026-04-05T02:15:00+10:30"]
    );
}

#[test]
fn the_day_that_apia_skipped_has_no_slot() {
    let timetable = timetable(json!({"daily": ["00:00", "12:00"]}));
    assert_eq!(
        shown(&timetable, &common::apia_2011(), "2011-12-29T20:00:00Z", 4),
        [
            "2011-12-29T12:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
            "2011-12-31T12:00:00+14:00",
            "2012-01-01T00:00:00+14:00",
        ]
    );
    let fridays = self::timetable(json!({"fri": ["09:00"]}));
    assert_eq!(
        shown(&fridays, &common::apia_2011(), "2011-12-27T00:00:00Z", 1),
        ["2012-01-06T09:00:00+14:00"]
    );
}

#[test]
fn two_rules_on_one_instant_are_one_slot_under_the_rule_that_names_the_time() {
    let timetable = timetable(json!({"sun": [
        {"time": "02:30", "capacity": 3, "ref": "shifted"},
        {"time": "03:30", "capacity": 2, "ref": "named"},
    ]}));
    let zone = common::new_york_2026();
    let mut slots = Slots::new(&timetable, &zone, 60);
    slots.seek(instant("2026-03-08T00:00:00-05:00"));
    let slot = slots.next().unwrap();
    assert_eq!(format_local(&zone, slot.at), "2026-03-08T03:30:00-04:00");
    assert_eq!((slot.capacity, slot.slot_ref.as_deref()), (3, Some("named")));
    assert_eq!(
        format_local(&zone, slots.next().unwrap().at),
        "2026-03-15T02:30:00-04:00"
    );
}

#[test]
fn two_slots_that_a_shift_puts_into_one_granule_become_the_earlier_one() {
    let json = json!({"sun": [{"time": "02:35", "capacity": 2}, "03:40", "03:50"]});
    let timetable = Timetable::parse(&json, 600).unwrap();
    let zone = HandMade {
        first: 0,
        transitions: vec![(instant("2026-03-01T02:00:00Z") / MICROS_PER_SEC, 3_900)],
    };
    let mut slots = Slots::new(&timetable, &zone, 600);
    slots.seek(instant("2026-03-01T00:00:00Z"));
    // Clocks go from 02:00 to 03:05: 02:35 is 03:40, and 03:50 is 02:45Z.
    let yielded: Vec<_> = (0..2)
        .map(|_| slots.next().unwrap())
        .map(|s| (format_utc(s.at), s.capacity))
        .collect();
    assert_eq!(
        yielded,
        [
            ("2026-03-01T02:35:00+00:00".into(), 2),
            ("2026-03-01T02:45:00+00:00".into(), 1)
        ]
    );

    let close = Timetable::parse(&json!({"sun": [{"time": "02:36", "capacity": 2}, "03:46"]}), 900).unwrap();
    let mut slots = Slots::new(&close, &zone, 900);
    slots.seek(instant("2026-03-01T00:00:00Z"));
    let slot = slots.next().unwrap();
    assert_eq!(
        (format_utc(slot.at).as_str(), slot.capacity),
        ("2026-03-01T02:36:00+00:00", 2)
    );
    slots.seek(slot.at + 1);
    assert_eq!(format_utc(slots.next().unwrap().at), "2026-03-08T01:31:00+00:00");
}

#[test]
fn postiz_minutes_ignore_the_zone() {
    let timetable = timetable(json!([{"time": -60}, {"time": 1500}]));
    let zone = common::new_york_2026();
    let mut slots = Slots::new(&timetable, &zone, 60);
    slots.seek(instant("2026-03-08T00:00:00Z"));
    assert_eq!(format_utc(slots.next().unwrap().at), "2026-03-08T01:00:00+00:00");
    assert_eq!(format_utc(slots.next().unwrap().at), "2026-03-08T23:00:00+00:00");
}

#[test]
fn a_mean_time_with_seconds_gives_instants_with_seconds() {
    let timetable = timetable(json!({"daily": ["06:00"]}));
    let mut slots = Slots::new(&timetable, FixedZone(25_632), 60);
    slots.seek(instant("1900-01-01T00:00:00Z"));
    assert_eq!(format_utc(slots.next().unwrap().at), "1900-01-01T22:52:48+00:00");
}

#[test]
fn a_free_form_timetable_and_the_end_of_time_have_no_slot() {
    let free = timetable(json!({}));
    assert_eq!(Slots::new(&free, FixedZone(0), 60).next(), None);
    let daily = timetable(json!({"daily": ["12:00"]}));
    let mut slots = Slots::new(&daily, FixedZone(3_600), 60);
    slots.seek(i64::MAX);
    assert_eq!(slots.next(), None);
    slots.seek(instant("9999-12-31T23:00:00Z"));
    assert!(slots.next().is_some());
    slots.seek(i64::MAX / 365_250 * 365_000);
    assert!(slots.next().is_some());
    slots.seek(i64::MIN);
    assert!(slots.next().is_some());
    for granule in [i64::MIN, i64::MAX, i64::MAX / 60, i64::MIN / 60] {
        assert_eq!(slots.slot_in_granule(granule), None);
    }
}

#[test]
fn a_zone_that_changes_every_second_for_ever_comes_to_an_end() {
    struct Restless;
    impl Zone for Restless {
        fn offset_at(&self, at: i64) -> (i32, i64) {
            (if at % 2 == 0 { i32::MAX } else { i32::MIN }, i64::MIN)
        }
    }
    let daily = timetable(json!({"daily": ["12:00"]}));
    let mut slots = Slots::new(&daily, Restless, 60);
    slots.seek(0);
    assert!(slots.next().is_some());
}

/// The first day on which random zones have a transition.
const FIRST_DAY: i64 = 0;

/// A slot of the model: instant, granule, capacity, ref.
type ModelSlot = (i64, i64, u16, Option<String>);

/// A rule on one day: whether a gap shifted it, wall time, instant, capacity, ref.
type Occurrence = (bool, i64, i64, u16, Option<String>);

/// All slots from 4 days before to 4 days after the days of the transitions: walk through time second by second (or
/// `unit` by `unit`), note when clocks first show what, then go through every day and rule.
fn model(timetable: &Timetable, zone: &HandMade, granule: i64, unit: i64, days: i64) -> Vec<ModelSlot> {
    let (from, to) = ((FIRST_DAY - 6) * SECS_PER_DAY, (FIRST_DAY + days + 6) * SECS_PER_DAY);
    // Indexed by wall time, from a day before the first instant on.
    let mut first_shown = vec![None; ((to - from + 2 * SECS_PER_DAY) / unit) as usize];
    let index = |wall: i64| ((wall - from + SECS_PER_DAY) / unit) as usize;
    let mut days_shown: HashSet<i64> = HashSet::new();
    // Where clocks jumped forward: first and last time left out, and the offset before.
    let mut gaps: Vec<(i64, i64, i64)> = Vec::new();
    let mut last: Option<(i64, i64)> = None;
    for at in (from..to).step_by(unit as usize) {
        let offset = match timetable.clock() {
            Clock::Local => i64::from(zone.offset_at(at).0),
            Clock::Utc => 0,
        };
        let wall = at + offset;
        if let Some((last_wall, last_offset)) = last
            && wall > last_wall + unit
        {
            gaps.push((last_wall + unit, wall, last_offset));
        }
        first_shown[index(wall)].get_or_insert(at);
        if wall % SECS_PER_DAY < unit || last.is_none_or(|(last_wall, _)| wall != last_wall + unit) {
            days_shown.insert(wall.div_euclid(SECS_PER_DAY));
        }
        last = Some((wall, offset));
    }
    let mut granules: BTreeMap<i64, Vec<Occurrence>> = BTreeMap::new();
    for day in FIRST_DAY - 6..FIRST_DAY + days + 6 {
        for rule in timetable.rules_of((day + 3).rem_euclid(7) as usize) {
            let wall = day * SECS_PER_DAY + i64::from(rule.minute) * 60;
            let (shifted, at) = match first_shown[index(wall)] {
                Some(at) => (false, at),
                None if !days_shown.contains(&day) => continue,
                None => match gaps.iter().find(|&&(first, end, _)| first <= wall && wall < end) {
                    Some(&(_, _, offset)) => (true, wall - offset),
                    None => continue,
                },
            };
            granules.entry(at.div_euclid(granule)).or_default().push((
                shifted,
                wall,
                at,
                rule.capacity,
                rule.slot_ref.as_deref().map(str::to_owned),
            ));
        }
    }
    let whole = (FIRST_DAY - 4) * SECS_PER_DAY..(FIRST_DAY + days + 4) * SECS_PER_DAY;
    granules
        .into_iter()
        .map(|(granule, mut rules)| {
            rules.sort();
            let at = rules.iter().map(|rule| rule.2).min().unwrap();
            let capacity = rules.iter().map(|rule| rule.3).max().unwrap();
            (at, granule, capacity, rules.into_iter().find_map(|rule| rule.4))
        })
        .filter(|slot| whole.contains(&slot.0))
        .collect()
}

fn as_model(slot: Slot) -> ModelSlot {
    (
        slot.at / MICROS_PER_SEC,
        slot.granule,
        slot.capacity,
        slot.slot_ref.as_deref().map(str::to_owned),
    )
}

/// Timetables whose slots are at least `granule_minutes` apart, with the granule in seconds.
fn timetables() -> impl Strategy<Value = (Timetable, i64)> {
    prop_oneof![Just(1_i64), Just(30), Just(60), Just(300), Just(900)].prop_flat_map(|granule| {
        let step = ((granule + 59) / 60) as u16;
        // Multiples of the step never come too close, and most shifts keep them from meeting exactly.
        let time = (0..1440 / step).prop_map(move |n| n * step);
        let item = (time, 1_u16..4, prop::option::of("[a-c]")).prop_map(|(minute, capacity, slot_ref)| {
            json!({"time": format!("{:02}:{:02}", minute / 60, minute % 60), "capacity": capacity, "ref": slot_ref})
        });
        let day = prop::collection::btree_map(
            "(mon|tue|wed|thu|fri|sat|sun|daily|weekends|fri-mon)",
            prop::collection::vec(item, 1..6),
            1..4,
        )
        .prop_map(|days| {
            let days = days.into_iter().map(|(day, mut items)| {
                items.sort_by_key(|item| item["time"].to_string());
                items.dedup_by_key(|item| item["time"].to_string());
                (day, Value::Array(items))
            });
            Value::Object(days.collect())
        });
        let every = (1_u16..40, 0_u16..1440).prop_map(move |(steps, from)| {
            let from = from / step * step;
            json!({"every": format!("{} minutes", steps * step), "from": format!("{:02}:{:02}", from / 60, from % 60)})
        });
        let utc = prop::collection::vec(
            (-100_i64..100).prop_map(move |n| json!({"time": n * i64::from(step)})),
            1..5,
        )
        .prop_map(Value::Array);
        prop_oneof![4 => day, 2 => every, 1 => utc].prop_map(move |json| {
            (
                Timetable::parse(&json, granule).expect("spaced by the granule"),
                granule,
            )
        })
    })
}

fn agree(
    timetable: &Timetable,
    granule: i64,
    zone: &HandMade,
    unit: i64,
    days: i64,
    seeks: &[f64],
) -> Result<(), TestCaseError> {
    let expected = model(timetable, zone, granule, unit, days);
    let (start, end) = ((FIRST_DAY - 4) * SECS_PER_DAY, (FIRST_DAY + days + 4) * SECS_PER_DAY);
    let mut slots = Slots::new(timetable, zone, granule);
    slots.seek(start * MICROS_PER_SEC);
    let walked: Vec<ModelSlot> = std::iter::from_fn(|| slots.next())
        .map(as_model)
        .take_while(|slot| slot.0 < end)
        .collect();
    prop_assert_eq!(&walked, &expected);
    prop_assert!(
        walked
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
    );

    for part in seeks {
        let from = start * MICROS_PER_SEC + ((end - start) as f64 * MICROS_PER_SEC as f64 * part) as i64;
        let next = expected.iter().find(|slot| slot.0 * MICROS_PER_SEC >= from);
        let mut fresh = Slots::new(timetable, zone, granule);
        for slots in [&mut slots, &mut fresh] {
            slots.seek(from);
            let granule = from.div_euclid(granule * MICROS_PER_SEC);
            let inside = expected.iter().find(|slot| slot.1 == granule);
            prop_assert_eq!(slots.slot_in_granule(granule).map(as_model), inside.cloned());
            if let Some(next) = next {
                prop_assert_eq!(slots.next().map(as_model), Some(next.clone()));
                prop_assert_eq!(slots.slot_in_granule(next.1).map(as_model), Some(next.clone()));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn slots_are_what_going_through_every_minute_finds(
        (timetable, granule) in timetables(),
        zone in common::zones(60, FIRST_DAY, FIRST_DAY + 12, 5),
        seeks in prop::collection::vec(0.0..1.0, 20),
    ) {
        agree(&timetable, granule, &zone, 60, 12, &seeks)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn slots_are_what_going_through_every_second_finds(
        (timetable, granule) in timetables(),
        zone in common::zones(1, FIRST_DAY, FIRST_DAY + 2, 3),
        seeks in prop::collection::vec(0.0..1.0, 20),
    ) {
        agree(&timetable, granule, &zone, 1, 2, &seeks)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_instant_of_a_wall_time_is_its_first_one_or_shifts_by_the_gap(
        zone in common::zones(60, 0, 4, 4),
        minute in 0_i64..4 * 1440,
    ) {
        let wall = minute * 60;
        let shown = |at: i64| at + i64::from(zone.offset_at(at).0);
        let first = (-2 * SECS_PER_DAY..6 * SECS_PER_DAY).step_by(60).find(|&at| shown(at) == wall);
        let jump = || (-2 * SECS_PER_DAY..6 * SECS_PER_DAY).step_by(60).find(|&at| shown(at - 60) < wall && wall < shown(at));
        let expected = first.unwrap_or_else(|| {
            let before = jump().unwrap() - 60;
            wall - (shown(before) - before)
        });
        prop_assert_eq!(instant_of_wall(&zone, wall), expected);
    }
}
