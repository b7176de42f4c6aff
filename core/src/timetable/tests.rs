//! What a timetable accepts and what it says about the rest.

use serde_json::{Value, json};

use super::*;

fn parsed(json: Value) -> Timetable {
    Timetable::parse(&json, 60).unwrap()
}

/// The times of a weekday with their capacities and refs.
fn day(timetable: &Timetable, weekday: usize) -> Vec<(String, u16, Option<&str>)> {
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    timetable
        .rules_of(weekday)
        .iter()
        .map(|rule| (time(rule.minute), rule.capacity, rule.slot_ref.as_deref()))
        .collect()
}

fn times(timetable: &Timetable, weekday: usize) -> Vec<String> {
    day(timetable, weekday).into_iter().map(|(time, ..)| time).collect()
}

fn refused(json: Value) -> Invalid {
    refused_under(json, 60)
}

fn refused_under(json: Value, granule_secs: i64) -> Invalid {
    Timetable::parse(&json, granule_secs).unwrap_err()
}

#[test]
fn times_are_plain_or_have_a_capacity_and_a_ref() {
    let timetable = parsed(json!({
        "Mon-Fri": ["17:30", {"time": "09:00", "capacity": 2, "ref": "morning"}],
        "sunday": [{"time": "00:00"}, "23:59"],
    }));
    assert_eq!(timetable.clock(), Clock::Local);
    assert_eq!(
        day(&timetable, 0),
        [("09:00".into(), 2, Some("morning")), ("17:30".into(), 1, None)]
    );
    assert_eq!(times(&timetable, 4), ["09:00", "17:30"]);
    assert!(timetable.rules_of(5).is_empty());
    assert_eq!(times(&timetable, 6), ["00:00", "23:59"]);
    assert!(timetable.rules_of(7).is_empty());
}

#[test]
fn keys_that_cover_one_day_unite_and_one_time_is_one_slot() {
    let timetable = parsed(json!({
        "daily": ["09:00", {"time": "12:00", "capacity": 3, "ref": "noon"}],
        "mon": ["08:00", {"time": "12:00", "capacity": 5, "ref": "later key"}],
        "sat": [{"time": "09:00", "ref": "weekend"}],
    }));
    assert_eq!(
        day(&timetable, 0),
        [
            ("08:00".into(), 1, None),
            ("09:00".into(), 1, None),
            ("12:00".into(), 5, Some("noon"))
        ]
    );
    assert_eq!(
        day(&timetable, 5),
        [("09:00".into(), 1, Some("weekend")), ("12:00".into(), 3, Some("noon"))]
    );
}

#[test]
fn days_with_equal_times_share_them() {
    let timetable = parsed(json!({"every": "1 minute"}));
    assert_eq!(timetable.rules_of(3).len(), 1440);
    assert!(std::ptr::eq(timetable.rules_of(0), timetable.rules_of(6)));
}

#[test]
fn an_interval_restarts_daily_at_from_and_includes_to() {
    let timetable =
        parsed(json!({"every": "30 minutes", "from": "08:00", "to": "09:30", "days": "mon-fri", "capacity": 4}));
    assert_eq!(times(&timetable, 0), ["08:00", "08:30", "09:00", "09:30"]);
    assert_eq!(timetable.rules_of(0)[0].capacity, 4);
    assert!(timetable.rules_of(5).is_empty());

    assert_eq!(
        times(&parsed(json!({"every": "7 hours"})), 6),
        ["00:00", "07:00", "14:00", "21:00"]
    );
    assert_eq!(
        times(&parsed(json!({"every": "12 hours", "to": "24:00"})), 0),
        ["00:00", "12:00"]
    );
    assert_eq!(times(&parsed(json!({"every": "1 day", "from": "06:00"})), 0), ["06:00"]);
    assert_eq!(
        times(&parsed(json!({"every": "1 hour", "from": "06:00", "to": "06:00"})), 0),
        ["06:00"]
    );
}

#[test]
fn postiz_minutes_wrap_into_the_utc_day() {
    let timetable = parsed(
        json!([{"time": 1500}, {"time": -60}, {"time": 0}, {"time": 1380}, {"time": i64::MIN}, {"time": u64::MAX}]),
    );
    assert_eq!(timetable.clock(), Clock::Utc);
    let wrapped = |minutes: i128| minutes.rem_euclid(1440) as u16;
    let mut expected = vec![0, 60, 1380, wrapped(i64::MIN.into()), wrapped(u64::MAX.into())];
    expected.sort_unstable();
    for weekday in 0..7 {
        let minutes: Vec<u16> = timetable.rules_of(weekday).iter().map(|rule| rule.minute).collect();
        assert_eq!(minutes, expected);
    }
}

#[test]
fn only_the_empty_object_is_free_form() {
    assert!(parsed(json!({})).is_free_form());
    for json in [json!([]), json!({"mon": []}), json!({"mon": [], "tue-sun": []})] {
        assert_eq!(refused(json).problem, "has no slot");
    }
    let one = parsed(json!({"mon": [], "tue": ["09:00"]}));
    assert!(!one.is_free_form() && one.rules_of(0).is_empty());
}

#[test]
fn a_refusal_names_the_place() {
    for (json, path) in [
        (json!(null), "timetable"),
        (json!("mon"), "timetable"),
        (json!(5), "timetable"),
        (json!({"montag": ["09:00"]}), "timetable.montag"),
        (json!({"mon fri": ["09:00"]}), "timetable.\"mon fri\""),
        (json!({"": ["09:00"]}), "timetable.\"\""),
        (json!({"from": "09:00"}), "timetable.from"),
        (json!({"mon": "09:00"}), "timetable.mon"),
        (json!({"mon": {}}), "timetable.mon"),
        (json!({"mon": null}), "timetable.mon"),
        (json!({"mon-fri": ["09:00", 540]}), "timetable.mon-fri[1]"),
        (json!({"mon": ["9:00"]}), "timetable.mon[0]"),
        (json!({"mon": ["09:00:00"]}), "timetable.mon[0]"),
        (json!({"mon": ["24:00"]}), "timetable.mon[0]"),
        (json!({"mon": ["24:01"]}), "timetable.mon[0]"),
        (json!({"mon": ["12:60"]}), "timetable.mon[0]"),
        (json!({"mon": ["+9:00"]}), "timetable.mon[0]"),
        (json!({"mon": [" 09:00"]}), "timetable.mon[0]"),
        (json!({"mon": ["٠٩:٠٠"]}), "timetable.mon[0]"),
        (json!({"mon": ["09:00", {"capacity": 2}]}), "timetable.mon[1]"),
        (json!({"mon": [{"time": 540}]}), "timetable.mon[0].time"),
        (
            json!({"mon": [{"time": "09:00", "seats": 2}]}),
            "timetable.mon[0].seats",
        ),
        (
            json!({"mon": [{"time": "09:00", "capacity": 0}]}),
            "timetable.mon[0].capacity",
        ),
        (
            json!({"mon": [{"time": "09:00", "capacity": 1001}]}),
            "timetable.mon[0].capacity",
        ),
        (
            json!({"mon": [{"time": "09:00", "capacity": 2.5}]}),
            "timetable.mon[0].capacity",
        ),
        (
            json!({"mon": [{"time": "09:00", "capacity": -1}]}),
            "timetable.mon[0].capacity",
        ),
        (
            json!({"mon": [{"time": "09:00", "capacity": "2"}]}),
            "timetable.mon[0].capacity",
        ),
        (json!({"mon": [{"time": "09:00", "ref": ""}]}), "timetable.mon[0].ref"),
        (json!({"mon": [{"time": "09:00", "ref": 5}]}), "timetable.mon[0].ref"),
        (
            json!({"mon": [{"time": "09:00", "ref": "r".repeat(256)}]}),
            "timetable.mon[0].ref",
        ),
        (
            json!({"mon": ["09:00", "10:00", {"time": "09:00"}]}),
            "timetable.mon[2]",
        ),
        (json!({"mon": vec!["09:00"; 1441]}), "timetable.mon"),
        (json!({"every": 30}), "timetable.every"),
        (json!({"every": null}), "timetable.every"),
        (json!({"every": "30 seconds"}), "timetable.every"),
        (json!({"every": "90 seconds"}), "timetable.every"),
        (json!({"every": "25 hours"}), "timetable.every"),
        (json!({"every": "1 month"}), "timetable.every"),
        (json!({"every": "1 hour", "until": "22:00"}), "timetable.until"),
        (json!({"every": "1 hour", "mon": ["09:00"]}), "timetable.mon"),
        (json!({"every": "1 hour", "from": "24:00"}), "timetable.from"),
        (
            json!({"every": "1 hour", "from": "22:00", "to": "08:00"}),
            "timetable.to",
        ),
        (json!({"every": "1 hour", "to": 22}), "timetable.to"),
        (json!({"every": "1 hour", "days": "never"}), "timetable.days"),
        (json!({"every": "1 hour", "days": ["mon"]}), "timetable.days"),
        (json!({"every": "1 hour", "capacity": 0}), "timetable.capacity"),
        (json!([540]), "timetable[0]"),
        (json!(["09:00"]), "timetable[0]"),
        (json!([{"time": 1}, {}]), "timetable[1]"),
        (
            json!([{"time": 1}, {"time": 2}, {"time": 3}, {"time": "4"}]),
            "timetable[3].time",
        ),
        (json!([{"time": 60.5}]), "timetable[0].time"),
        (json!([{"time": 60, "days": "mon"}]), "timetable[0].days"),
    ] {
        assert_eq!(refused(json.clone()).path, path, "{json}");
    }
    assert!(
        parsed(json!({"mon": [{"time": "09:00", "ref": "ü".repeat(255), "capacity": 1000}]}))
            .rules_of(0)
            .len()
            == 1
    );
}

#[test]
fn slots_closer_than_the_granule_are_refused_around_the_week_too() {
    let close = refused_under(json!({"mon": ["08:00", "08:04"]}), 300);
    assert_eq!(
        close.problem,
        "mon 08:00 and mon 08:04 are 4 minutes apart, closer than the granule of 300 seconds"
    );
    assert!(Timetable::parse(&json!({"mon": ["08:00", "08:05"]}), 300).is_ok());
    assert!(
        refused_under(json!({"mon": ["23:58"], "tue": ["00:02"]}), 300)
            .problem
            .contains("tue 00:02")
    );
    assert!(
        refused_under(json!({"sun": ["23:50"], "mon": ["00:00"]}), 900)
            .problem
            .starts_with("sun 23:50 and mon 00:00")
    );
    assert!(Timetable::parse(&json!({"sun": ["23:45"], "mon": ["00:00"]}), 900).is_ok());
    assert!(
        refused_under(json!([{"time": 0}, {"time": -10}]), 900)
            .problem
            .contains("10 minutes apart")
    );
    assert!(Timetable::parse(&json!({"mon": ["08:00"]}), 900).is_ok());
}
