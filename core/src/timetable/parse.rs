//! The forms of a timetable in JSON.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::days::{self, Days};
use super::{Clock, DAYS_PER_WEEK, Rule, Timetable, minute_of};
use crate::invalid::{Invalid, element, integer, kind_of, member, quoted};
use crate::span::Span;
use crate::{MICROS_PER_SEC, MINUTES_PER_DAY};

const ROOT: &str = "timetable";
const MAX_CAPACITY: u16 = 1_000;
const MAX_REF_CHARS: usize = 255;

const FORMS: &str = r#"such as {"mon-fri": ["09:00", "17:30"]}, {"every": "30 minutes", "from": "08:00", "to": "22:00"}, or {} for free-form only"#;

type Object = Map<String, Value>;
type Week = [Vec<Rule>; DAYS_PER_WEEK];

pub(super) fn timetable(json: &Value) -> Result<Timetable, Invalid> {
    let (clock, week) = match json {
        Value::Object(object) if object.is_empty() => return Ok(Timetable::new(Clock::Local, Week::default())),
        Value::Object(object) if object.contains_key("every") => (Clock::Local, interval(object)?),
        Value::Object(object) => (Clock::Local, weekly(object)?),
        Value::Array(times) => (Clock::Utc, utc_minutes(times)?),
        other => {
            let problem = format!("must be an object or an array, not {}", kind_of(other));
            return Err(Invalid::new(ROOT, problem).with_hint(FORMS));
        }
    };
    if week.iter().all(Vec::is_empty) {
        return Err(Invalid::new(ROOT, "has no slot").with_hint("give it a time, or use {} for free-form only"));
    }
    Ok(Timetable::new(clock, week))
}

/// `{"mon-fri": ["09:00", {"time": "17:30", "capacity": 2, "ref": "evening"}], …}`
fn weekly(object: &Object) -> Result<Week, Invalid> {
    let mut week = Week::default();
    for (key, list) in object {
        let path = member(ROOT, key);
        let days = Days::parse(key).ok_or_else(|| {
            let hint = format!("{}; an interval needs the key every", days::HINT);
            Invalid::new(&path, "is not a day").with_hint(hint)
        })?;
        let rules = day_rules(list, &path)?;
        for day in days.iter() {
            if let Some(day_rules) = week.get_mut(day) {
                day_rules.extend(rules.iter().cloned());
            }
        }
    }
    Ok(week)
}

fn day_rules(list: &Value, path: &str) -> Result<Vec<Rule>, Invalid> {
    let Value::Array(items) = list else {
        let problem = format!("must be a list of times, not {}", kind_of(list));
        return Err(Invalid::new(path, problem).with_hint(r#"such as ["09:00", "17:30"]"#));
    };
    check_length(items, path)?;
    let mut seen = [false; MINUTES_PER_DAY as usize];
    let mut rules = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = element(path, index);
        let rule = rule(item, &path)?;
        if let Some(seen) = seen.get_mut(usize::from(rule.minute))
            && std::mem::replace(seen, true)
        {
            return Err(Invalid::new(path, "names the same time as an earlier item of the list")
                .with_hint("for more seats at one time give it a capacity"));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn rule(item: &Value, path: &str) -> Result<Rule, Invalid> {
    match item {
        Value::String(_) => Ok(Rule {
            minute: slot_time(item, path)?,
            capacity: 1,
            slot_ref: None,
        }),
        Value::Object(fields) => {
            check_keys(fields, path, &["time", "capacity", "ref"])?;
            let time = fields.get("time").ok_or_else(|| missing(path, "time"))?;
            Ok(Rule {
                minute: slot_time(time, &member(path, "time"))?,
                capacity: capacity(fields, path)?,
                slot_ref: slot_ref(fields, path)?,
            })
        }
        other => {
            let problem = format!("must be a time or an object, not {}", kind_of(other));
            Err(Invalid::new(path, problem).with_hint(r#"such as "09:00" or {"time": "09:00", "capacity": 2}"#))
        }
    }
}

/// `{"every": "30 minutes", "from": "08:00", "to": "22:00", "days": "mon-fri", "capacity": 1}`
fn interval(object: &Object) -> Result<Week, Invalid> {
    check_keys(object, ROOT, &["every", "from", "to", "days", "capacity"])?;
    let step = step(object)?;
    let from = match object.get("from") {
        None | Some(Value::Null) => 0,
        Some(from) => slot_time(from, &member(ROOT, "from"))?,
    };
    let to = match object.get("to") {
        None | Some(Value::Null) => MINUTES_PER_DAY,
        Some(to) => time(to, &member(ROOT, "to"))?,
    };
    if to < from {
        return Err(Invalid::new(member(ROOT, "to"), "lies before from")
            .with_hint("an interval does not cross midnight: list the days' times instead"));
    }
    let capacity = capacity(object, ROOT)?;
    // Midnight at the end is the next day's.
    let rules: Vec<Rule> = (from..=to.min(MINUTES_PER_DAY - 1))
        .step_by(usize::from(step))
        .map(|minute| Rule {
            minute,
            capacity,
            slot_ref: None,
        })
        .collect();
    let mut week = Week::default();
    for day in interval_days(object)?.iter() {
        if let Some(day_rules) = week.get_mut(day) {
            day_rules.clone_from(&rules);
        }
    }
    Ok(week)
}

fn interval_days(object: &Object) -> Result<Days, Invalid> {
    let named = match object.get("days") {
        None | Some(Value::Null) => return Ok(Days::DAILY),
        Some(days) => days,
    };
    named.as_str().and_then(Days::parse).ok_or_else(|| {
        let problem = match named {
            Value::String(text) => format!("is {}, which names no days", quoted(text)),
            other => format!("must be text, not {}", kind_of(other)),
        };
        Invalid::new(member(ROOT, "days"), problem).with_hint(days::HINT)
    })
}

/// The interval's length in minutes, 1 to 1440.
fn step(object: &Object) -> Result<u16, Invalid> {
    let every = object.get("every").unwrap_or(&Value::Null);
    every
        .as_str()
        .and_then(Span::parse)
        .and_then(|span| span.as_fixed_micros())
        .filter(|micros| micros % (60 * MICROS_PER_SEC) == 0)
        .and_then(|micros| u16::try_from(micros / (60 * MICROS_PER_SEC)).ok())
        .filter(|&minutes| minutes <= MINUTES_PER_DAY)
        .ok_or_else(|| {
            let problem = match every {
                Value::String(text) => format!("is {}, which is not whole minutes, one day at most", quoted(text)),
                other => format!("must be a length of time as text, not {}", kind_of(other)),
            };
            Invalid::new(member(ROOT, "every"), problem).with_hint(r#"such as "30 minutes" or "2 hours""#)
        })
}

/// Postiz's `[{"time": minutes}, …]`: minutes from UTC midnight, wrapped into the day. It is a copy of the
/// application's data and may hold one time twice; that is one slot.
fn utc_minutes(times: &[Value]) -> Result<Week, Invalid> {
    check_length(times, ROOT)?;
    let mut rules = Vec::with_capacity(times.len());
    for (index, item) in times.iter().enumerate() {
        let path = element(ROOT, index);
        let Value::Object(fields) = item else {
            let problem = format!("must be an object, not {}", kind_of(item));
            return Err(Invalid::new(path, problem).with_hint(
                r#"such as {"time": 540}, minutes from UTC midnight; local times go under days: {"daily": ["09:00"]}"#,
            ));
        };
        check_keys(fields, &path, &["time"])?;
        let time = fields.get("time").ok_or_else(|| missing(&path, "time"))?;
        let minute = wrapped_minute(time).ok_or_else(|| {
            Invalid::new(
                member(&path, "time"),
                format!("must be an integer, not {}", kind_of(time)),
            )
            .with_hint("minutes from UTC midnight")
        })?;
        rules.push(Rule {
            minute,
            capacity: 1,
            slot_ref: None,
        });
    }
    Ok(std::array::from_fn(|_| rules.clone()))
}

fn wrapped_minute(time: &Value) -> Option<u16> {
    let day = MINUTES_PER_DAY;
    u16::try_from(integer(time)?.rem_euclid(day.into())).ok()
}

fn capacity(fields: &Object, path: &str) -> Result<u16, Invalid> {
    let value = match fields.get("capacity") {
        None | Some(Value::Null) => return Ok(1),
        Some(value) => value,
    };
    integer(value)
        .and_then(|seats| u16::try_from(seats).ok())
        .filter(|seats| (1..=MAX_CAPACITY).contains(seats))
        .ok_or_else(|| {
            Invalid::new(
                member(path, "capacity"),
                format!("must be an integer from 1 to {MAX_CAPACITY}"),
            )
        })
}

fn slot_ref(fields: &Object, path: &str) -> Result<Option<Arc<str>>, Invalid> {
    match fields.get("ref") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (1..=MAX_REF_CHARS).contains(&text.chars().count()) => {
            Ok(Some(Arc::from(text.as_str())))
        }
        Some(_) => {
            let problem = format!("must be a string of 1 to {MAX_REF_CHARS} characters");
            Err(Invalid::new(member(path, "ref"), problem))
        }
    }
}

/// A time at which a slot may be: 00:00 to 23:59.
fn slot_time(value: &Value, path: &str) -> Result<u16, Invalid> {
    match time(value, path)? {
        MINUTES_PER_DAY => Err(Invalid::new(path, "is \"24:00\", which is not a time of the day")
            .with_hint("write 00:00 under the next day")),
        minute => Ok(minute),
    }
}

/// A time from 00:00 to 24:00.
fn time(value: &Value, path: &str) -> Result<u16, Invalid> {
    let problem = match value {
        Value::String(text) => match minute_of(text) {
            Some(minute) => return Ok(minute),
            None => format!("is {}, which is not a time", quoted(text)),
        },
        other => format!("must be a time as text, not {}", kind_of(other)),
    };
    Err(Invalid::new(path, problem).with_hint("times are HH:MM, from 00:00 to 23:59"))
}

fn missing(path: &str, key: &str) -> Invalid {
    Invalid::new(path, format!("lacks the key {key}"))
}

fn check_keys(fields: &Object, path: &str, known: &[&str]) -> Result<(), Invalid> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            Err(Invalid::new(member(path, key), "is not a key here")
                .with_hint(format!("known keys: {}", known.join(", "))))
        }
    }
}

/// A day has no more minutes; a longer list is not worth reading.
fn check_length(items: &[Value], path: &str) -> Result<(), Invalid> {
    if items.len() <= usize::from(MINUTES_PER_DAY) {
        return Ok(());
    }
    Err(Invalid::new(
        path,
        format!("has {} items; a day has {MINUTES_PER_DAY} minutes", items.len()),
    ))
}
