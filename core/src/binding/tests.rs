use super::*;
use serde_json::json;

fn minimal() -> Value {
    json!({"content_id": "id", "profile_id": "integrationId", "at": "publishDate"})
}

fn with(key: &str, value: Value) -> Value {
    let mut options = minimal();
    options[key] = value;
    options
}

#[test]
fn what_is_left_out_has_its_default() {
    let options = TableOptions::parse(&minimal()).unwrap();
    assert_eq!(options.profile_id, From::Column("integrationId".to_owned()));
    assert_eq!(
        (options.platform, options.user_id, options.occupies),
        (None, None, None)
    );
    assert_eq!(
        (options.on_conflict, options.at_null),
        (OnConflict::NextSlot, AtNull::Ignore)
    );
    assert_eq!(options.now_within, 120 * MICROS_PER_SEC);
}

#[test]
fn a_postiz_like_binding_is_read_whole() {
    let options = TableOptions::parse(&json!({
        "content_id": "id", "profile_id": "integrationId", "platform": {"value": "x"}, "at": "publishDate",
        "at_zone": "UTC", "occupies": "state = 'QUEUE'",
        "exempt": {"draft": "state = 'DRAFT'", "child": "\"parentPostId\" IS NOT NULL"},
        "published_when": "state = 'PUBLISHED'", "group": "group", "on_conflict": "next_free", "at_null": "assign",
        "now_within": "0 minutes",
        "states": {"published": {"state": "PUBLISHED", "releaseURL": "$url", "error": null}, "failed": {"error": "$error", "tries": 3}},
        "queue_defaults": {"time_zone": "Asia/Jakarta", "timetable": {"daily": ["09:00"]}}
    }))
    .unwrap();
    assert_eq!(options.platform, Some(From::Value("x".to_owned())));
    assert_eq!(options.exempt.len(), 2);
    assert_eq!(options.now_within, 0);
    let published = options.state("published").unwrap();
    assert_eq!(published["releaseURL"], StateValue::Variable(Variable::Url));
    assert_eq!(published["error"], StateValue::Null);
    assert_eq!(
        options.state("failed").unwrap()["tries"],
        StateValue::Literal("3".to_owned())
    );
    assert_eq!(options.queue_defaults.unwrap().time_zone, "Asia/Jakarta");
}

#[test]
fn states_leave_alone_which_content_and_queue_it_is() {
    let refused = |state: &str, columns: Value| {
        let options = TableOptions::parse(&with("states", json!({ state: columns }))).unwrap();
        options.check_states().err().map(|invalid| invalid.path)
    };
    for (state, columns) in [
        ("failed", json!({"id": "7"})),
        ("scheduled", json!({"integrationId": null})),
    ] {
        let column = columns.as_object().unwrap().keys().next().unwrap().clone();
        assert_eq!(
            refused(state, columns),
            Some(format!("p_options.states.{state}.{column}"))
        );
    }
    assert_eq!(refused("unscheduled", json!({"publishDate": null})), None);
    assert_eq!(refused("scheduled", json!({"publishDate": "$scheduled_at"})), None);
    assert_eq!(refused("retrying", json!({"publishDate": "$next_attempt_at"})), None);
    assert_eq!(refused("failed", json!({"error": "$error"})), None);
}

#[test]
fn whatever_is_wrong_is_named_by_its_path() {
    for (key, value, path) in [
        ("content_id", json!(null), "p_options.content_id"),
        ("at", json!(7), "p_options.at"),
        ("at", json!(" "), "p_options.at"),
        ("at", json!("a\0b"), "p_options.at"),
        ("profile_id", json!({"valu": "x"}), "p_options.profile_id"),
        ("platform", json!({"value": 7}), "p_options.platform"),
        ("exempt", json!(["a"]), "p_options.exempt"),
        ("exempt", json!({"draft": 1}), "p_options.exempt.draft"),
        ("exempt", json!({"": "true"}), "p_options.exempt.\"\""),
        ("on_conflict", json!("next"), "p_options.on_conflict"),
        ("now_within", json!("-1 minute"), "p_options.now_within"),
        ("now_within", json!("2 days"), "p_options.now_within"),
        ("states", json!({"posted": {}}), "p_options.states.posted"),
        (
            "states",
            json!({"failed": {"error": "$eror"}}),
            "p_options.states.failed.error",
        ),
        (
            "queue_defaults",
            json!({"zone": "UTC"}),
            "p_options.queue_defaults.zone",
        ),
        ("occupy", json!("true"), "p_options.occupy"),
    ] {
        let invalid = TableOptions::parse(&with(key, value.clone())).unwrap_err();
        assert_eq!(invalid.path, path, "{key}: {value}");
    }
    assert_eq!(TableOptions::parse(&json!([])).unwrap_err().path, "p_options");
}

#[test]
fn queues_come_from_columns_or_from_rows_of_slots() {
    let postiz = QueueSource::parse(&json!({
        "profile_id": "id", "platform": "providerIdentifier", "timetable": "postingTimes",
        "status": {"disabled": "disabled", "needs_refresh": "\"refreshNeeded\""}
    }))
    .unwrap();
    assert_eq!(
        postiz.timetable,
        Some(TimetableSource::Column("postingTimes".to_owned()))
    );
    assert_eq!(postiz.time_zone, From::Value("UTC".to_owned()));
    assert_eq!(postiz.status[0].0, "disabled");
    let rows = QueueSource::parse(&json!({
        "profile_id": "profile_id", "platform": "platform", "time_zone": {"value": "WIB"},
        "timetable": {"hour": "hour", "minute": "minute", "ref": "id"}
    }))
    .unwrap();
    assert!(matches!(
        rows.timetable,
        Some(TimetableSource::Rows(SlotColumns { hour: Some(_), .. }))
    ));
    for (timetable, path) in [
        (json!({"ref": "id"}), "p_options.timetable"),
        (json!({"time": "t", "hour": "h"}), "p_options.timetable"),
        (json!({"time": "t", "day": "d"}), "p_options.timetable.day"),
        (json!(7), "p_options.timetable"),
    ] {
        let options = json!({"profile_id": "p", "platform": "q", "timetable": timetable});
        assert_eq!(QueueSource::parse(&options).unwrap_err().path, path);
    }
}
