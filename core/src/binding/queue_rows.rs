//! What the rows of a table with queues say, and what a queue is when several of them name it.

use crate::Invalid;
use crate::invalid::quoted;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A queue's status where no predicate holds.
pub const ACTIVE: &str = "active";

/// The status of a queue that no row names any more.
const GONE: &str = "disabled";

const DAYS: [&str; 8] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The texts of a row that is one slot, `None` where they are NULL or no option names the column.
#[derive(Clone, Debug, Default)]
pub struct SlotTexts {
    /// `HH:MM`, with or without seconds of zero.
    pub time: Option<String>,
    /// Hour of the day.
    pub hour: Option<String>,
    /// Minute of the hour.
    pub minute: Option<String>,
    /// Days: a timetable's key, numbers from 0 (Sunday) to 7 (Sunday), or an array of these.
    pub days: Option<String>,
    /// Seats.
    pub capacity: Option<String>,
    /// The application's own slot id.
    pub slot_ref: Option<String>,
}

/// The timetable in a column: JSON text. What has no time in it is free-form, as NULL is: an application whose user has
/// taken the last time off its list must be able to store that.
pub fn timetable_of_text(text: &str) -> Result<Value, Invalid> {
    let json: Value = serde_json::from_str(text).map_err(|problem| {
        Invalid::new("timetable", format!("is no JSON: {problem}"))
            .with_hint(r#"such as {"mon-fri": ["09:00"]} or [{"time": 540}]"#)
    })?;
    Ok(match json {
        Value::Null => json!({}),
        Value::Array(times) if times.is_empty() => json!({}),
        json => json,
    })
}

/// The slot of a row, as JSON; null for a row without a time, which is no slot.
pub fn slot_of_texts(texts: &SlotTexts) -> Result<Value, Invalid> {
    let minute = match (&texts.time, &texts.hour) {
        (Some(time), _) => Some(time_of_text(time)?),
        (None, Some(hour)) => {
            let hour = number("hour", hour, 0, 23)?;
            let minute = texts
                .minute
                .as_deref()
                .map_or(Ok(0), |text| number("minute", text, 0, 59))?;
            Some(hour * 60 + minute)
        }
        (None, None) => None,
    };
    let Some(minute) = minute else {
        return Ok(Value::Null);
    };
    let mut slot = Map::new();
    slot.insert(
        "time".to_owned(),
        json!(format!("{:02}:{:02}", minute / 60, minute % 60)),
    );
    if let Some(days) = &texts.days {
        slot.insert("days".to_owned(), json!(days_of_text(days)?));
    }
    if let Some(capacity) = &texts.capacity {
        slot.insert("capacity".to_owned(), json!(number("capacity", capacity, 1, 1_000)?));
    }
    if let Some(slot_ref) = &texts.slot_ref {
        slot.insert("ref".to_owned(), json!(slot_ref));
    }
    Ok(Value::Object(slot))
}

/// `6:00`, `06:00`, `06:00:00`: what `time` columns and people write.
fn time_of_text(text: &str) -> Result<u16, Invalid> {
    let refused = || {
        Invalid::new("time", format!("is {}, which is no time of the day", quoted(text)))
            .with_hint("times are whole minutes, HH:MM, from 00:00 to 23:59")
    };
    let mut parts = text.trim().splitn(3, ':');
    let mut part = |most: u16| {
        let digits = parts.next().filter(|digits| (1..=2).contains(&digits.len()))?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain
            .then(|| digits.parse::<u16>().ok())
            .flatten()
            .filter(|&n| n <= most)
    };
    let (Some(hour), Some(minute)) = (part(23), part(59)) else {
        return Err(refused());
    };
    let seconds = parts.next().unwrap_or("00");
    let none = seconds.starts_with("00") && seconds.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if none { Ok(hour * 60 + minute) } else { Err(refused()) }
}

fn number(path: &str, text: &str, least: u16, most: u16) -> Result<u16, Invalid> {
    let parsed = text.trim().parse::<u16>().ok();
    parsed.filter(|n| (least..=most).contains(n)).ok_or_else(|| {
        Invalid::new(
            path,
            format!("is {}, not a whole number from {least} to {most}", quoted(text)),
        )
    })
}

/// The key of a timetable that names the days of a row.
fn days_of_text(text: &str) -> Result<String, Invalid> {
    let inner = text.trim().trim_start_matches(['{', '[']).trim_end_matches(['}', ']']);
    let names: Vec<&str> = inner
        .split(',')
        .map(|part| {
            let part = part.trim().trim_matches('"');
            part.parse::<usize>()
                .ok()
                .and_then(|n| DAYS.get(n).copied())
                .unwrap_or(part)
        })
        .collect();
    let key = names.join(",");
    match crate::timetable::are_days(&key) {
        true => Ok(key),
        false => Err(
            Invalid::new("days", format!("is {}, which names no days", quoted(text)))
                .with_hint("such as mon-fri, sat,sun, daily, or numbers from 0 (Sunday) to 6"),
        ),
    }
}

/// What one row says of its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSays {
    /// Name of a zone.
    pub time_zone: String,
    /// A timetable, or a slot of one.
    pub rule: Value,
    /// The first status whose predicate holds, or active.
    pub status: String,
}

/// What a queue is to be; `None`: it stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSays {
    /// Name of a zone.
    pub time_zone: Option<String>,
    /// In any form.
    pub timetable: Option<Value>,
    /// A queue's status.
    pub status: String,
    /// No row names it any more.
    pub is_gone: bool,
}

/// Why rows cannot be one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// So many rows, each with a timetable of its own.
    Twice(usize),
    /// Slots of one queue in two zones.
    Zones(String, String),
}

/// A queue whose timetable, and all else, is in one row.
pub fn queue_of_row(rows: &[RowSays]) -> Result<QueueSays, Disagreement> {
    match rows {
        // Its contents keep their seats, which are seats of the timetable that it had.
        [] => Ok(gone(None)),
        [row] => Ok(QueueSays {
            time_zone: Some(row.time_zone.clone()),
            timetable: Some(row.rule.clone()),
            status: row.status.clone(),
            is_gone: false,
        }),
        more => Err(Disagreement::Twice(more.len())),
    }
}

/// A queue each of whose slots is a row. Rows that are not active take no part, unless all are like that: then the queue
/// has their status, and the timetable waits for better times.
pub fn queue_of_slots(rows: &[RowSays]) -> Result<QueueSays, Disagreement> {
    let Some(first) = rows.first() else {
        // The ids of its slots are ids of rows that are gone.
        return Ok(gone(Some(json!({}))));
    };
    if let Some(other) = rows.iter().find(|row| row.time_zone != first.time_zone) {
        return Err(Disagreement::Zones(first.time_zone.clone(), other.time_zone.clone()));
    }
    let active: Vec<&RowSays> = rows.iter().filter(|row| row.status == ACTIVE).collect();
    let (status, rows) = if active.is_empty() {
        let rank = |row: &&RowSays| super::queues::STATUSES.iter().position(|&status| status == row.status);
        let worst = rows.iter().min_by_key(rank).map_or(ACTIVE, |row| row.status.as_str());
        (worst, rows.iter().collect())
    } else {
        (ACTIVE, active)
    };
    Ok(QueueSays {
        time_zone: Some(first.time_zone.clone()),
        timetable: Some(timetable_of_slots(rows.iter().map(|row| &row.rule))),
        status: status.to_owned(),
        is_gone: false,
    })
}

fn gone(timetable: Option<Value>) -> QueueSays {
    QueueSays {
        time_zone: None,
        timetable,
        status: GONE.to_owned(),
        is_gone: true,
    }
}

/// The timetable of slots as [`slot_of_texts`] makes them, in whatever order they come. Slots of equal days and time are
/// one, with the larger capacity and the lesser ref.
fn timetable_of_slots<'a>(slots: impl Iterator<Item = &'a Value>) -> Value {
    let mut days: BTreeMap<&str, BTreeMap<&str, (u64, Option<&str>)>> = BTreeMap::new();
    for slot in slots {
        let text = |key: &str| slot.get(key).and_then(Value::as_str);
        let Some(time) = text("time") else { continue };
        let capacity = slot.get("capacity").and_then(Value::as_u64).unwrap_or(1);
        let slot_ref = text("ref");
        days.entry(text("days").unwrap_or("daily"))
            .or_default()
            .entry(time)
            .and_modify(|(most, least)| {
                *most = capacity.max(*most);
                *least = [*least, slot_ref].into_iter().flatten().min();
            })
            .or_insert((capacity, slot_ref));
    }
    let list = |times: BTreeMap<&str, (u64, Option<&str>)>| -> Vec<Value> {
        times
            .into_iter()
            .map(|(time, (capacity, slot_ref))| match (capacity, slot_ref) {
                (1, None) => json!(time),
                (1, Some(slot_ref)) => json!({"time": time, "ref": slot_ref}),
                (_, None) => json!({"time": time, "capacity": capacity}),
                (_, Some(slot_ref)) => json!({"time": time, "capacity": capacity, "ref": slot_ref}),
            })
            .collect()
    };
    Value::Object(
        days.into_iter()
            .map(|(key, times)| (key.to_owned(), list(times).into()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(zone: &str, rule: Value, status: &str) -> RowSays {
        RowSays {
            time_zone: zone.to_owned(),
            rule,
            status: status.to_owned(),
        }
    }

    fn slot(hour: &str, minute: &str) -> SlotTexts {
        SlotTexts {
            hour: Some(hour.to_owned()),
            minute: Some(minute.to_owned()),
            ..SlotTexts::default()
        }
    }

    #[test]
    fn a_column_without_times_is_free_form() {
        for text in ["null", "[]", "{}", " [ ] "] {
            assert_eq!(timetable_of_text(text).unwrap(), json!({}), "{text}");
        }
        assert_eq!(timetable_of_text(r#"[{"time":560}]"#).unwrap(), json!([{"time": 560}]));
        assert_eq!(timetable_of_text("[{").unwrap_err().path, "timetable");
        assert_eq!(timetable_of_text("").unwrap_err().path, "timetable");
    }

    #[test]
    fn a_row_is_a_slot() {
        assert_eq!(slot_of_texts(&slot("6", "0")).unwrap(), json!({"time": "06:00"}));
        let full = SlotTexts {
            time: Some("18:30:00".to_owned()),
            days: Some("{1,2,\"fri\"}".to_owned()),
            capacity: Some("2".to_owned()),
            slot_ref: Some("s-1".to_owned()),
            ..SlotTexts::default()
        };
        assert_eq!(
            slot_of_texts(&full).unwrap(),
            json!({"time": "18:30", "days": "mon,tue,fri", "capacity": 2, "ref": "s-1"})
        );
        let without_time = SlotTexts {
            minute: Some("5".to_owned()),
            ..SlotTexts::default()
        };
        assert_eq!(slot_of_texts(&without_time).unwrap(), Value::Null);
        assert_eq!(days_of_text("0").unwrap(), "sun");
        assert_eq!(days_of_text("[7, 6]").unwrap(), "sun,sat");
        assert_eq!(days_of_text("Mon-Fri").unwrap(), "Mon-Fri");
    }

    #[test]
    fn what_is_no_slot_is_named() {
        let path = |texts: SlotTexts| slot_of_texts(&texts).unwrap_err().path;
        assert_eq!(path(slot("24", "0")), "hour");
        assert_eq!(path(slot("-1", "0")), "hour");
        assert_eq!(path(slot("6", "60")), "minute");
        for time in ["6", "24:00", "06:60", "06:00:30", "06:00:00+07", "006:00", "noon", ""] {
            let texts = SlotTexts {
                time: Some(time.to_owned()),
                ..SlotTexts::default()
            };
            assert_eq!(path(texts), "time", "{time}");
        }
        for (days, capacity, wrong) in [("8", "1", "days"), ("", "1", "days"), ("mon", "0", "capacity")] {
            let texts = SlotTexts {
                days: Some(days.to_owned()),
                capacity: Some(capacity.to_owned()),
                ..slot("6", "0")
            };
            assert_eq!(path(texts), wrong);
        }
    }

    #[test]
    fn slots_of_one_queue_are_one_timetable() {
        let one = json!({"time": "06:00", "ref": "b"});
        let same = json!({"time": "06:00", "capacity": 2, "ref": "a"});
        let other = json!({"time": "02:00", "days": "mon"});
        let rows = [one, same, other, Value::Null].map(|rule| row("WIB", rule, ACTIVE));
        let says = queue_of_slots(&rows).unwrap();
        assert_eq!(
            says.timetable.unwrap(),
            json!({"daily": [{"time": "06:00", "capacity": 2, "ref": "a"}], "mon": ["02:00"]})
        );
        assert_eq!(says.time_zone.unwrap(), "WIB");
        let mixed = [row("WIB", Value::Null, ACTIVE), row("UTC", Value::Null, ACTIVE)];
        assert_eq!(
            queue_of_slots(&mixed),
            Err(Disagreement::Zones("WIB".to_owned(), "UTC".to_owned()))
        );
    }

    #[test]
    fn slots_that_are_not_active_take_no_part_unless_all_are() {
        let (six, seven) = (json!({"time": "06:00"}), json!({"time": "07:00"}));
        let some = [row("UTC", six.clone(), "disabled"), row("UTC", seven.clone(), ACTIVE)];
        let says = queue_of_slots(&some).unwrap();
        assert_eq!(
            (says.status.as_str(), says.timetable),
            (ACTIVE, Some(json!({"daily": ["07:00"]})))
        );
        let none = [row("UTC", six, "paused"), row("UTC", seven, "disabled")];
        let says = queue_of_slots(&none).unwrap();
        assert_eq!(says.status, "disabled");
        assert_eq!(says.timetable, Some(json!({"daily": ["06:00", "07:00"]})));
    }

    #[test]
    fn a_queue_without_rows_is_disabled() {
        let says = queue_of_row(&[]).unwrap();
        assert_eq!((says.timetable, says.status.as_str(), says.is_gone), (None, GONE, true));
        assert_eq!(queue_of_slots(&[]).unwrap().timetable, Some(json!({})));
        let twice = [row("UTC", json!({}), ACTIVE), row("UTC", json!({}), ACTIVE)];
        assert_eq!(queue_of_row(&twice), Err(Disagreement::Twice(2)));
    }
}
