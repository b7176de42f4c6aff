//! Whatever the input, an answer: random JSON and text never panic, and what is accepted keeps its promises.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use slotkeeper_core::options::QueueOptions;
use slotkeeper_core::policy::Policy;
use slotkeeper_core::slots::Slots;
use slotkeeper_core::span::Span;
use slotkeeper_core::timetable::Timetable;
use slotkeeper_core::zone::{FixedZone, ZoneName, format_local, suggest, zone_name};

/// JSON made of the words that the parsers know and of rubbish.
fn hostile_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "(every|from|to|days|capacity|time|ref|mon|mon-fri|fri-mon|daily|weekends|granule|horizon|min_gap|max_attempts|delays|backoff|base|cap|factor|jitter|limits|max|per|window)",
        "[a-z,-]{0,12}",
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_i64..1100).prop_map(Value::from),
        "[0-2][0-9]:[0-6][0-9]".prop_map(Value::from),
        "[0-9]{1,22}(\\.[0-9]{1,22})? ?(s|minutes|hours|days|weeks|months|years)".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Timetables of which many are right.
fn nearly_right_timetable() -> impl Strategy<Value = Value> {
    let time = "([01][0-9]|2[0-4]):[0-5][0-9]";
    let item = prop_oneof![
        time.prop_map(Value::from),
        (time, 0_i64..1002).prop_map(|(time, capacity)| json!({"time": time, "capacity": capacity})),
    ];
    prop::collection::btree_map("(mon|tue-thu|sat,sun|daily)", prop::collection::vec(item, 0..4), 0..3).prop_map(
        |days| {
            Value::Object(
                days.into_iter()
                    .map(|(day, items)| (day, Value::Array(items)))
                    .collect(),
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_accepted_timetable_is_sorted_spaced_and_has_a_slot(
        json in prop_oneof![hostile_json(), nearly_right_timetable()],
        granule in prop::sample::select(vec![1_i64, 60, 300, 900]),
    ) {
        match Timetable::parse(&json, granule) {
            Err(invalid) => {
                prop_assert!(invalid.path.starts_with("timetable"));
                prop_assert!(!invalid.problem.is_empty());
                prop_assert!(invalid.to_string().len() < 2_000);
            }
            Ok(timetable) => {
                prop_assert_eq!(timetable.is_free_form(), json == json!({}));
                let times: BTreeSet<i64> = (0..7_i64)
                    .flat_map(|day| timetable.rules_of(day as usize).iter().map(move |rule| day * 1440 + i64::from(rule.minute)))
                    .collect();
                prop_assert_eq!(times.len(), (0..7).map(|day| timetable.rules_of(day).len()).sum::<usize>());
                let two_weeks: Vec<i64> = times.iter().copied().chain(times.iter().map(|minute| minute + 7 * 1440)).collect();
                prop_assert!(two_weeks.windows(2).all(|pair| (pair[1] - pair[0]) * 60 >= granule));
                for rule in (0..7).flat_map(|day| timetable.rules_of(day)) {
                    prop_assert!(rule.minute < 1440 && (1..=1000).contains(&rule.capacity));
                }
                let next = Slots::new(&timetable, FixedZone(0), granule).next();
                prop_assert_eq!(next.is_none(), timetable.is_free_form());
            }
        }
    }

    #[test]
    fn accepted_options_survive_being_written_and_read(json in hostile_json()) {
        match QueueOptions::parse(&json) {
            Err(invalid) => prop_assert!(invalid.path.starts_with("options")),
            Ok(options) => prop_assert_eq!(QueueOptions::parse(&options.to_json()), Ok(options)),
        }
    }

    #[test]
    fn accepted_policies_survive_being_written_and_read(json in hostile_json()) {
        match Policy::parse(&json) {
            Err(invalid) => prop_assert!(invalid.path.starts_with("policy")),
            Ok(policy) => prop_assert_eq!(Policy::parse(&policy.to_json()), Ok(policy)),
        }
    }

    #[test]
    fn a_span_survives_being_written_and_read(months in 0..i32::MAX, days in 0..i32::MAX, micros in 0..i64::MAX) {
        let span = Span { months, days, micros };
        if (months, days, micros) != (0, 0, 0) {
            prop_assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
    }

    #[test]
    fn a_span_of_any_parts_answers(months: i32, days: i32, micros: i64, from: i64) {
        let span = Span { months, days, micros };
        let _ = (span.after(from), span.as_fixed_micros(), span.to_string());
    }

    #[test]
    fn a_span_lies_ahead(text in "[1-9][0-9]{0,2} (s|minutes|hours|days|weeks|months|years)", from in -1_i64 << 55..1 << 55) {
        prop_assert!(Span::parse(&text).unwrap().after(from).unwrap() > from);
    }

    #[test]
    fn an_accepted_span_is_positive(text in "[ 0-9:.a-z-]{0,24}") {
        if let Some(span) = Span::parse(&text) {
            prop_assert!(span.months >= 0 && span.days >= 0 && span.micros >= 0);
            prop_assert!((span.months, span.days, span.micros) != (0, 0, 0));
            prop_assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
    }

    #[test]
    fn an_accepted_zone_name_is_a_plain_path(name in prop_oneof![any::<String>(), "[A-Za-z0-9/_+.<>,-]{0,20}"]) {
        if let ZoneName::Region(region) = zone_name(&name) {
            prop_assert!(!region.is_empty() && region.len() <= 255);
            prop_assert!(!region.contains("..") && region.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b)));
        }
        let _ = suggest(&name, ["Asia/Jakarta".to_owned(), "UTC".to_owned()].into_iter());
    }

    #[test]
    fn any_instant_can_be_shown_and_shows_the_instant(at: i64, offset: i32, near in -1_i64 << 57..1 << 57) {
        let _ = format_local(FixedZone(offset), at);
        // chrono knows no seconds in an offset.
        let minutes = offset % 900 * 60;
        if (-62_135_596_800_000_000..253_370_764_800_000_000).contains(&near) {
            let shown = format_local(FixedZone(minutes), near);
            let read = chrono::DateTime::parse_from_rfc3339(&shown).unwrap();
            prop_assert_eq!(read.timestamp_micros(), near);
            prop_assert_eq!(read.offset().local_minus_utc(), minutes);
        }
    }
}
